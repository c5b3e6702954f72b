"""What was done to a target is taken back when the last fault that wants it is over, and until that is done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import MINUTE, SECOND, T0, a_node_alert, a_node_policy, a_policy, an_alert
from tests.model.test_alert_processor import HOUR, Target, actions, reasons
from waypost.model.alert_processor import Cancelled, Told
from waypost.model.refusals import Reason
from waypost.model.repair_action import LOST_MS, Outcome, RepairAction, is_undo_of, undo_id
from waypost.model.repair_policy import Mode
from waypost.model.repair_state import STALE_MS, Phase
from waypost.model.repair_steps import Do, Step
from waypost.model.taking_back import LONGEST_PAUSE_MS

SUCCEEDED, FAILED, NOT_DONE = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.NOT_DONE


def a_repaired_node(**policy: object) -> tuple[Target, RepairAction]:
    """A node that was cordoned for alert `a`, at T0 + 1 min, and no cooldown left 10 s later."""
    target = Target(a_node_policy(**({"cooldown_ms": 10 * SECOND} | policy)))
    [action] = actions(target.alert(a_node_alert(fingerprint="a"), T0))
    target.result(action.id, SUCCEEDED, T0 + MINUTE)
    return target, action


def over(target: Target, fingerprint: str, now: int) -> list[Told]:
    return target.alert(a_node_alert(fingerprint=fingerprint, resolved=True), now)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("acted", [True, False])
def test_of_two_alerts_of_a_node_the_last_takes_back(order: str, acted: bool) -> None:
    target, a = a_repaired_node()
    decided = actions(target.alert(a_node_alert(fingerprint="b"), T0 + (2 * MINUTE if acted else MINUTE + 1)))
    assert len(decided) == acted
    for action in decided:
        target.result(action.id, SUCCEEDED, T0 + 3 * MINUTE)

    if acted or order == "ba":
        assert actions(over(target, order[0], T0 + 3 * MINUTE)) == []
        back = actions(over(target, order[1], T0 + 4 * MINUTE))
        assert a.id in {one.undoes for one in back}
        assert len(back) == 2  # the second may have been decided and forgotten by a crash: the node is asked
    else:
        # It has done nothing yet, and will: the cordon stays.
        assert actions(over(target, "a", T0 + MINUTE + 2)) == []


def test_an_alert_whose_policy_only_shows_keeps_nothing_in_place() -> None:
    target, a = a_repaired_node()
    shown = replace(a_node_policy(mode=Mode.SHADOW), types=frozenset({"Other"}))
    target.processor = replace(
        target.processor,
        policies=replace(target.processor.policies, policies=(*target.processor.policies.policies, shown)),
    )
    target.alert(a_node_alert(fingerprint="b", type="Other"), T0 + MINUTE)

    assert [one.undoes for one in actions(over(target, "a", T0 + 2 * MINUTE))] == [a.id]


def test_an_alert_that_nobody_repeats_keeps_nothing_in_place_for_ever() -> None:
    target, a = a_repaired_node(max_attempts=1, attempts_ms=24 * HOUR)
    target.alert(a_node_alert(fingerprint="b"), T0 + MINUTE)
    assert actions(over(target, "a", T0 + 2 * MINUTE)) == []

    assert actions(target.time(T0 + MINUTE + STALE_MS - 1)) == []
    assert [one.undoes for one in actions(target.time(T0 + MINUTE + STALE_MS))] == [a.id]


def test_pods_of_a_service_are_released_one_by_one() -> None:
    target = Target(a_policy(steps=(Step.of(Do.ISOLATE),), undo=True, cooldown_ms=10 * SECOND))
    [one] = actions(target.alert(an_alert(fingerprint="a", pod="payments-1"), T0))
    target.result(one.id, SUCCEEDED, T0)
    [other] = actions(target.alert(an_alert(fingerprint="b", pod="payments-2"), T0 + MINUTE))
    target.result(other.id, SUCCEEDED, T0 + MINUTE)

    [back] = actions(target.alert(an_alert(fingerprint="a", pod="payments-1", resolved=True), T0 + HOUR))
    assert (back.undoes, back.pod) == (one.id, "payments-1")


@pytest.mark.parametrize("outcome", [FAILED, NOT_DONE])
def test_what_could_not_be_taken_back_is_asked_for_again_and_later_each_time(outcome: Outcome) -> None:
    target, action = a_repaired_node()
    [back] = actions(over(target, "a", T0 + 2 * MINUTE))
    now, pauses, ids = T0 + 2 * MINUTE, list[int](), {back.id}
    for _ in range(9):
        assert actions(target.result(back.id, outcome, now)) == []
        assert target.ask_at is not None
        pauses.append(target.ask_at - now)
        assert actions(target.time(target.ask_at - 1)) == []
        now += pauses[-1]
        [back] = actions(target.time(now))
        ids.add(back.id)

    assert pauses[0] == 30 * SECOND
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_MS
    assert len(ids) == 10
    assert all(is_undo_of(one, action.id) for one in ids)
    target.result(back.id, SUCCEEDED, now)
    assert target.ask_at is None
    assert target.time(now + HOUR) == []
    assert target.state.episodes["a"].finished


def test_a_try_whose_outcome_never_comes_is_cancelled_and_made_again() -> None:
    target, _ = a_repaired_node()
    [back] = actions(over(target, "a", T0 + 2 * MINUTE))
    lost_at = T0 + 2 * MINUTE + LOST_MS
    assert target.ask_at == lost_at

    told = target.time(lost_at)
    assert [one.action.id for one in told if isinstance(one, Cancelled)] == [back.id]
    [again] = actions(told)
    assert again.id != back.id
    assert target.result(back.id, SUCCEEDED, lost_at + 1) == []  # the old one is nobody's any more
    assert target.state.takes_back


def test_while_it_is_taken_back_nothing_else_begins() -> None:
    target, _ = a_repaired_node()
    [back] = actions(over(target, "a", T0 + 2 * MINUTE))

    assert reasons(target.alert(a_node_alert(fingerprint="b"), T0 + 3 * MINUTE)) == [Reason.TARGET_BUSY]
    target.result(back.id, SUCCEEDED, T0 + 4 * MINUTE)
    assert len(actions(target.time(T0 + 5 * MINUTE))) == 1


def test_a_fault_that_begins_again_hands_on_what_was_done_for_it() -> None:
    target, action = a_repaired_node(max_attempts=1)
    assert reasons(target.alert(a_node_alert(fingerprint="a", starts_at=T0 + HOUR), T0 + HOUR)) == [Reason.HUMAN_NEEDED]

    ended = a_node_alert(fingerprint="a", starts_at=T0 + HOUR, resolved=True)
    [back] = actions(target.alert(ended, T0 + 2 * HOUR))
    assert (back.undoes, back.starts_at) == (action.id, T0)


def test_an_attempt_that_was_not_done_does_not_hide_one_that_was() -> None:
    target = Target(a_node_policy(cooldown_ms=10 * SECOND))
    [first] = actions(target.alert(a_node_alert(), T0))
    target.result(first.id, FAILED, T0 + MINUTE)
    [second] = actions(target.time(T0 + HOUR))
    target.result(second.id, NOT_DONE, T0 + HOUR)

    [back] = actions(target.alert(a_node_alert(resolved=True), T0 + HOUR))
    assert back.undoes == first.id


@LAW
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * HOUR),
            st.sampled_from(["fire a", "end a", "fire b", "end b", "again a", "time"]) | st.sampled_from(Outcome),
        ),
        max_size=40,
    )
)
def test_whatever_happens_a_cordon_is_there_while_a_fault_wants_it_and_is_taken_back_in_the_end(
    events: list[tuple[int, str | Outcome]],
) -> None:
    """For which faults the node is cordoned is played: succeeded or failed halfway, an action has done it."""
    target, now, begins = Target(a_node_policy(cooldown_ms=10 * SECOND, max_attempts=100)), T0, T0
    cordoned: set[str] = set()
    open_ones: dict[str, RepairAction] = {}

    def happened(told: list[Told]) -> None:
        for action in actions(told):
            assert action.id not in open_ones
            open_ones[action.id] = action
            if action.undoes:
                believed = [e for e in target.state.episodes.values() if e.phase is not Phase.RESOLVED]
                assert not [e for e in believed if now < e.stale_at], "a fault that is not over wants it"

    def ends(outcome: Outcome) -> None:
        if open_ones:
            name = next(iter(open_ones))
            action = open_ones.pop(name)
            if action.undoes and outcome is SUCCEEDED:
                cordoned.discard(action.fingerprint)
            elif not action.undoes and outcome is not NOT_DONE:
                cordoned.add(action.fingerprint)
            happened(target.result(name, outcome, now))

    for pause, event in events:
        now += pause
        if isinstance(event, Outcome):
            ends(event)
        elif event == "time":
            happened(target.time(now))
        elif event == "again a":
            begins = now
            happened(target.alert(a_node_alert(fingerprint="a", starts_at=begins), now))
        else:
            what, name = event.split()
            at = begins if name == "a" else T0
            happened(target.alert(a_node_alert(fingerprint=name, starts_at=at, resolved=what == "end"), now))
    for name, at in (("a", begins), ("b", T0)):
        happened(target.alert(a_node_alert(fingerprint=name, starts_at=at, resolved=True), now))
    for _ in range(10):
        while open_ones:
            ends(SUCCEEDED)
        now += LOST_MS
        happened(target.time(now))

    assert not cordoned
    assert all(e.finished for e in target.state.episodes.values())


def test_ids_say_what_they_undo() -> None:
    assert is_undo_of(undo_id("x", 7), "x")
    assert not is_undo_of(undo_id("x", 7), "y")
    assert len(undo_id("x", 7)) == 32
