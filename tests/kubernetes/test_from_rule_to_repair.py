"""From a rule in Prometheus to a repaired Deployment: all servers are real, and the job is killed on its way."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.conftest import Waypost
from tests.e2e.log_writer import LogWriter
from tests.e2e.monitoring import watching
from tests.e2e.tables import Tables, eventually
from tests.kubernetes.workloads import Namespace
from waypost.local.state import Stack, load_stack
from waypost.model.repair_action import Outcome
from waypost.repair.topic_log import read_since
from waypost.topics import REPAIR_ACTIONS, REPAIR_RESULTS, default_topics
from waypost.wire.repair_decisions import DecisionKind, DecisionRecord, decode_decision
from waypost.wire.repair_results import RepairResult, decode_result

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1200),
    # kafka-python leaves sockets open when it has to close in a hurry.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WITHIN_S = 400
"""Ten times what it takes when the TaskManagers die on the way."""
REPLICAS = 3
ACTING = """
version: "1"
policies:
  - name: crashes
    match: {types: [PodCrash], namespaces: [%s]}
    steps: [{do: restart}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 2
    cooldown_seconds: 600
"""


@dataclass
class Agents:
    """Speaks for the pods of a Deployment, as an agent beside each would."""

    room: Namespace
    app: str
    log: LogWriter
    known: dict[str, str] = field(default_factory=dict)

    def look(self) -> None:
        """Register who has become Ready, deregister who is gone."""
        now = {pod.metadata.name: pod for pod in self.room.ready_pods(self.app)}
        for name in self.known.keys() - now.keys():
            self._say(name, op="deregister")
            del self.known[name]
        for name in now.keys() - self.known.keys():
            pod = now[name]
            self._say(
                name, op="register", address=pod.status.pod_ip, port=8080, node=pod.spec.node_name,
                metadata={"pod": name}, lease_seconds=86_400,
            )  # fmt: skip
            self.known[name] = pod.metadata.uid

    def _say(self, instance: str, **fields: Any) -> None:
        self.log.event(self.app, namespace=self.room.name, instance=instance, **fields)


@dataclass(frozen=True)
class Told:
    """What the repair job has written."""

    stack: Stack

    def granted(self) -> list[DecisionRecord]:
        found = [decode_decision(value) for _, value in self._records(REPAIR_ACTIONS)]
        return [one for one in found if one.kind is DecisionKind.ACT]

    def results(self) -> list[RepairResult]:
        return [decode_result(value) for _, value in self._records(REPAIR_RESULTS)]

    def _records(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        return read_since(self.stack.kafka_bootstrap, default_topics()[topic].name, 0)


def test_a_rule_fires_and_its_deployment_is_restarted_once_though_the_job_is_killed(
    room: Namespace, bound: str, repair_account: Path, waypost: Waypost, state_dir: Path, tmp_path: Path
) -> None:
    before = {pod.metadata.uid for pod in room.deploy("web", replicas=REPLICAS)}
    generation = _generation(room)
    up = waypost("up", "--detach", "--repair", "--kubeconfig", str(repair_account), "--state-dir", str(state_dir))
    assert up.returncode == 0, up.stdout + up.stderr
    stack = load_stack(state_dir)
    told, tables, log = Told(stack), Tables(stack.redis_url), LogWriter(stack.kafka_bootstrap)
    agents = Agents(room, "web", log)
    policies = tmp_path / "policies.yaml"
    policies.write_text(ACTING % bound)
    assert waypost("repair", "policies", str(policies), "--state-dir", str(state_dir)).returncode == 0
    try:
        agents.look()
        eventually(lambda: _in_table(tables, bound) == set(agents.known), WITHIN_S)
        with watching(tmp_path, stack.kafka_bootstrap) as monitoring:
            # Without a pod: the whole Deployment is what crashes.
            monitoring.fire({"alertname": "KubePodCrashLooping", "namespace": bound, "service": "web"})
            eventually(told.granted, WITHIN_S)
            for name, process in load_stack(state_dir).parts.items():
                if name.startswith("taskmanager"):
                    os.kill(process.pid, signal.SIGKILL)

            def over() -> bool:
                agents.look()
                return bool(told.results()) and _in_table(tables, bound) == set(agents.known)

            eventually(over, WITHIN_S)
        assert len({one.action.id for one in told.granted() if one.action}) == 1
        assert {(one.id, one.outcome) for one in told.results()} == {
            (one.action.id, Outcome.SUCCEEDED) for one in told.granted() if one.action
        }
        assert _generation(room) == generation + 1, "one change of the Deployment"
        agents.look()
        assert len(agents.known) == REPLICAS
        assert not set(agents.known.values()) & before
        shown = waypost("repair", "list", "-o", "json", "--state-dir", str(state_dir))
        assert [one["state"] for one in json.loads(shown.stdout)] == ["succeeded"]
    finally:
        log.close()
        tables.close()


def _generation(room: Namespace) -> int:
    found: Any = client.AppsV1Api(room.api).read_namespaced_deployment("web", room.name)
    return int(found.metadata.generation)


def _in_table(tables: Tables, namespace: str) -> set[str]:
    return set(tables.redis.hkeys(f"waypost:v1:{{{namespace}/web}}:route"))
