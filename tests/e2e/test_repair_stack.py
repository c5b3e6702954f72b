"""`waypost up --repair`: both jobs beside each other, from a registration and an alert to an eviction, and after a
dead JobManager."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import eventually
from tests.model.repairs import an_alert
from tests.repair.fake_api_server import served
from waypost.local.state import load_stack
from waypost.metrics import Origin, register
from waypost.repair.fake import FakeCluster
from waypost.repair.objects import DEPLOYMENT
from waypost.repair.topic_log import write
from waypost.topics import ALERTS, default_topics
from waypost.wire.alerts import alert_key, encode_alert

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ACTING = """
version: "1"
policies:
  - name: pods
    match: {types: [PodCrash], namespaces: [shop]}
    steps: [{do: evict-pod}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 2
    cooldown_seconds: 10
"""


def test_an_alert_leads_to_one_eviction_and_both_jobs_survive_the_job_manager(
    waypost: Any, state_dir: Path, tmp_path: Path
) -> None:
    cluster = FakeCluster()
    cluster.add_node("n1")
    cluster.add_workload(DEPLOYMENT, "shop", "payments", replicas=3)
    cluster.add_service("shop", "payments", {"app": "payments"})
    pods = sorted(pod.name for pod in cluster.all_pods())
    with served(cluster) as api:
        up = waypost(
            "up", "--detach", "--repair", "--metrics", "--kubeconfig", str(api.kubeconfig(tmp_path)),
            "--state-dir", str(state_dir),
        )  # fmt: skip
        assert up.returncode == 0, up.stdout + up.stderr
        stack = load_stack(state_dir)
        policies = tmp_path / "policies.yaml"
        policies.write_text(ACTING)
        assert waypost("repair", "policies", str(policies), "--state-dir", str(state_dir)).returncode == 0
        log = LogWriter(stack.kafka_bootstrap)
        try:
            for n, pod in enumerate(pods):
                log.event(
                    "payments", op="register", namespace="shop", instance=pod, address=f"10.0.0.{n + 1}", port=80,
                    node="n1", lease_seconds=86_400,
                )  # fmt: skip
        finally:
            log.close()

        def alerted(pod: str) -> None:
            alert = an_alert(pod=pod, fingerprint=f"f-{pod}", starts_at=int(time.time() * 1000))
            for _ in range(3):
                write(stack.kafka_bootstrap, default_topics()[ALERTS].name, alert_key(alert), encode_alert(alert))

        def repaired() -> list[dict[str, Any]]:
            cluster.settle()
            shown = waypost("repair", "list", "-o", "json", "--state-dir", str(state_dir))
            assert shown.returncode == 0, shown.stderr
            return [one for one in json.loads(shown.stdout) if one["state"] == "succeeded"]

        def unseen() -> list[str]:
            """Return the metrics of the repair job that no TaskManager shows."""
            with httpx.Client(trust_env=False, timeout=60) as client:
                shown = "".join(client.get(url).text for url in stack.metrics.values())
            wanted = [name for m in register() if m.origin is Origin.REPAIR_JOB for name in m.exported]
            return [name for name in wanted if f"\n{name}{{" not in shown]

        alerted(pods[0])
        unwanted = an_alert(namespace="elsewhere", fingerprint="f-unwanted", starts_at=int(time.time() * 1000))
        write(stack.kafka_bootstrap, default_topics()[ALERTS].name, alert_key(unwanted), encode_alert(unwanted))
        eventually(lambda: len(repaired()) == 1)
        eventually(lambda: unseen() == [])
        assert api.requests.changed("/eviction") == 1
        assert api.requests.changed(f"/{pods[0]}/eviction") == 1
        status = json.loads(waypost("status", "-o", "json", "--state-dir", str(state_dir)).stdout)
        assert sorted(job["name"] for job in status["jobs"]) == ["waypost-repair", "waypost-route-table"]
        assert status["healthy"], status

        before = load_stack(state_dir)
        assert before.repair is not None
        checkpoints = state_dir / "checkpoints" / before.repair.name
        eventually(lambda: list(checkpoints.rglob("_metadata")))
        os.kill(before.parts["jobmanager"].pid, signal.SIGKILL)
        eventually(
            lambda: (now := load_stack(state_dir)).ready and now.parts["jobmanager"] != before.parts["jobmanager"]
        )

        alerted(pods[1])
        eventually(lambda: len(repaired()) == 2)
        assert api.requests.changed("/eviction") == 2
