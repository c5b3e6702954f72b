"""The door with the switch in it: whoever changes the cluster through it is asked for at that moment.

A turn reads before it changes, and each reading may take as long as a call may take. So the switch is asked right
before each change, by the clock of that moment, and not only when the turn begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waypost.model.refusals import Reason
from waypost.repair.objects import Node, Note, Pod, Workload
from waypost.repair.port import Cluster, Stopped

Stop = Callable[[], Reason | None]
"""Why nothing may be done just now: the switch is off, or was not read within the last 10 s."""


@dataclass(frozen=True, slots=True)
class SwitchedCluster:
    """A `Cluster`; what changes something raises Stopped instead when `stopped` says why. Events are no changes: they
    tell of what was done."""

    cluster: Cluster
    stopped: Stop

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self.cluster.pod(namespace, name)

    def pods(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        return self.cluster.pods(namespace, selector)

    def pods_on(self, node: str) -> list[Pod]:
        return self.cluster.pods_on(node)

    def service_selector(self, namespace: str, service: str) -> Mapping[str, str] | None:
        return self.cluster.service_selector(namespace, service)

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        return self.cluster.workload(kind, namespace, name)

    def workload_of(self, pod: Pod) -> Workload | None:
        return self.cluster.workload_of(pod)

    def node(self, name: str) -> Node | None:
        return self.cluster.node(name)

    def evict(self, pod: Pod) -> None:
        self._ask()
        self.cluster.evict(pod)

    def change_workload(
        self,
        workload: Workload,
        *,
        annotations: Mapping[str, str],
        template: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> None:
        self._ask()
        self.cluster.change_workload(workload, annotations=annotations, template=template, replicas=replicas)

    def change_node(self, node: Node, *, unschedulable: bool | None, annotations: Mapping[str, str | None]) -> None:
        self._ask()
        self.cluster.change_node(node, unschedulable=unschedulable, annotations=annotations)

    def tell(self, note: Note) -> None:
        self.cluster.tell(note)

    def _ask(self) -> None:
        reason = self.stopped()
        if reason is not None:
            raise Stopped(reason.value)
