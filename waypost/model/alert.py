"""An alert, and what it is about.

One value whatever raised it: Alertmanager through the bridge, or an incident that was folded from many alerts. It
keeps what the producer said; whether that is enough to act on is `waypost.model.repair`'s to say. Nothing here is
trusted: names were checked for their form, not for being anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

POD_CRASH = "PodCrash"
NODE_FAILURE = "NodeFailure"
HIGH_ERROR_RATE = "HighErrorRate"
CONFIG_REGRESSION = "ConfigRegression"
"""Types that Waypost knows by name. Policies may be about any other."""

NODE_TARGET = "node"
"""Where a key has a namespace, and a node has none: `node/<name>`. Hence no namespace may be called so."""


class AlertStatus(str, Enum):
    """Whether the fault is there, in Alertmanager's words."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Target(NamedTuple):
    """What one stream of decisions is about: a service of a namespace, or a node. Written as the records' key."""

    namespace: str
    name: str

    @property
    def is_node(self) -> bool:
        return self.namespace == NODE_TARGET

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert as of one notification. `starts_at` is epoch ms, by the clock of whoever raised it; with the
    `fingerprint` it names the *episode*: the same fault, from its beginning to its end. "" is for what is not said."""

    type: str
    status: AlertStatus
    fingerprint: str
    starts_at: int
    service: str = ""
    namespace: str = ""
    node: str = ""
    pod: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target | None:
        """Return what the alert is about, None when it names neither service nor node.

        A service without a namespace is a target with the namespace "", which nothing may act on.
        """
        if self.service:
            return Target(self.namespace, self.service)
        return Target(NODE_TARGET, self.node) if self.node else None

    @property
    def firing(self) -> bool:
        return self.status is AlertStatus.FIRING
