"""The narrow door to a cluster: every call that repairs make, and every way in which one may fail.

A call that names nothing is an `EmptyName` before anything is sent: an empty namespace, name or selector would mean
*all* to the API server. What is changed carries the version it was read at, so that two who decide at the same time
do not both act; what is evicted carries its uid, so that a successor of the same name is safe.

The fake (`waypost.repair.fake`) and the real one (`waypost.repair.api_server`) keep the same contract:
`tests/repair/contract.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from waypost.errors import WaypostError
from waypost.repair.objects import Node, Note, Pod, Reference, Workload

FIELD_MANAGER = "waypost-repair"
"""Under which name the API server notes who owns what was changed."""
DENIED_MS = 30_000
"""How long one that is denied asks again. An API server that has just started denies for some 20 ms here (2 cores,
2026-11-23). With tens of thousands of role bindings it may be minutes (kubernetes/kubernetes#121635): then what was
asked fails."""


class CallFailed(WaypostError):
    """A call to the API server did not do what was asked."""


class Unavailable(CallFailed):
    """No answer in time, or the server's own failure (5xx, 429 without a budget): done or not, nobody knows. Read again
    later."""


class Conflict(CallFailed):
    """The object has changed since it was read, or is another one of the same name. Read again, decide again."""


class NotNow(CallFailed):
    """A disruption budget refuses the eviction for now (429)."""


class Refused(CallFailed):
    """The server will refuse it again: invalid, unknown. A person has to look."""


class Denied(CallFailed):
    """The server, or an admission webhook, says that we may not (401, 403). So says a server as well that has just
    started and has not read its role bindings yet."""


class Stopped(CallFailed):
    """The switch is off, or nobody knows: the call was not made (`waypost.repair.switched`)."""


class EmptyName(CallFailed):
    """The call named nothing. It was not made, and whoever wanted it has a fault."""


class Cluster(Protocol):
    """What repairs ask of a cluster. Reading returns None for what is not there; everything may raise `CallFailed`."""

    def pod(self, namespace: str, name: str) -> Pod | None: ...

    def pods(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        """Return the pods of a namespace with all of these labels."""

    def pods_on(self, node: str) -> list[Pod]:
        """Return the pods of all namespaces that are bound to a node."""

    def evict(self, pod: Pod) -> None:
        """Ask for the eviction of this pod and no other. One that is gone is no error; NotNow, Conflict."""

    def service_selector(self, namespace: str, service: str) -> Mapping[str, str] | None:
        """Return which labels a Service selects, empty when it selects none; None without a Service."""

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None: ...

    def workload_of(self, pod: Pod) -> Workload | None:
        """Return what makes the pod anew, through its ReplicaSet when it has one; None when nothing of `WORKLOADS`
        does."""

    def change_workload(
        self,
        workload: Workload,
        *,
        annotations: Mapping[str, str],
        template: Mapping[str, str] | None = None,
        replicas: int | None = None,
    ) -> None:
        """Set annotations of a workload as it was read, and in the same breath those of its pods' template, and how
        many there shall be. Raises Conflict when it has changed since."""

    def node(self, name: str) -> Node | None: ...

    def change_node(self, node: Node, *, unschedulable: bool | None, annotations: Mapping[str, str | None]) -> None:
        """Change a node as it was read; None takes an annotation away, or leaves `unschedulable` as it is. Raises
        Conflict."""

    def tell(self, note: Note) -> None:
        """Write an Event. One that was written before is no error."""


def named(**names: str) -> None:
    """Raise EmptyName unless every one of these is something."""
    for what, name in names.items():
        if not name or name != name.strip() or any(sign in name for sign in "/*?%#"):
            raise EmptyName(f"{what} {name!r} names nothing")


def selecting(selector: Mapping[str, str]) -> None:
    """Raise EmptyName unless a selector selects by something."""
    if not selector or not all(selector.keys()):
        raise EmptyName("an empty selector would be everything")


def known(reference: Reference) -> None:
    """Raise EmptyName unless this names one object."""
    named(name=reference.name)
    if reference.kind != "Node":
        named(namespace=reference.namespace)
