from pathlib import Path

import yaml

from waypost.local.kwok import HANDS_OFF, STAGES, Kwok


def test_the_stages_leave_alone_what_the_code_calls_hands_off() -> None:
    name, value = HANDS_OFF
    stages = {stage["metadata"]["name"]: stage["spec"] for stage in yaml.safe_load_all(STAGES.read_text())}

    for stage in ("pod-running", "pod-of-a-job-done"):
        rule = {"key": f'.metadata.annotations["{name}"]', "operator": "NotIn", "values": [value]}
        assert rule in stages[stage]["selector"]["matchExpressions"]
    # The pod itself still goes when it is deleted.
    assert all(name not in rule["key"] for rule in stages["pod-deleted"]["selector"]["matchExpressions"])


def test_a_lease_is_renewed_several_times_within_the_patience(tmp_path: Path) -> None:
    kwok = Kwok(kubeconfig=tmp_path / "k", port=1, node_monitor_grace_s=10)

    # kwok renews after a quarter of the duration.
    assert kwok.lease_duration_s / 4 * 5 <= kwok.node_monitor_grace_s
