"""One repair action from its grant to its outcome: a small state machine that is stored between its turns.

    pending ──► running step by step ──► verifying ──► over
       │            │  a step fails, or time is up ─────▲
       └────────────┴─ cancelled, or too late to begin ─┘

A failed step ends the action, but for those behind it that only write records. What was done stays: a node that is half
repaired is better out of service. It is taken back when the alert is over, by an action of its own, and an isolation
ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from waypost.model.isolation import Isolation
from waypost.model.repair_action import RUN_MS, Outcome, RepairAction
from waypost.model.repair_steps import Step
from waypost.model.surroundings import NOWHERE, Surroundings
from waypost.repair.port import DENIED_MS, CallFailed, Denied
from waypost.wire.repair_results import RepairResult, StepOutcome, StepResult

DEADLINE_MS = RUN_MS - 60_000
"""After a grant. Then whoever waits for the outcome gives up; it has to be told before."""

VERIFY_MS = 10 * 60_000
"""How long the repaired state may take to come, beyond its dwell: an image has to be pulled."""


class Phase(str, Enum):
    """How far an action has come."""

    PENDING = "pending"
    RUNNING = "running"
    VERIFYING = "verifying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """An action under way. `notes`: by step, what it noted. `since`: when the phase, or the step, began. `quiet_since`:
    when the API server last did what it was asked, or the step began. `denied_since`: since when it says that we may
    not, 0: it does not. `tries`: calls without success. `good_since`: since when everything holds, 0: it does not.
    `table`: endpoints in the service's table now, as far as the budget has heard; -1 unknown."""

    action: RepairAction
    around: Surroundings = NOWHERE
    phase: Phase = Phase.PENDING
    results: tuple[StepResult, ...] = ()
    notes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    began_at: int = 0
    since: int = 0
    quiet_since: int = 0
    denied_since: int = 0
    tries: int = 0
    good_since: int = 0
    detail: str = ""
    cancelled: bool = False
    table: int = -1
    isolations: tuple[Isolation, ...] = ()
    wake_at: int = 0

    @classmethod
    def of(cls, action: RepairAction, around: Surroundings, now: int) -> Execution:
        """Return the execution of an action that was just granted."""
        return cls(action=action, around=around, table=around.healthy, wake_at=now)

    @property
    def step(self) -> int:
        """Return the number of the step whose turn it is."""
        return len(self.results)

    @property
    def rest(self) -> tuple[Step, ...]:
        """Return the steps that have not ended."""
        return self.action.steps[self.step :]

    @property
    def failed(self) -> StepResult | None:
        """Return the first step that failed."""
        return next((one for one in self.results if one.outcome is StepOutcome.FAILED), None)

    @property
    def deadline(self) -> int:
        return self.action.granted_at + DEADLINE_MS

    def failing(self, error: CallFailed, now: int) -> Execution:
        """Return it after one more call that failed. The first that is denied begins the count anew, and any other ends
        the denial: an outage says nothing of our rights."""
        if not isinstance(error, Denied):
            return replace(self, denied_since=0, tries=self.tries + 1)
        if not self.denied_since:
            return replace(self, denied_since=now, tries=1)
        return replace(self, tries=self.tries + 1)

    def is_denied(self, now: int) -> bool:
        """Tell whether we may not for good. Time in which nobody asked does not do."""
        return bool(self.denied_since) and now >= self.denied_since + DENIED_MS and self.tries >= 3

    def with_notes(self, index: int, notes: Mapping[str, str]) -> Execution:
        if not notes:
            return self
        return replace(self, notes={**self.notes, index: {**self.notes.get(index, {}), **notes}})


def ended(execution: Execution, outcome: Outcome, detail: str, now: int) -> RepairResult:
    """Return the result of an action that is over; steps that had no turn were skipped."""
    skipped = tuple(StepResult(do=step.do, outcome=StepOutcome.SKIPPED) for step in execution.rest)
    return RepairResult(
        id=execution.action.id,
        target=execution.action.target,
        outcome=outcome,
        at=now,
        began_at=execution.began_at,
        detail=detail,
        steps=execution.results + skipped,
    )
