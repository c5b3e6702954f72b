"""What repairs read of a cluster's objects: the few fields that a decision needs, and no more.

Kinds are written as the API has them (`Deployment`); namespaces and names are never empty (`waypost.repair.port`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

DEPLOYMENT = "Deployment"
STATEFUL_SET = "StatefulSet"
DAEMON_SET = "DaemonSet"
WORKLOADS = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
"""What makes a pod anew when it is gone, and can be restarted by a change of its template."""


class Reference(NamedTuple):
    """An object by name. `namespace` is "" for a node, and only there."""

    kind: str
    namespace: str
    name: str
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}" if self.namespace else f"node {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod. `owner` is the controller that makes it anew, as the pod names it (a ReplicaSet, say)."""

    namespace: str
    name: str
    uid: str
    node: str = ""
    phase: str = "Running"
    ready: bool = False
    deleting: bool = False
    mirror: bool = False
    """Of a kubelet's own file: it cannot be evicted."""
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: Reference | None = None
    opted_out: bool = False
    """It says that nobody shall repair it (`waypost.repair.opt_out`)."""

    @property
    def reference(self) -> Reference:
        return Reference("Pod", self.namespace, self.name, self.uid)

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet, and how far its controller has come."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int = 1
    observed_generation: int = 1
    replicas: int = 1
    """How many there shall be."""
    existing: int = 1
    """How many there are, old ones included."""
    updated: int = 1
    ready: int = 1
    at_once: int = 1
    """How many of them a restart may take at once (`waypost.repair.strategy`)."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    opted_out: bool = False

    @property
    def reference(self) -> Reference:
        return Reference(self.kind, self.namespace, self.name, self.uid)

    @property
    def settled(self) -> bool:
        """Tell whether every replica is of the newest template and Ready, and no older one is left."""
        return (
            self.observed_generation >= self.generation
            and self.existing == self.replicas == self.updated
            and self.ready >= self.replicas
        )

    @property
    def progress(self) -> str:
        return f"{self.ready} of {self.replicas} ready, {self.updated} updated, {self.existing} exist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node."""

    name: str
    uid: str
    resource_version: str
    unschedulable: bool = False
    ready: bool = True
    annotations: Mapping[str, str] = field(default_factory=dict)
    opted_out: bool = False
    touched_at: int = 0
    """When somebody else last changed what is wanted of it, epoch ms; 0: it does not say."""

    @property
    def reference(self) -> Reference:
        return Reference("Node", "", self.name, self.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is told about an object where people look at it: a Kubernetes Event. `id` makes a second one of the same
    words the same one."""

    id: str
    about: Reference
    reason: str
    message: str
    warning: bool = False
    at: int
