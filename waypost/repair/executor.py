"""Gives actions their turns: the one place where a decision becomes a call.

Each turn looks at the switch first and again right before its change, makes one at most, and returns the action's new
state; whoever stores that state resumes anywhere. What a lost state would do again, the objects' own ledger prevents
(`waypost.repair.claims`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from waypost.model.isolation import Isolation, Verb
from waypost.model.refusals import Reason
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import HARMLESS, Do
from waypost.repair.execution import VERIFY_MS, Execution, Phase, ended
from waypost.repair.objects import Note, Reference
from waypost.repair.port import CallFailed, Cluster, Conflict, Denied, EmptyName, NotNow, Stopped, Unavailable
from waypost.repair.steps import WAYS
from waypost.repair.steps.progress import Check, Progress, Turn, Webhooks, Word
from waypost.repair.switched import Stop, SwitchedCluster
from waypost.wire.repair_results import RepairResult, StepOutcome, StepResult

log = logging.getLogger(__name__)

SWITCH_MS = 1_000
"""How often the switch is looked at while it is off."""
LOOK_MS = 2_000
"""How often the repaired state is looked at."""
GIVE_UP_MS = 180_000
"""How long a step goes on asking an API server that fails."""
MAX_CONFLICTS = 20
APART = frozenset({Do.ISOLATE, Do.RELEASE})
"""Steps that only write records. They are done although an earlier step failed: an API server that is away need not
keep a dead node's endpoints in the tables."""
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 500, 15_000

