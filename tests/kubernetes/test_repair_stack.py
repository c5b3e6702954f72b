"""`waypost up --repair` on a real Kubernetes: both jobs beside each other, from a rule in Prometheus or an alert in
Kafka to a repaired Deployment, and after dead TaskManagers and a dead JobManager. One stack for all of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client

from tests.conftest import Waypost
from tests.e2e.log_writer import LogWriter
from tests.e2e.monitoring import watching
from tests.e2e.tables import Tables
from tests.e2e.tables import eventually as within
from tests.kubernetes.workloads import Namespace
from tests.model.repairs import an_alert
from waypost.flink.snapshots import completed
from waypost.local.process import belonging_to
from waypost.local.state import Stack, load_stack
from waypost.metrics import Origin, register
from waypost.model.repair_action import Outcome
from waypost.repair.topic_log import read_since, write
from waypost.topics import ALERTS, REPAIR_ACTIONS, REPAIR_RESULTS, default_topics
from waypost.wire.alerts import alert_key, encode_alert
from waypost.wire.repair_decisions import DecisionKind, DecisionRecord, decode_decision
from waypost.wire.repair_results import RepairResult, decode_result

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    # kafka-python leaves sockets open when it has to close in a hurry.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WITHIN_S = 600
"""Ten times what the longest of these waits takes: until both jobs run again."""
REPLICAS = 3
POLICY = """
version: "1"
policies:
  - name: %s-crashes
    match: {types: [PodCrash], namespaces: [%s]}
    steps: [{do: %s}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 2
    cooldown_seconds: %d
"""


def eventually(condition: Any) -> Any:
    return within(condition, WITHIN_S)


@dataclass
class Agents:
    """Speaks for the pods of a Deployment, as an agent beside each would."""

    room: Namespace
    app: str
    log: LogWriter
    tables: Tables
    known: dict[str, str] = field(default_factory=dict)
    """Name of a pod → its uid."""

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

    def are_routed(self) -> bool:
        """Look, and tell whether the table has exactly these."""
        self.look()
        return len(self.known) == REPLICAS and self.tables.ids(self.app, self.room.name) == set(self.known)

    def _say(self, instance: str, **fields: Any) -> None:
        self.log.event(self.app, namespace=self.room.name, instance=instance, **fields)


@dataclass(frozen=True)
class Repairing:
    """A stack with both jobs, and what the repair job has written of a namespace."""

    state_dir: Path
    waypost: Waypost

    @property
    def stack(self) -> Stack:
        return load_stack(self.state_dir)

    def run(self, *arguments: str) -> str:
        done = self.waypost(*arguments, "--state-dir", str(self.state_dir))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.waypost("status", "-o", "json", "--state-dir", str(self.state_dir)).stdout))

    def acts_by(self, namespace: str, step: str, cooldown_s: int) -> None:
        """Have crashes in a namespace repaired by a step."""
        policies = self.state_dir.parent / "policies.yaml"
        policies.write_text(POLICY % (step, namespace, step, cooldown_s))
        self.run("repair", "policies", str(policies))

    def granted(self, namespace: str) -> set[str]:
        """Return the ids of the actions that may begin."""
        found: list[DecisionRecord] = [decode_decision(value) for value in self._values(REPAIR_ACTIONS)]
        acts = (one.action for one in found if one.kind is DecisionKind.ACT)
        return {act.id for act in acts if act and act.target.namespace == namespace}

    def results(self, namespace: str) -> set[tuple[str, Outcome]]:
        """Return how actions ended, by id; what is told twice is there once."""
        found: list[RepairResult] = [decode_result(value) for value in self._values(REPAIR_RESULTS)]
        return {(one.id, one.outcome) for one in found if one.target.namespace == namespace}

    def states(self, namespace: str) -> list[str]:
        """Return the states that `waypost repair list` shows."""
        shown = json.loads(self.run("repair", "list", "-o", "json"))
        return [one["state"] for one in shown if one["target"].startswith(f"{namespace}/")]

    def _values(self, topic: str) -> list[bytes | None]:
        return [value for _, value in read_since(self.stack.kafka_bootstrap, default_topics()[topic].name, 0)]


@pytest.fixture(scope="module")
def repairing(waypost: Waypost, repair_account: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repairing]:
    made = Repairing(tmp_path_factory.mktemp("repairing") / "state", waypost)
    try:
        made.run("up", "--detach", "--repair", "--metrics", "--kubeconfig", str(repair_account))
        yield made
    finally:
        waypost("down", "--purge", "--state-dir", str(made.state_dir))
    assert belonging_to(made.state_dir) == []


@pytest.fixture
def agents(repairing: Repairing, room: Namespace, bound: str) -> Iterator[Agents]:
    """Those of a Deployment `web`, which are in its table."""
    room.deploy("web", replicas=REPLICAS)
    log, tables = LogWriter(repairing.stack.kafka_bootstrap), Tables(repairing.stack.redis_url)
    try:
        made = Agents(room, "web", log, tables)
        eventually(made.are_routed)
        yield made
    finally:
        log.close()
        tables.close()


def test_a_rule_fires_and_its_deployment_is_restarted_once_though_the_job_is_killed(
    repairing: Repairing, agents: Agents, room: Namespace, tmp_path: Path
) -> None:
    before, generation = dict(agents.known), _generation(room)
    repairing.acts_by(room.name, "restart", cooldown_s=600)
    with watching(tmp_path, repairing.stack.kafka_bootstrap) as monitoring:
        # Without a pod: the whole Deployment is what crashes.
        monitoring.fire({"alertname": "KubePodCrashLooping", "namespace": room.name, "service": "web"})
        eventually(lambda: repairing.granted(room.name))
        for name, process in repairing.stack.parts.items():
            if name.startswith("taskmanager"):
                os.kill(process.pid, signal.SIGKILL)
        # In this order, or a rollout that is not over may be what was seen last.
        eventually(lambda: repairing.results(room.name) and agents.are_routed())
    [action] = repairing.granted(room.name)
    assert repairing.results(room.name) == {(action, Outcome.SUCCEEDED)}
    assert _generation(room) == generation + 1, "one change of the Deployment"
    assert not set(agents.known.values()) & set(before.values())
    assert repairing.states(room.name) == ["succeeded"]


def test_an_alert_leads_to_one_eviction_and_both_jobs_survive_the_job_manager(
    repairing: Repairing, agents: Agents, room: Namespace
) -> None:
    repairing.acts_by(room.name, "evict-pod", cooldown_s=10)

    def alert(pod: str, namespace: str) -> None:
        said = an_alert(
            namespace=namespace, service="web", pod=pod, fingerprint=f"f-{pod}", starts_at=int(time.time() * 1000)
        )
        for _ in range(3):
            topic = default_topics()[ALERTS].name
            write(repairing.stack.kafka_bootstrap, topic, alert_key(said), encode_alert(said))

    def sees_evicted(pod: str) -> None:
        """Return when the pod is replaced, and the only one that is."""
        others, done = agents.known.items() - {(pod, agents.known[pod])}, len(repairing.results(room.name))
        alert(pod, room.name)
        eventually(lambda: len(repairing.results(room.name)) > done)
        eventually(lambda: agents.are_routed() and pod not in agents.known)
        assert others <= agents.known.items()

    first, second, third = sorted(agents.known)
    spared = agents.known[third]
    alert("web-1", "elsewhere")
    sees_evicted(first)
    eventually(lambda: _unseen(repairing) == [])
    # It asks each part once, within a second or two; a busy machine may need another look.
    status = eventually(lambda: (told := repairing.status())["healthy"] and told)
    assert sorted(job["name"] for job in status["jobs"]) == ["waypost-repair", "waypost-route-table"]

    before = repairing.stack
    assert before.repair is not None
    checkpoints = repairing.state_dir / "checkpoints" / before.repair.name
    taken = set(completed([checkpoints]))
    eventually(lambda: set(completed([checkpoints])) - taken)
    os.kill(before.parts["jobmanager"].pid, signal.SIGKILL)
    eventually(lambda: (now := repairing.stack).ready and now.parts["jobmanager"] != before.parts["jobmanager"])

    sees_evicted(second)
    actions = repairing.granted(room.name)
    assert len(actions) == 2
    assert repairing.results(room.name) == {(action, Outcome.SUCCEEDED) for action in actions}
    assert repairing.states(room.name) == ["succeeded", "succeeded"]
    assert repairing.granted("elsewhere") == set()
    agents.look()
    assert agents.known[third] == spared


def _generation(room: Namespace) -> int:
    found: Any = client.AppsV1Api(room.api).read_namespaced_deployment("web", room.name)
    return int(found.metadata.generation)


def _unseen(repairing: Repairing) -> list[str]:
    """Return the metrics of the repair job that no TaskManager shows."""
    try:
        with httpx.Client(trust_env=False, timeout=60) as http:
            shown = "".join(http.get(url).text for url in repairing.stack.metrics.values())
    except httpx.TransportError:  # One of them is being started.
        shown = ""
    wanted = [name for m in register() if m.origin is Origin.REPAIR_JOB for name in m.exported]
    return [name for name in wanted if f"\n{name}{{" not in shown]
