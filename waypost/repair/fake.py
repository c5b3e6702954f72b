"""A cluster in this process: the fake that keeps the API server's word about versions, uids and budgets.

Objects change only by calls and by `settle`, which does what controllers, scheduler and kubelets would do next. A
fault can be ordered for the next call of a kind, before its effect or after it (the answer gets lost).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, Node, Note, Pod, Reference, Workload
from waypost.repair.port import CallFailed, Conflict, NotNow, known, named, selecting

T = TypeVar("T")

_REPLICA_SET = "ReplicaSet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A disruption budget over the pods of a namespace with these labels."""

    namespace: str
    selector: Mapping[str, str]
    min_available: int


@dataclass(slots=True)
class _Fault:
    call: str
    error: CallFailed
    after: bool


@dataclass(slots=True)
class FakeCluster:
    """A `Cluster`. Thread-safe. `calls` are those that change something, as they came in: (call, object)."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    notes: dict[str, Note] = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)
    _pods: dict[tuple[str, str], Pod] = field(default_factory=dict)
    _workloads: dict[tuple[str, str, str], Workload] = field(default_factory=dict)
    _nodes: dict[str, Node] = field(default_factory=dict)
    _services: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    _faults: list[_Fault] = field(default_factory=list)
    _versions: count[int] = field(default_factory=lambda: count(100))
    _uids: count[int] = field(default_factory=lambda: count(1))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # --- what is there ------------------------------------------------------------------------

    def add_node(self, name: str, *, unschedulable: bool = False) -> Node:
        with self._lock:
            node = Node(name=name, uid=self._uid(), resource_version=self._version(), unschedulable=unschedulable)
            self._nodes[name] = node
            return node

    def add_workload(
        self, kind: str, namespace: str, name: str, *, replicas: int = 1, node: str = "", at_once: int = 1
    ) -> Workload:
        """Make a workload with its pods, all Ready, on `node` or wherever there is room."""
        with self._lock:
            workload = Workload(
                kind=kind, namespace=namespace, name=name, uid=self._uid(), resource_version=self._version(),
                replicas=replicas, existing=0, updated=0, ready=0, at_once=at_once, selector={"app": name},
            )  # fmt: skip
            self._workloads[kind, namespace, name] = workload
            self._fill(workload, node)
            self._count(workload)
            return self._workloads[kind, namespace, name]

    def add_pod(
        self, namespace: str, name: str, *, node: str = "", labels: Mapping[str, str] | None = None,
        owner: Reference | None = None, mirror: bool = False, phase: str = "Running",
    ) -> Pod:  # fmt: skip
        with self._lock:
            pod = Pod(
                namespace=namespace, name=name, uid=self._uid(), node=node, phase=phase, ready=phase == "Running",
                mirror=mirror, labels=dict(labels or {}), owner=owner,
            )  # fmt: skip
            self._pods[namespace, name] = pod
            return pod

    def add_service(self, namespace: str, name: str, selector: Mapping[str, str]) -> None:
        self._services[namespace, name] = dict(selector)

    def add_budget(self, namespace: str, selector: Mapping[str, str], min_available: int) -> None:
        self.budgets.append(Budget(namespace=namespace, selector=selector, min_available=min_available))

    def fail(self, call: str, error: CallFailed, *, after: bool = False, times: int = 1) -> None:
        """Order faults: the next `times` calls of this name raise, and with `after` do what they were asked first."""
        with self._lock:
            self._faults += [_Fault(call, error, after)] * times

    def heal(self) -> None:
        """Take back the faults that have not come."""
        with self._lock:
            self._faults.clear()

    def all_pods(self) -> list[Pod]:
        with self._lock:
            return list(self._pods.values())

    def uncordon(self, name: str, at: int = 0) -> None:
        """Do what `kubectl uncordon` does: nothing but that. `at`: when, epoch ms, 0 if the node does not say."""
        with self._lock:
            self._nodes[name] = replace(
                self._nodes[name], unschedulable=False, resource_version=self._version(), touched_at=at
            )

    def unready(self, namespace: str, name: str) -> None:
        """Let a pod crash: it is there, and not Ready."""
        with self._lock:
            pod = self._pods[namespace, name] = replace(self._pods[namespace, name], ready=False)
            if (workload := self._owner(pod)) is not None:
                self._count(workload)

    def opt_out(self, kind: str, namespace: str, name: str, *, out: bool = True) -> None:
        """Let the owner of a pod, a workload or a node say whether it may be repaired."""
        with self._lock:
            if kind == "Node":
                self._nodes[name] = replace(self._nodes[name], opted_out=out, resource_version=self._version())
            elif kind == "Pod":
                self._pods[namespace, name] = replace(self._pods[namespace, name], opted_out=out)
            else:
                key = kind, namespace, name
                workload = self._workloads[key]
                self._workloads[key] = replace(workload, opted_out=out, resource_version=self._version())

    def touch(self, kind: str, namespace: str, name: str) -> None:
        """Let somebody else change a workload or a node."""
        with self._lock:
            if kind == "Node":
                self._nodes[name] = replace(self._nodes[name], resource_version=self._version())
            else:
                key = kind, namespace, name
                self._workloads[key] = replace(self._workloads[key], resource_version=self._version())

    def settle(self) -> None:
        """Let every controller do its work: pods that go are gone, missing ones are there and Ready."""
        with self._lock:
            for key in [key for key, pod in self._pods.items() if pod.deleting]:
                del self._pods[key]
            for workload in list(self._workloads.values()):
                if workload.observed_generation < workload.generation:
                    self._roll(workload)
                self._fill(self._workloads[workload.kind, workload.namespace, workload.name])
                self._count(workload)

    # --- Cluster ------------------------------------------------------------------------------

    def pod(self, namespace: str, name: str) -> Pod | None:
        named(namespace=namespace, name=name)
        return self._reading("pod", lambda: self._pods.get((namespace, name)))

    def pods(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        named(namespace=namespace)
        selecting(selector)
        return self._reading("pods", lambda: self._matching(namespace, selector))

    def pods_on(self, node: str) -> list[Pod]:
        named(node=node)
        return self._reading("pods_on", lambda: [pod for pod in self._pods.values() if pod.node == node])

    def evict(self, pod: Pod) -> None:
        known(pod.reference)
        named(uid=pod.uid)
        self._changing("evict", f"{pod.namespace}/{pod.name}", lambda: self._evict(pod))

    def service_selector(self, namespace: str, service: str) -> Mapping[str, str] | None:
        named(namespace=namespace, service=service)
        return self._reading("service_selector", lambda: self._services.get((namespace, service)))

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        named(kind=kind, namespace=namespace, name=name)
        return self._reading("workload", lambda: self._workloads.get((kind, namespace, name)))

    def workload_of(self, pod: Pod) -> Workload | None:
        known(pod.reference)
        return self._reading("workload_of", lambda: self._owner(pod))

    def change_workload(
        self,
        workload: Workload,
        *,
        annotations: Mapping[str, str],
        template: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> None:
        known(workload.reference)
        named(version=workload.resource_version)

        def change() -> None:
            key = workload.kind, workload.namespace, workload.name
            now = self._workloads.get(key)
            if now is None or now.resource_version != workload.resource_version:
                raise Conflict(f"{workload.reference} has changed")
            wanted = now.replicas if replicas is None else replicas
            moved = bool(template) or wanted != now.replicas
            if template:
                self.restarts[str(workload.reference)] = self.restarts.get(str(workload.reference), 0) + 1
            self._workloads[key] = replace(
                now,
                annotations={**now.annotations, **annotations},
                replicas=wanted,
                generation=now.generation + moved,
                updated=0 if template else now.updated,
                resource_version=self._version(),
            )

        self._changing("change_workload", str(workload.reference), change)

    def node(self, name: str) -> Node | None:
        named(name=name)
        return self._reading("node", lambda: self._nodes.get(name))

    def change_node(self, node: Node, *, unschedulable: bool | None, annotations: Mapping[str, str | None]) -> None:
        known(node.reference)
        named(version=node.resource_version)

        def change() -> None:
            now = self._nodes.get(node.name)
            if now is None or now.resource_version != node.resource_version:
                raise Conflict(f"{node.reference} has changed")
            merged = {**now.annotations, **annotations}
            self._nodes[node.name] = replace(
                now,
                unschedulable=now.unschedulable if unschedulable is None else unschedulable,
                annotations={name: value for name, value in merged.items() if value is not None},
                resource_version=self._version(),
            )

        self._changing("change_node", str(node.reference), change)

    def tell(self, note: Note) -> None:
        known(note.about)
        self._changing("tell", str(note.about), lambda: self.notes.setdefault(note.id, note))

    # --- inside -------------------------------------------------------------------------------

    def _reading(self, call: str, read: Callable[[], T]) -> T:
        with self._lock:
            self._fault(call, after=False)
            return read()

    def _changing(self, call: str, about: str, change: Callable[[], object]) -> None:
        with self._lock:
            self._fault(call, after=False)
            change()
            self.calls.append((call, about))
            self._fault(call, after=True)

    def _fault(self, call: str, *, after: bool) -> None:
        for fault in self._faults:
            if fault.call == call and fault.after == after:
                self._faults.remove(fault)
                raise fault.error

    def _evict(self, pod: Pod) -> None:
        now = self._pods.get((pod.namespace, pod.name))
        if now is None or now.deleting:
            return
        if now.uid != pod.uid:
            raise Conflict(f"{pod.reference} is another one now")
        for budget in self.budgets:
            if budget.namespace != pod.namespace or not _has(now.labels, budget.selector):
                continue
            healthy = sum(one.ready and not one.deleting for one in self._matching(pod.namespace, budget.selector))
            if healthy - now.ready < budget.min_available:
                raise NotNow("the disruption budget needs it")
        self._pods[pod.namespace, pod.name] = replace(now, deleting=True, ready=False)
        workload = self._owner(now)
        if workload is not None:
            self._count(workload)

    def _owner(self, pod: Pod) -> Workload | None:
        if pod.owner is None:
            return None
        kind = DEPLOYMENT if pod.owner.kind == _REPLICA_SET else pod.owner.kind
        name = pod.owner.name.rpartition("-")[0] if pod.owner.kind == _REPLICA_SET else pod.owner.name
        return self._workloads.get((kind, pod.namespace, name))

    def _matching(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        return [pod for pod in self._pods.values() if pod.namespace == namespace and _has(pod.labels, selector)]

    def _roll(self, workload: Workload) -> None:
        key = workload.kind, workload.namespace, workload.name
        there = self._matching(workload.namespace, workload.selector)
        # A new template leaves none of them, a smaller number only so many.
        for pod in there if not workload.updated else there[workload.replicas :]:
            del self._pods[pod.namespace, pod.name]
        self._workloads[key] = replace(
            self._workloads[key], observed_generation=workload.generation, updated=workload.replicas
        )

    def _fill(self, workload: Workload, node: str = "") -> None:
        there = self._matching(workload.namespace, workload.selector)
        taken = {pod.name for pod in there}
        for n in range(workload.replicas - len([pod for pod in there if not pod.deleting])):
            place = node or self._room(n)
            if self._nodes and not place:
                return
            if workload.kind == STATEFUL_SET:
                name = next(f"{workload.name}-{i}" for i in count() if f"{workload.name}-{i}" not in taken)
                owner = Reference(workload.kind, workload.namespace, workload.name, workload.uid)
            else:
                name = f"{workload.name}-7f9-{next(self._uids)}"
                kind, of = (_REPLICA_SET, f"{workload.name}-7f9") if workload.kind == DEPLOYMENT else (DAEMON_SET, "")
                owner = Reference(kind, workload.namespace, of or workload.name)
            taken.add(name)
            self.add_pod(workload.namespace, name, node=place, labels=workload.selector, owner=owner)

    def _room(self, n: int) -> str:
        free = sorted(name for name, node in self._nodes.items() if not node.unschedulable)
        return free[n % len(free)] if free else ""

    def _count(self, workload: Workload) -> None:
        key = workload.kind, workload.namespace, workload.name
        there = [p for p in self._matching(workload.namespace, workload.selector) if not p.deleting]
        now = self._workloads[key]
        new = len(there) if now.observed_generation >= now.generation else now.updated
        self._workloads[key] = replace(
            now, existing=len(there), updated=new, ready=sum(pod.ready for pod in there),
            resource_version=self._version(),
        )  # fmt: skip

    def _version(self) -> str:
        return str(next(self._versions))

    def _uid(self) -> str:
        return f"uid-{next(self._uids)}"


def _has(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()