_OUTCOMES = {
    Word.DONE: StepOutcome.DONE,
    Word.ALREADY: StepOutcome.ALREADY,
    Word.SKIPPED: StepOutcome.SKIPPED,
    Word.FAILED: StepOutcome.FAILED,
    Word.LEFT: StepOutcome.SKIPPED,
    Word.LAST: StepOutcome.SKIPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What an executor acts in. `stopped` is asked before each turn and each change. `alarm` hears of calls that named
    nothing."""

    cluster: Cluster
    webhooks: Webhooks
    stopped: Stop
    protected: Callable[[], frozenset[str]] = lambda: frozenset({"kube-system"})
    alarm: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a turn led to: the new state, or the result when it is over; and records to be written."""

    execution: Execution
    result: RepairResult | None = None
    isolations: tuple[Isolation, ...] = ()


@dataclass(frozen=True, slots=True)
class Executor:
    """See the module."""

    world: World
    isolated_by: Callable[[str], tuple[Isolation, ...]] = field(default=lambda _action: ())

    def advance(self, execution: Execution, now: int) -> Given:
        """Give an action one turn at `now`, epoch ms."""
        if execution.phase is Phase.PENDING:
            return self._begin(execution, now)
        if now >= execution.deadline:
            return self._over(execution, Outcome.FAILED, f"not done in time: {execution.detail}", now)
        if execution.phase is Phase.VERIFYING:
            return self._verify(execution, now)
        if execution.cancelled:
            if not execution.results and not execution.notes:
                return self._not_begun(execution, "its alert ended before it changed anything", now)
            # What was done, or may have been, has to be heard of: it is to be taken back.
            outcome = Outcome.SUCCEEDED if execution.failed is None else Outcome.FAILED
            return self._over(execution, outcome, "the alert ended while it was repaired", now)
        stopped = self.world.stopped()
        if stopped is not None:
            return _still(execution, stopped.value, now)
        return self._run(execution, now)

    def _begin(self, execution: Execution, now: int) -> Given:
        action = execution.action
        if not action.granted_at:
            return self._over(execution, Outcome.NOT_DONE, "it was not granted", now)
        if execution.cancelled:
            return self._not_begun(execution, "its alert ended before it began", now)
        if now >= action.begin_by:
            return self._not_begun(execution, "too late to begin", now)
        stopped = self.world.stopped()
        if stopped is not None:
            return _waiting(execution, f"not begun: {stopped.value}", now + SWITCH_MS)
        begun = replace(execution, phase=Phase.RUNNING, began_at=now, since=now, quiet_since=now)
        return self._run(begun, now)

    def _not_begun(self, execution: Execution, why: str, now: int) -> Given:
        """Say that nothing was done, unless the objects know better: then state was lost, and somebody has to take back
        what was."""
        try:
            begun = any(
                WAYS[step.do].begun(self._turn(execution, index, now))
                for index, step in enumerate(execution.action.steps)
            )
        except (Unavailable, Conflict, NotNow) as error:
            if now < execution.deadline:
                return _waiting(execution.failing(error, now), f"{why}, if it did: {error}", now + LOOK_MS)
            begun = False
        except Denied as error:
            execution = execution.failing(error, now)
            if not execution.is_denied(now):
                return _waiting(execution, f"{why}, if it did: {error}", now + LOOK_MS)
            begun = False  # Whoever may not even look has changed nothing.
        except CallFailed:
            begun = False
        if not begun:
            return self._over(execution, Outcome.NOT_DONE, why, now)
        if execution.cancelled:
            return self._over(execution, Outcome.SUCCEEDED, "the alert ended while it was repaired", now)
        return self._over(execution, Outcome.FAILED, "it was begun, and how far it came is not known any more", now)

    def _run(self, execution: Execution, now: int) -> Given:
        if not execution.rest:
            return self._onward(execution, now)
        index, step = execution.step, execution.action.steps[execution.step]
        try:
            progress = WAYS[step.do].do(self._turn(execution, index, now))
        except EmptyName as error:
            self.world.alarm(f"{execution.action.id} {step.do.value}: {error}")
            progress = Progress(word=Word.FAILED, detail=str(error))
        except Stopped as error:
            return _still(execution, str(error), now)
        except (Unavailable, Conflict, NotNow, Denied) as error:
            return self._again(execution, error, now)
        except CallFailed as error:
            progress = Progress(word=Word.FAILED, detail=str(error))
        return self._noted(execution, progress, now)

    def _noted(self, execution: Execution, progress: Progress, now: int) -> Given:
        index, step = execution.step, execution.action.steps[execution.step]
        noted = execution.with_notes(index, progress.notes)
        after = replace(noted, quiet_since=now, denied_since=0, tries=0, detail=progress.detail)
        if progress.word is Word.WAIT:
            return _waiting(after, progress.detail, now + progress.after_ms)
        told = StepResult(do=step.do, outcome=_OUTCOMES[progress.word], detail=progress.detail[:1000])
        kept = tuple(word for word in progress.isolations if word.verb is Verb.ISOLATE)
        after = replace(
            after, results=(*after.results, told), since=now, isolations=after.isolations + kept, wake_at=now
        )
        if progress.about is not None:
            self._tell(after, index, progress.about, progress.detail, now, warning=progress.word is Word.FAILED)
        if progress.word is Word.LAST:
            # Before its first change it is as if it had not been granted; behind one, somebody has to hear of it.
            changed = (StepOutcome.DONE, StepOutcome.ALREADY, StepOutcome.FAILED)
            done = any(one.outcome in changed for one in after.results)
            outcome = Outcome.FAILED if done else Outcome.NOT_DONE
            return self._over(after, outcome, f"{Reason.LAST_REPLICAS.value}: {progress.detail}", now)
        if progress.word is Word.LEFT:
            return self._over(after, Outcome.SUCCEEDED, f"left to people: {progress.detail}", now)
        return replace(self._onward(after, now), isolations=progress.isolations)

    def _again(self, execution: Execution, error: CallFailed, now: int) -> Given:
        step = execution.action.steps[execution.step]
        execution = execution.failing(error, now)
        tries = execution.tries
        if (
            now >= execution.quiet_since + GIVE_UP_MS
            or (isinstance(error, Conflict) and tries > MAX_CONFLICTS)
            or execution.is_denied(now)
        ):
            told = StepResult(do=step.do, outcome=StepOutcome.FAILED, detail=f"given up: {error}"[:1000])
            after = replace(
                execution, results=(*execution.results, told), since=now, quiet_since=now, denied_since=0, tries=0,
                wake_at=now,
            )  # fmt: skip
            return self._onward(after, now)
        pause = min(_LONGEST_PAUSE_MS, _FIRST_PAUSE_MS * 2 ** min(tries - 1, 10))
        if isinstance(error, Conflict):
            pause = 20 * tries
        return _waiting(execution, f"{step.do.value}: {error}", now + pause)

    def _onward(self, execution: Execution, now: int) -> Given:
        """Go on to the next step. Behind a failed one only those have a turn that need nothing from the API server."""
        failed = execution.failed
        while failed is not None and execution.rest and execution.rest[0].do not in APART:
            skipped = StepResult(do=execution.rest[0].do, outcome=StepOutcome.SKIPPED)
            execution = replace(execution, results=(*execution.results, skipped))
        if execution.rest:
            return Given(execution=execution)
        if failed is not None:
            return self._over(execution, Outcome.FAILED, f"{failed.do.value}: {failed.detail}", now)
        return self._run_out(execution, now)

    def _run_out(self, execution: Execution, now: int) -> Given:
        """All steps have had their turns."""
        if all(step.do in HARMLESS for step in execution.action.steps):
            return self._over(execution, Outcome.SUCCEEDED, execution.detail, now)
        return _waiting(replace(execution, phase=Phase.VERIFYING, since=now, good_since=0), execution.detail, now)

    def _verify(self, execution: Execution, now: int) -> Given:
        try:
            check = self._check(execution, now)
        except CallFailed as error:
            check = None
            execution = replace(execution, detail=str(error))
        if check is not None and check.left:
            return self._over(execution, Outcome.SUCCEEDED, f"left to people: {check.detail}", now)
        dwell = execution.action.dwell_ms
        if check is not None and check.holds:
            good_since = execution.good_since or now
            if now - good_since >= dwell:
                return self._over(execution, Outcome.SUCCEEDED, f"verified for {dwell // 1000} s", now)
            wake_at = min(now + LOOK_MS, good_since + dwell)
            return _waiting(replace(execution, good_since=good_since), execution.detail, wake_at)
        if check is not None:
            execution = replace(execution, good_since=0, detail=check.detail)
        if now >= execution.since + dwell + VERIFY_MS:
            return self._over(execution, Outcome.FAILED, f"not verified: {execution.detail}", now)
        return _waiting(execution, execution.detail, now + LOOK_MS)

    def _check(self, execution: Execution, now: int) -> Check:
        for index, step in enumerate(execution.action.steps):
            check = WAYS[step.do].check(self._turn(execution, index, now))
            if not check.holds or check.left:
                return check
        return Check(True)

    def _turn(self, execution: Execution, index: int, now: int) -> Turn:
        action = execution.action
        return Turn(
            action=action,
            index=index,
            around=execution.around,
            cluster=SwitchedCluster(self.world.cluster, self.world.stopped),
            webhooks=self.world.webhooks,
            notes=execution.notes.get(index, {}),
            protected=self.world.protected(),
            isolated=self.isolated_by(action.undoes) if action.undoes else (),
            results=execution.results[:index],
            table=execution.table,
            since=execution.since,
            now=now,
        )

    def _over(self, execution: Execution, outcome: Outcome, detail: str, now: int) -> Given:
        return Given(execution=execution, result=ended(execution, outcome, detail, now))

    def _tell(self, execution: Execution, index: int, about: Reference, text: str, now: int, *, warning: bool) -> None:
        """Write an Event, or not: a repair does not fail for want of words."""
        action = execution.action
        message = f"{text} ({action.type}, policy {action.policy}, action {action.id})"
        note = Note(
            id=f"{action.id}.{index}", about=about, reason="WaypostRepair", message=message, warning=warning, at=now
        )
        try:
            self.world.cluster.tell(note)
        except CallFailed as error:
            log.warning("no event about %s: %s", about, error)


def _still(execution: Execution, why: str, now: int) -> Given:
    return _waiting(replace(execution, quiet_since=now, denied_since=0), f"stands still: {why}", now + SWITCH_MS)


def _waiting(execution: Execution, detail: str, wake_at: int) -> Given:
    return Given(execution=replace(execution, detail=detail[:1000], wake_at=wake_at))
