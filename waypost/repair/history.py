"""What the topics say of each fault: from the first decision to the outcome, in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from waypost.model.repair_action import RepairAction
from waypost.model.repair_steps import Step
from waypost.wire.repair_decisions import DecisionKind, DecisionRecord
from waypost.wire.repair_results import RepairResult


@dataclass(slots=True)
class Story:
    """All that was decided about one fault of a target, and what became of it. Copies of records are left out."""

    target: str
    type: str
    fingerprint: str
    starts_at: int
    decisions: list[DecisionRecord] = field(default_factory=list)
    results: list[RepairResult] = field(default_factory=list)

    @property
    def at(self) -> int:
        """Return when something was told last."""
        return max([one.at for one in self.decisions] + [one.at for one in self.results])

    @property
    def action(self) -> RepairAction | None:
        """Return the newest action that was decided, or would have been."""
        return next((one.action for one in reversed(self.decisions) if one.action is not None), None)

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.action.steps if self.action is not None else ()

    @property
    def state(self) -> str:
        """Return one word for where it stands: an outcome, the reason of a refusal, `waits`, `runs` or `cancelled`."""
        last = self._last
        if isinstance(last, RepairResult):
            return last.outcome.value
        if last.reason is not None:
            return last.reason.value
        return {DecisionKind.ASK: "waits", DecisionKind.CANCEL: "cancelled"}.get(last.kind, "runs")

    @property
    def detail(self) -> str:
        return self._last.detail

    @property
    def _last(self) -> DecisionRecord | RepairResult:
        """Return what says where it stands: what was told last, unless it is about an action that had ended. (A job
        that comes back from a checkpoint decides again what it had decided since.)"""
        last = self.decisions[-1]
        result = self.results[-1] if self.results else None
        if result is None:
            return last
        has_ended = last.reason is None and last.action is not None and last.action.id == result.id
        return result if has_ended or result.at >= last.at else last


def stories(decisions: Iterable[DecisionRecord], results: Iterable[RepairResult]) -> list[Story]:
    """Return one story per fault, the one that was told of last at the end. Outcomes without a decision are left out:
    what they are about is older than what was read."""
    found: dict[tuple[str, str, int], Story] = {}
    of_action: dict[str, Story] = {}
    for one in sorted(decisions, key=lambda one: one.at):
        key = one.target, one.fingerprint, one.starts_at
        story = found.setdefault(key, Story(one.target, one.type, one.fingerprint, one.starts_at))
        if one not in story.decisions:
            story.decisions.append(one)
        if one.action is not None:
            of_action[one.action.id] = story
    for result in sorted(results, key=lambda one: one.at):
        about = of_action.get(result.id)
        if about is not None and all(result.id != one.id or result.outcome != one.outcome for one in about.results):
            about.results.append(result)
    return sorted(found.values(), key=lambda story: story.at)


def waiting_for_approval(known: Iterable[Story], action: str) -> list[Story]:
    """Return the stories that wait for a person's word about an action whose id begins so."""
    return [
        story
        for story in known
        if story.state == "needs-approval" and story.action is not None and story.action.id.startswith(action)
    ]
