"""What policies would have done with recorded alerts: the same decisions, with time that follows the recording.

The switch is on, every repair succeeds after its dwell, and nothing is refused by a budget. So it shows what the
policies ask for; what the cluster would have allowed is not known from alerts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from waypost.model.alert import Alert, Target
from waypost.model.alert_processor import AlertProcessor, Decided, Processed, Told
from waypost.model.kill_switch import Control
from waypost.model.repair import Observed
from waypost.model.repair_action import Outcome, RepairAction
from waypost.model.repair_policy import Mode, PolicySet
from waypost.model.repair_state import EMPTY, TargetState

_AFTERWARDS_MS = 3_600_000
"""How long after the last alert the story goes on: as long as an approval is waited for."""


@dataclass(frozen=True, slots=True)
class TimedAlert:
    """A recorded alert and when it was logged, epoch ms."""

    at: int
    alert: Alert


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was told at `at`, and the policy that covers the alert, "" when none does."""

    at: int
    told: Told
    policy: str


@dataclass(slots=True)
class _Stage:
    """One target while time passes: its state, its timer, and the outcome that is under way."""

    state: TargetState = EMPTY
    ask_at: int | None = None
    ends: list[tuple[int, str]] = field(default_factory=list)

    def next_at(self) -> int | None:
        return min((at for at in (self.ask_at, *(at for at, _ in self.ends)) if at is not None), default=None)


def rehearse(policies: PolicySet, recorded: Iterable[TimedAlert], *, as_acting: bool = False) -> list[Rehearsed]:
    """Return everything that would have been told, in order of time. Alerts out of order are taken when they were
    logged, and never before what was logged earlier. `as_acting`: no policy is shadow or needs approval."""
    if as_acting:
        acting = tuple(replace(policy, mode=Mode.ACT) for policy in policies.policies)
        policies = replace(policies, policies=acting)
    stages: dict[Target | None, _Stage] = {}
    found: list[Rehearsed] = []
    now = 0
    for one in recorded:
        now = max(now, one.at)
        for stage in stages.values():
            found += _until(stage, policies, now)
        stage = stages.setdefault(one.alert.target, _Stage())
        found += _after(stage, AlertProcessor(policies).on_alert(_seen(stage, now), one.alert, now), policies, now)
    for stage in stages.values():
        found += _until(stage, policies, now + _AFTERWARDS_MS)
    return sorted(found, key=lambda one: one.at)


def _until(stage: _Stage, policies: PolicySet, until: int) -> Iterator[Rehearsed]:
    processor = AlertProcessor(policies)
    while (at := stage.next_at()) is not None and at < until:
        ended = [action for end, action in stage.ends if end == at]
        if ended:
            stage.ends = [end for end in stage.ends if end[0] != at]
            processed = processor.on_result(stage.state, ended[0], Outcome.SUCCEEDED, at)
        else:
            processed = processor.on_time(_seen(stage, at), at)
        yield from _after(stage, processed, policies, at)


def _after(stage: _Stage, processed: Processed, policies: PolicySet, now: int) -> Iterator[Rehearsed]:
    stage.state, stage.ask_at = processed.state, processed.ask_at
    for told in processed.told:
        if isinstance(told, Decided) and isinstance(told.decision, RepairAction):
            lasts = 0 if told.decision.undoes else told.decision.dwell_ms
            stage.ends.append((now + lasts, told.decision.id))
        policy = policies.policy_for(told.alert)
        yield Rehearsed(now, told, policy.name if policy is not None else "")


def _seen(stage: _Stage, now: int) -> Observed:
    return Observed(control=Control(True, now), state=stage.state)
