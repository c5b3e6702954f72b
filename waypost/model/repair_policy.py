"""Which repair an alert leads to, as data.

A policy that says nothing does nothing: the mode is shadow unless another is spelled out, and an empty list of
namespaces matches none. `*` alone means any; it has to be written, and it matches no alert without a namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from waypost.model.alert import CONFIG_REGRESSION, HIGH_ERROR_RATE, NODE_FAILURE, POD_CRASH, Alert
from waypost.model.repair_steps import Do, Step

MOST_ATTEMPTS = 100
"""The largest `max_attempts`. So many are remembered of each target: of fewer, nobody could tell that they were used
up."""

_DAY_MINUTES = 24 * 60
_MINUTE_MS = 60_000
_THURSDAY = 3
"""1970-01-01, counted from Monday."""


class Mode(str, Enum):
    """How far a policy goes."""

    SHADOW = "shadow"
    APPROVE = "approve"
    ACT = "act"


class Scope(str, Enum):
    """What a policy is about."""

    SERVICE = "service"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time of every week in which people are at work and nothing is repaired. UTC; `days` 0 is Monday, and of a
    window over midnight it is the day on which it begins. Minutes of the day; equal ones mean the whole day."""

    days: frozenset[int] = frozenset(range(7))
    begin: int
    end: int

    def closes_at(self, now: int) -> int | None:
        """Return when the window that is open at `now` (epoch ms) closes; None when none is."""
        minutes = now // _MINUTE_MS
        day, minute = minutes // _DAY_MINUTES, minutes % _DAY_MINUTES
        length = (self.end - self.begin) % _DAY_MINUTES or _DAY_MINUTES
        for began in (day, day - 1):
            since = (day - began) * _DAY_MINUTES + minute - self.begin
            if (began + _THURSDAY) % 7 in self.days and 0 <= since < length:
                return (began * _DAY_MINUTES + self.begin + length) * _MINUTE_MS
        return None


def matches(patterns: Sequence[str], name: str) -> bool:
    """Tell whether `name` is one of them; one that ends in `*` stands for every beginning. "" matches none."""
    return bool(name) and any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What holds for all policies of a set. `version` is written into every decision."""

    version: str = ""
    opt_out_label: str = "waypost_repair"
    """An alert with this label is not acted on, whatever the value, unless it is `on`."""
    protected_namespaces: frozenset[str] = frozenset({"kube-system"})
    maintenance: tuple[Window, ...] = ()

    def opted_out(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.opt_out_label)
        return value is not None and value.strip().lower() != "on"

    def closes_at(self, now: int) -> int | None:
        """Return when the last of the maintenance windows that are open closes; None when none is open."""
        return max((at for w in self.maintenance if (at := w.closes_at(now)) is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPolicy:
    """What to do about certain alerts, and how carefully. Times in ms."""

    name: str
    types: frozenset[str]
    steps: tuple[Step, ...]
    scope: Scope = Scope.SERVICE
    namespaces: tuple[str, ...] = ()
    """For services. A pattern each."""
    nodes: tuple[str, ...] = ()
    """For nodes. A pattern each."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """All of them have to be on the alert, exactly so."""
    mode: Mode = Mode.SHADOW
    wait_ms: int = 5_000
    """An alert must have fired for so long: incidents gather meanwhile, and a blip is not repaired."""
    cooldown_ms: int = 300_000
    """After an outcome; doubled by each failure in a row, up to eight times as long."""
    max_attempts: int = 3
    attempts_ms: int = 6 * 3_600_000
    """Attempts longer ago do not count: no target is given up for ever."""
    dwell_ms: int = 60_000
    """How long the repaired state must last until the sink calls it a success."""
    approval_ms: int = 3_600_000
    """How long an approval is waited for, and how long it is good for."""
    min_healthy: int = 1
    undo: bool = False
    """Take back our own cordon and isolation when the alert is over."""
    guards: Guards = field(default_factory=Guards)

    def covers(self, alert: Alert) -> bool:
        """Tell whether the policy is about this alert."""
        target = alert.target
        if target is None or alert.type not in self.types:
            return False
        if any(alert.labels.get(name) != value for name, value in self.labels.items()):
            return False
        if target.is_node:
            return self.scope is Scope.NODE and matches(self.nodes, target.name)
        return self.scope is Scope.SERVICE and matches(self.namespaces, target.namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """All policies of an installation, the first that covers an alert counts."""

    policies: tuple[RepairPolicy, ...] = ()
    guards: Guards = field(default_factory=Guards)

    def policy_for(self, alert: Alert) -> RepairPolicy | None:
        return next((policy for policy in self.policies if policy.covers(alert)), None)


_ANY = ("*",)

DEFAULT_POLICIES = PolicySet(
    policies=(
        RepairPolicy(name="pod-crash", types=frozenset({POD_CRASH}), namespaces=_ANY, steps=(Step.of(Do.EVICT_POD),)),
        RepairPolicy(
            name="node-failure",
            types=frozenset({NODE_FAILURE}),
            scope=Scope.NODE,
            nodes=_ANY,
            # Nobody is sent there any more before the pods begin to move.
            steps=(Step.of(Do.CORDON), Step.of(Do.ISOLATE), Step.of(Do.DRAIN)),
            undo=True,
        ),
        RepairPolicy(
            name="notify",
            types=frozenset({HIGH_ERROR_RATE, CONFIG_REGRESSION}),
            namespaces=_ANY,
            steps=(Step.of(Do.NOTIFY),),
        ),
    ),
    guards=Guards(version="default"),
)
"""What holds until somebody writes policies. All of it in shadow mode."""
