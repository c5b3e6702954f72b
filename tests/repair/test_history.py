"""What `waypost repair list` says of a fault, from what the topics say."""

from __future__ import annotations

from dataclasses import replace

from tests.model.repairs import T0, an_alert
from tests.repair.played import an_action
from waypost.model.refusals import Reason
from waypost.model.repair import Refusal
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import Do, Step
from waypost.repair.history import Story, stories
from waypost.wire.repair_decisions import action_record, cancel_record, decision_record
from waypost.wire.repair_results import RepairResult

ALERT = an_alert()
ACTION = an_action(Step.of(Do.EVICT_POD), fingerprint=ALERT.fingerprint, starts_at=ALERT.starts_at, granted_at=0)
GRANTED = replace(ACTION, granted_at=T0 + 1)
ASKED, ACTED = action_record(ACTION, T0), action_record(GRANTED, T0 + 1)
DONE = RepairResult(id=ACTION.id, target=ACTION.target, outcome=Outcome.SUCCEEDED, at=T0 + 5, detail="3 of 3 are ready")


def story(*told: object) -> Story:
    [found] = stories(
        [one for one in told if not isinstance(one, RepairResult)],  # type: ignore[misc]
        [one for one in told if isinstance(one, RepairResult)],
    )
    return found


def test_each_step_is_what_was_told_last() -> None:
    assert story(ASKED).state == "waits"
    assert story(ASKED, ACTED).state == "runs"
    assert story(ASKED, ACTED, DONE).state == "succeeded"
    assert story(ASKED, ACTED, DONE).detail == "3 of 3 are ready"
    assert story(ASKED, cancel_record(ACTION, T0 + 2)).state == "cancelled"


def test_what_is_told_twice_is_there_once_and_in_order() -> None:
    found = story(DONE, ACTED, ASKED, ACTED, DONE)
    assert (found.decisions, found.results) == ([ASKED, ACTED], [DONE])


def test_an_action_that_has_ended_does_not_run_because_a_restored_job_decides_it_again() -> None:
    again = action_record(ACTION, T0 + 60), action_record(replace(ACTION, granted_at=T0 + 61), T0 + 61)
    assert story(ASKED, ACTED, DONE, *again).state == "succeeded"
    assert story(ASKED, ACTED, DONE, *again, replace(DONE, at=T0 + 65)).state == "succeeded"


def test_a_refusal_and_another_attempt_after_an_end_are_news() -> None:
    refusal = Refusal(reason=Reason.COOLDOWN, detail="until 12:10")
    refused = decision_record(ALERT, refusal, T0 + 60)
    second = replace(ACTION, id="0" * 32, attempt=2, decided_at=T0 + 60)
    assert (story(ASKED, ACTED, DONE, refused).state, story(ASKED, ACTED, DONE, refused).detail) == (
        Reason.COOLDOWN.value,
        "until 12:10",
    )
    assert story(ASKED, ACTED, DONE, action_record(second, T0 + 60)).state == "waits"


def test_outcomes_of_what_is_not_known_any_more_are_left_out() -> None:
    assert stories([], [DONE]) == []
