"""The repair job's operators before a real control plane: Kafka and Flink are played, and nothing else is.

Time is the machine's. Tables follow the pods, as their agents would see to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client

from tests.jobs.fakes import Clock
from tests.jobs.repair_world import World
from tests.kubernetes.workloads import Namespace
from waypost.model.alert import Alert, AlertStatus
from waypost.model.names import ServiceKey
from waypost.repair.api_server import connect
from waypost.repair.port import CallFailed

POOL = "waypost.test/pool"

# A crash waits for longer than an incident gathers.
POLICIES = """
version: "1"
policies:
  - name: crashes
    match: {types: [PodCrash], namespaces: [%s]}
    steps: [{do: evict-pod}]
    mode: act
    wait_seconds: 1
    dwell_seconds: 1
    cooldown_seconds: 10
  - name: nodes
    match: {types: [NodeFailure], scope: node, nodes: ["*"]}
    steps: [{do: cordon}, {do: isolate, for_seconds: 600}, {do: drain, timeout_seconds: 60}]
    mode: act
    wait_seconds: 0
    dwell_seconds: 1
    cooldown_seconds: 10
    undo: true
"""


@dataclass
class Faults:
    """A way to the cluster on which calls fail: `plan` says of each call by name what happens to the next ones."""

    inner: Any
    plan: dict[str, list[tuple[CallFailed, bool]]] = field(default_factory=dict)
    """Per call: the error, and whether it is done all the same and only the answer is lost."""

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)

        def made(*arguments: Any, **more: Any) -> Any:
            planned = self.plan.get(name)
            if not planned:
                return call(*arguments, **more)
            error, done = planned.pop(0)
            if done:
                call(*arguments, **more)
            raise error

        return made


class Repairs:
    """A repair job for one namespace, with the rights of the shipped account."""

    def __init__(self, room: Namespace, account: Path) -> None:
        self.room = room
        self.cluster = Faults(connect(account, timeout_ms=5_000))
        self.world = World(clock=Clock(_now()), cluster=self.cluster, settles=False)  # type: ignore[arg-type]
        self.world.policies(POLICIES % room.name)
        self._apps: dict[str, dict[str, str]] = {}
        self._pool: list[str] = []

    def close(self) -> None:
        """Take the nodes away that were made: other tests count on theirs."""
        self.cluster.inner.close()
        for name in self._pool:
            self.room.core.delete_node(name)

    # --- what there is ------------------------------------------------------------------------

    def pool(self, n: int) -> list[str]:
        """Make nodes of the test's own, on which only its own pods run."""
        names = [f"{self.room.name[-20:].strip('-')}-{i}" for i in range(1, n + 1)]
        self._pool += names
        self.room.cluster.add_nodes(names, labels={POOL: self.room.name})
        return names

    def deploy(self, app: str, *, replicas: int) -> None:
        """Make a Deployment, spread over the pool, and a Service of that name; its pods are in a table from now on."""
        labels = {"app": app}
        spread = {
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }  # fmt: skip
        spec = {
            "containers": [{"name": "main", "image": "registry.invalid/nothing:1"}],
            "nodeSelector": {POOL: self.room.name},
            "topologySpreadConstraints": [spread],
        }
        deployment = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }  # fmt: skip
        service = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080}]},
        }  # fmt: skip
        for body in (deployment, service):
            self.room.cluster.kubectl("apply", "-n", self.room.name, "-f", "-", stdin=json.dumps(body))
        wait = f"{replicas} pods of {app} are Ready"
        self.room.cluster.wait_until(lambda: len(self.room.ready_pods(app)) == replicas, wait)
        self._apps[app] = {}
        self._mirror()

    def service(self, app: str) -> ServiceKey:
        return ServiceKey(self.room.name, app)

    def placed(self, app: str) -> dict[str, str]:
        """Return the node of each pod that is Ready and stays."""
        return {pod.metadata.name: pod.spec.node_name for pod in self.room.ready_pods(app)}

    def uids(self, app: str) -> set[str]:
        return {pod.metadata.uid for pod in self.room.ready_pods(app)}

    def generation(self, app: str) -> int:
        found: Any = client.AppsV1Api(self.room.api).read_namespaced_deployment(app, self.room.name)
        return int(found.metadata.generation)

    def cordoned(self, names: list[str]) -> list[str]:
        nodes: Any = self.room.core.list_node().items
        return [node.metadata.name for node in nodes if node.metadata.name in names and node.spec.unschedulable]

    # --- alerts -------------------------------------------------------------------------------

    def alert(self, app: str, fingerprint: str = "f", *, pod: str = "", at: int = 0) -> Alert:
        return Alert(
            type="PodCrash", status=AlertStatus.FIRING, fingerprint=fingerprint, starts_at=at or self.world.clock.wall,
            namespace=self.room.name, service=app, pod=pod,
        )  # fmt: skip

    def node_alert(self, node: str, at: int = 0) -> Alert:
        return Alert(
            type="NodeFailure", status=AlertStatus.FIRING, fingerprint=f"f-{node}", node=node,
            starts_at=at or self.world.clock.wall,
        )  # fmt: skip

    # --- time ---------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let time pass until it holds."""

        def passed() -> bool:
            self.go_on()
            return condition()

        self.room.cluster.wait_until(passed, what)

    def go_on(self) -> None:
        """Give the job the time that has passed, and tables as the pods are now: in pieces when it is much, or it would
        see nothing between an eviction and the end of its dwell."""
        behind = _now() - self.world.clock.wall
        pieces = min(4, max(1, behind // 400))
        for _ in range(pieces):
            self._mirror()
            self.world.run_for(max(100, behind // pieces), step_ms=max(100, behind // pieces))

    def for_a_while(self, seconds: float) -> None:
        """Let the job have that much of its own time: nothing is expected to happen."""
        end = self.world.clock.wall + int(seconds * 1000)
        while self.world.clock.wall < end:
            self.go_on()

    def _mirror(self) -> None:
        try:
            seen: Mapping[str, dict[str, str]] = {app: self.placed(app) for app in self._apps}
        except OSError:
            return  # an outage is under way
        except Exception as error:  # urllib3's own, when the connection is refused
            if type(error).__module__.split(".")[0] != "urllib3":
                raise
            return
        for app, placed in seen.items():
            if placed != self._apps[app]:
                self.world.table(self.service(app), placed, placed)
                self._apps[app] = placed


def _now() -> int:
    return time.time_ns() // 1_000_000
