"""A decision to act, as data, and how it may end.

The id follows from target, fault and attempt alone, so whoever decides the same again, after a restore or on another
machine, gets the same id, and whoever executes can tell that it was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

from waypost.model.alert import Alert, Target
from waypost.model.names import ServiceKey
from waypost.model.repair_policy import RepairPolicy
from waypost.model.repair_steps import Do, Step

BEGIN_MS = 10 * 60_000
"""After a grant, nobody may begin the action later than this: a zombie must not act on an old picture."""

RUN_MS = 40 * 60_000
"""After a grant, whoever waits for the outcome takes it for failed: `BEGIN_MS`, the longest drain (15 min), the longest
dwell (10 min), and some air. Doubled, a lost outcome holds its place in the budget for twice as long."""

QUEUE_MS = 30 * 60_000
"""How long an action waits for a grant at most."""

LOST_MS = QUEUE_MS + RUN_MS
"""After it was decided, an action without an outcome is taken for lost."""


class Outcome(str, Enum):
    """How an action ended, verified on state after its dwell. `not-done`: nobody has begun it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOT_DONE = "not-done"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairAction:
    """What is to be done, for which fault, by which policy. `excluded`: services whose endpoints and pods the steps
    must leave alone. `undoes`: the action whose cordon and isolation this one takes back, "" for a repair."""

    id: str
    target: Target
    type: str
    fingerprint: str
    starts_at: int
    attempt: int
    policy: str
    policy_version: str
    steps: tuple[Step, ...]
    node: str = ""
    pod: str = ""
    dwell_ms: int
    cooldown_ms: int
    min_healthy: int = 1
    undo: bool = False
    excluded: tuple[ServiceKey, ...] = ()
    undoes: str = ""
    decided_at: int
    granted_at: int = 0
    """0: the budget has not granted it, and nobody may execute it."""

    @property
    def service(self) -> ServiceKey | None:
        """Return the service to be repaired, None for a node."""
        return None if self.target.is_node else ServiceKey(*self.target)

    @property
    def plan(self) -> str:
        """Return what names everything that would be done, and to what: 32 hexadecimal digits. The id does not say it,
        so that whoever decides the same fault again by another policy does not act twice."""
        steps = [(step.do.value, *sorted(step.parameters.items())) for step in self.steps]
        told = repr((str(self.target), self.node, self.pod, steps))
        return blake2b(told.encode(), digest_size=16).hexdigest()

    @property
    def begin_by(self) -> int:
        """Return when it is too late to begin; 0 without a grant."""
        return self.granted_at + BEGIN_MS if self.granted_at else 0


def action_id(target: Target, fingerprint: str, starts_at: int, attempt: int) -> str:
    """Return the id of an attempt to repair a fault: 32 hexadecimal digits."""
    told = "\n".join((str(target), fingerprint, str(starts_at), str(attempt)))
    return blake2b(told.encode(), digest_size=16).hexdigest()


def undo_id(action: str, attempt: int = 1) -> str:
    """Return the id of the n-th try to take an action back: what is common to all, and the number."""
    return f"{_undo_of(action)}{attempt:08x}"


def is_undo_of(undo: str, action: str) -> bool:
    """Tell whether an id is that of a try to take this action back."""
    return undo.startswith(_undo_of(action))


def _undo_of(action: str) -> str:
    return blake2b(f"undo\n{action}".encode(), digest_size=12).hexdigest()


def planned(
    alert: Alert, target: Target, policy: RepairPolicy, steps: tuple[Step, ...], attempt: int, now: int
) -> RepairAction:
    """Return the action that a policy asks for."""
    return RepairAction(
        id=action_id(target, alert.fingerprint, alert.starts_at, attempt),
        target=target,
        type=alert.type,
        fingerprint=alert.fingerprint,
        starts_at=alert.starts_at,
        attempt=attempt,
        policy=policy.name,
        policy_version=policy.guards.version,
        steps=steps,
        node=alert.node,
        pod=alert.pod,
        dwell_ms=policy.dwell_ms,
        cooldown_ms=policy.cooldown_ms,
        min_healthy=policy.min_healthy,
        undo=policy.undo,
        decided_at=now,
    )  # fmt: skip


def forgotten(alert: Alert, target: Target, policy: RepairPolicy, attempt: int, now: int) -> RepairAction:
    """Return an attempt that nobody remembers, as if there had been one: it is taken back cordon first, because the
    node itself says whose that is."""
    return planned(alert, target, policy, (Step.of(Do.ISOLATE), Step.of(Do.CORDON)), attempt, now)
