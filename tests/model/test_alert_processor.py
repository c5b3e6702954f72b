"""Decisions over time: notifications in any order and number, outcomes, approvals, ends."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import (
    MINUTE,
    SECOND,
    T0,
    a_node_alert,
    a_node_policy,
    a_policy,
    an_alert,
    observed,
    policies,
)
from waypost.model.alert import Alert
from waypost.model.alert_processor import AlertProcessor, Cancelled, Decided, Processed, Told
from waypost.model.kill_switch import Control
from waypost.model.refusals import Reason
from waypost.model.repair import Observed, Refusal
from waypost.model.repair_action import QUEUE_MS, RUN_MS, Outcome, RepairAction
from waypost.model.repair_policy import MOST_ATTEMPTS, Mode, RepairPolicy
from waypost.model.repair_state import EMPTY, MAX_EPISODES, STALE_MS, Approval, TargetState
from waypost.model.repair_steps import Do, Step

HOUR = 60 * MINUTE


class Target:
    """A target with its state, to which things happen; keeps all that was told."""

    def __init__(self, *several: RepairPolicy, on: bool = True) -> None:
        self.processor = AlertProcessor(policies(*several))
        self.state: TargetState = EMPTY
        self.told: list[Told] = []
        self.ask_at: int | None = None
        self.on = on

    def alert(self, alert: Alert, now: int) -> list[Told]:
        return self._done(self.processor.on_alert(self._seen(now), alert, now))

    def time(self, now: int) -> list[Told]:
        return self._done(self.processor.on_time(self._seen(now), now))

    def result(self, action: str, outcome: Outcome, now: int) -> list[Told]:
        return self._done(self.processor.on_result(self.state, action, outcome, now))

    def approve(self, asked: RepairAction | None, now: int, at: int | None = None) -> list[Told]:
        """A person says yes to what was asked, or to what nobody asked."""
        id_, plan = (asked.id, asked.plan) if asked is not None else ("0" * 32, "")
        approval = Approval(id_, "ann", now if at is None else at, plan)
        return self._done(self.processor.on_approval(self._seen(now), approval, now))

    def resume(self, now: int) -> list[Told]:
        return self._done(self.processor.on_resume(self.state, now))

    def _seen(self, now: int) -> Observed:
        return replace(observed(now, self.state), control=Control(self.on, now))

    def _done(self, processed: Processed) -> list[Told]:
        self.state, self.ask_at = processed.state, processed.ask_at
        self.told += processed.told
        return list(processed.told)


def actions(told: list[Told]) -> list[RepairAction]:
    return [t.decision for t in told if isinstance(t, Decided) and isinstance(t.decision, RepairAction)]


def reasons(told: list[Told]) -> list[Reason]:
    return [t.decision.reason for t in told if isinstance(t, Decided) and isinstance(t.decision, Refusal)]


def test_a_waiting_alert_is_decided_when_its_time_has_come() -> None:
    target = Target(a_policy(wait_ms=5 * SECOND))

    assert reasons(target.alert(an_alert(), T0)) == [Reason.WAITING]
    assert target.ask_at == T0 + 5 * SECOND
    assert reasons(target.time(T0 + 4 * SECOND)) == []  # told once
    assert len(actions(target.time(T0 + 5 * SECOND))) == 1


def test_an_alert_that_ends_while_it_waits_is_never_acted_on() -> None:
    target = Target(a_policy(wait_ms=5 * SECOND))
    target.alert(an_alert(), T0)

    assert reasons(target.alert(an_alert(resolved=True), T0 + SECOND)) == [Reason.RESOLVED]
    assert target.ask_at is None
    assert target.time(T0 + MINUTE) == []
    assert reasons(target.alert(an_alert(), T0 + MINUTE)) == [Reason.RESOLVED]  # a copy that was late
    assert actions(target.told) == []


def test_the_end_of_an_alert_cancels_what_is_under_way_once() -> None:
    target = Target(a_policy())
    [action] = actions(target.alert(an_alert(), T0))

    told = target.alert(an_alert(resolved=True), T0 + SECOND)
    again = target.alert(an_alert(resolved=True), T0 + SECOND)

    assert [t.action.id for t in told if isinstance(t, Cancelled)] == [action.id]
    assert [t for t in again if isinstance(t, Cancelled)] == []


def test_a_repaired_fault_needs_new_evidence() -> None:
    target = Target(a_policy())
    [action] = actions(target.alert(an_alert(), T0))
    target.result(action.id, Outcome.SUCCEEDED, T0 + MINUTE)

    assert reasons(target.alert(an_alert(), T0 + 24 * HOUR)) == [Reason.ALREADY_REPAIRED]
    [second] = actions(target.alert(an_alert(starts_at=T0 + HOUR), T0 + 24 * HOUR))
    assert second.id != action.id


def test_a_failed_repair_is_tried_again_after_its_cooldown_under_another_id() -> None:
    target = Target(a_policy())
    [first] = actions(target.alert(an_alert(), T0))
    target.result(first.id, Outcome.FAILED, T0 + MINUTE)

    assert actions(target.time(T0 + 5 * MINUTE)) == []
    [second] = actions(target.time(T0 + 6 * MINUTE))
    assert (second.attempt, second.id == first.id) == (2, False)


def test_what_was_not_done_is_decided_again_and_is_no_attempt() -> None:
    target = Target(a_policy(max_attempts=1))
    [first] = actions(target.alert(an_alert(), T0))
    target.result(first.id, Outcome.NOT_DONE, T0 + SECOND)

    [second] = actions(target.time(T0 + MINUTE))
    assert second.id != first.id


def test_who_is_never_able_to_do_it_is_asked_ever_less_often() -> None:
    target, now = Target(a_policy()), T0
    [action] = actions(target.alert(an_alert(), now))
    pauses = []
    for _ in range(9):
        target.result(action.id, Outcome.NOT_DONE, now)
        before = now
        while not (found := actions(target.time(now))):
            now += SECOND
            assert now - before < HOUR
        [action] = found
        pauses.append((now - before) // SECOND)

    assert pauses == [10, 20, 40, 80, 160, 320, 640, 640, 640]


def test_an_outcome_that_never_comes_is_a_failure() -> None:
    target = Target(a_policy(max_attempts=1))
    target.alert(an_alert(), T0)

    assert target.ask_at == T0 + QUEUE_MS + RUN_MS
    assert Reason.EXPIRED in reasons(target.time(T0 + QUEUE_MS + RUN_MS))
    assert target.state.failures == 1


def test_after_max_attempts_a_person_resumes_the_target() -> None:
    target = Target(a_policy(max_attempts=1))
    [first] = actions(target.alert(an_alert(), T0))
    target.result(first.id, Outcome.FAILED, T0)

    assert reasons(target.time(T0 + HOUR)) == [Reason.HUMAN_NEEDED]
    target.resume(T0 + HOUR)
    assert len(actions(target.time(T0 + HOUR))) == 1


def test_an_alert_that_nobody_repeats_does_not_act_any_more() -> None:
    target = Target(a_policy(), on=False)
    target.alert(an_alert(), T0)
    target.alert(an_alert(), T0 + HOUR)

    target.on = True
    assert reasons(target.time(T0 + HOUR + STALE_MS)) == [Reason.NOT_REPEATED]
    assert target.ask_at is None
    assert len(actions(target.alert(an_alert(), T0 + 48 * HOUR))) == 1


def test_the_last_moment_of_an_alert_is_twelve_hours_after_it_was_heard() -> None:
    target = Target(a_policy(), on=False)
    target.alert(an_alert(), T0)

    target.on = True
    assert len(actions(target.time(T0 + 12 * HOUR - 1))) == 1


def test_alerts_that_nobody_repeats_make_room() -> None:
    target = Target(a_policy(mode=Mode.SHADOW))
    for n in range(MAX_EPISODES):
        target.alert(an_alert(fingerprint=f"f{n}", starts_at=T0 + n), T0)
    assert reasons(target.alert(an_alert(fingerprint="more", starts_at=T0 + 999), T0)) == [Reason.TOO_MANY_ALERTS]

    assert reasons(target.alert(an_alert(fingerprint="more", starts_at=T0 + 999), T0 + STALE_MS)) == [Reason.SHADOW]


@pytest.mark.parametrize("most", [1, 16, 17, MOST_ATTEMPTS])
def test_no_target_has_more_attempts_than_its_policy_says(most: int) -> None:
    """However small its cooldown, and however long ago the first of them."""
    target, now, begun = Target(a_policy(max_attempts=most, cooldown_ms=10 * SECOND)), T0, 0
    told = target.alert(an_alert(), now)
    while now < T0 + 6 * HOUR:
        for action in actions(told):
            begun += 1
            target.result(action.id, Outcome.FAILED, now)
        now += 2 * MINUTE
        told = target.time(now)

    assert begun == most


def test_what_is_to_be_approved_waits_expires_and_may_be_asked_again() -> None:
    target = Target(a_policy(mode=Mode.APPROVE, approval_ms=MINUTE))
    target.alert(an_alert(), T0)
    [asked] = target.told
    assert isinstance(asked, Decided)
    assert isinstance(asked.decision, Refusal)
    assert asked.decision.would is not None

    assert reasons(target.time(T0 + MINUTE)) == [Reason.APPROVAL_EXPIRED]
    assert target.approve(None, T0 + MINUTE) == []
    assert reasons(target.alert(an_alert(), T0 + HOUR)) == [Reason.NEEDS_APPROVAL]
    [action] = actions(target.approve(asked.decision.would, T0 + HOUR + SECOND))
    assert action.id == asked.decision.would.id


def asked_of(told: list[Told]) -> RepairAction:
    """What a person is asked to approve."""
    [one] = told
    assert isinstance(one, Decided)
    assert isinstance(one.decision, Refusal)
    assert one.decision.reason is Reason.NEEDS_APPROVAL
    assert one.decision.would is not None
    return one.decision.would


def test_an_approval_is_for_what_was_asked_and_no_other_policy_s_steps() -> None:
    gentle, harsh = (
        a_policy(mode=Mode.APPROVE, steps=(Step.of(Do.NOTIFY),)),
        a_policy(mode=Mode.APPROVE, steps=(Step.of(Do.RESTART),)),
    )
    target = Target(gentle)
    asked = asked_of(target.alert(an_alert(), T0))

    target.processor = AlertProcessor(policies(harsh))
    again = asked_of(target.approve(asked, T0 + SECOND))
    assert [step.do for step in again.steps] == [Do.RESTART]
    assert target.time(T0 + MINUTE) == []  # asked once
    [action] = actions(target.approve(again, T0 + MINUTE))
    assert action.steps == again.steps


def test_an_approval_that_comes_while_repairs_are_paused_is_kept_until_it_expires() -> None:
    for back_after, begins in ((30 * MINUTE, True), (HOUR, False)):
        target = Target(a_policy(mode=Mode.APPROVE))
        asked = asked_of(target.alert(an_alert(), T0))
        target.on = False
        assert reasons(target.approve(asked, T0 + SECOND)) == [Reason.KILL_SWITCH]

        target.on = True
        assert len(actions(target.time(T0 + SECOND + back_after))) == begins


def test_an_approval_by_a_clock_that_is_ahead_lasts_no_longer() -> None:
    target = Target(a_policy(mode=Mode.APPROVE))
    asked = asked_of(target.alert(an_alert(), T0))
    target.on = False
    target.approve(asked, T0 + SECOND, at=T0 + 1000 * HOUR)

    target.on = True
    assert actions(target.time(T0 + HOUR + SECOND)) == []


def test_a_policy_that_begins_to_act_is_seen_without_a_new_notification() -> None:
    target = Target(a_policy(mode=Mode.SHADOW))
    target.alert(an_alert(), T0)
    assert target.ask_at is not None

    target.processor = AlertProcessor(policies(a_policy()))
    assert len(actions(target.time(target.ask_at))) == 1


def test_a_cordon_is_taken_back_when_the_alert_ends() -> None:
    target = Target(a_node_policy())
    [action] = actions(target.alert(a_node_alert(), T0))
    target.result(action.id, Outcome.SUCCEEDED, T0 + MINUTE)

    [back] = actions(target.alert(a_node_alert(resolved=True), T0 + HOUR))
    assert back.undoes == action.id
    assert [step.do for step in back.steps] == [Do.RELEASE, Do.UNCORDON]
    assert actions(target.alert(a_node_alert(resolved=True), T0 + HOUR)) == []


def test_a_cordon_under_way_is_taken_back_once_its_outcome_is_known() -> None:
    target = Target(a_node_policy())
    [action] = actions(target.alert(a_node_alert(), T0))

    assert actions(target.alert(a_node_alert(resolved=True), T0 + SECOND)) == []
    [back] = actions(target.result(action.id, Outcome.FAILED, T0 + MINUTE))
    assert back.undoes == action.id


def test_nothing_is_taken_back_when_the_policy_does_not_say_so_or_nothing_was_done() -> None:
    quiet, never_begun = Target(a_node_policy(undo=False)), Target(a_node_policy())
    [one] = actions(quiet.alert(a_node_alert(), T0))
    [other] = actions(never_begun.alert(a_node_alert(), T0))
    quiet.result(one.id, Outcome.SUCCEEDED, T0)
    never_begun.alert(a_node_alert(resolved=True), T0)

    assert actions(quiet.alert(a_node_alert(resolved=True), T0 + HOUR)) == []
    assert actions(never_begun.result(other.id, Outcome.NOT_DONE, T0)) == []


def test_a_switch_that_is_turned_on_again_lets_waiting_alerts_pass() -> None:
    target = Target(a_policy(), on=False)
    assert reasons(target.alert(an_alert(), T0)) == [Reason.KILL_SWITCH]
    assert target.ask_at is not None

    target.on = True
    assert len(actions(target.time(target.ask_at))) == 1


def test_a_flood_of_faults_is_bounded_and_what_is_forgotten_stays_over() -> None:
    target = Target(a_policy(mode=Mode.SHADOW))
    for n in range(MAX_EPISODES):
        target.alert(an_alert(fingerprint=f"f{n}", starts_at=T0 + n), T0)
    assert reasons(target.alert(an_alert(fingerprint="more", starts_at=T0 + 1), T0)) == [Reason.TOO_MANY_ALERTS]

    target.alert(an_alert(fingerprint="f9", starts_at=T0 + 9, resolved=True), T0)
    target.alert(an_alert(fingerprint="new", starts_at=T0 + 999), T0)

    assert len(target.state.episodes) == MAX_EPISODES
    assert "f9" not in target.state.episodes
    assert reasons(target.alert(an_alert(fingerprint="f9", starts_at=T0 + 9), T0)) == [Reason.STALE]


NOTIFICATIONS = st.builds(
    an_alert,
    fingerprint=st.sampled_from(["a", "b"]),
    starts_at=st.sampled_from([T0, T0 + 1, T0 + 2]),
    resolved=st.booleans(),
)
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 20 * MINUTE),
        NOTIFICATIONS | st.sampled_from(Outcome) | st.just("time") | st.just("resume") | st.just("approve"),
    ),
    max_size=40,
)


def play(events: list[tuple[int, object]], target: Target) -> Target:
    """Let it all happen; outcomes are for whatever is under way, approvals for whatever was asked last."""
    now = T0
    for pause, event in events:
        now += pause
        running = target.state.in_flight()
        if isinstance(event, Alert):
            target.alert(event, now)
        elif isinstance(event, Outcome):
            target.result(running.action.id if running and running.action else "none", event, now)
        elif event == "resume":
            target.resume(now)
        elif event == "approve":
            asked = [
                t.decision.would
                for t in target.told
                if isinstance(t, Decided) and isinstance(t.decision, Refusal) and t.decision.would
            ]
            target.approve(asked[-1] if asked else None, now)
        else:
            target.time(now)
    return target


@LAW
@given(EVENTS, st.sampled_from(Mode))
def test_whatever_happens_no_id_is_decided_twice_and_the_end_of_a_fault_is_final(
    events: list[tuple[int, object]], mode: Mode
) -> None:
    target = play(events, Target(a_policy(mode=mode)))

    decided = actions(target.told)
    assert len({action.id for action in decided}) == len(decided)
    assert mode is not Mode.SHADOW or not decided

    over: dict[str, int] = {}
    begun = 0
    for told in target.told:
        if isinstance(told, Decided) and isinstance(told.decision, RepairAction):
            begun += 1
            action = told.decision
            assert action.starts_at > over.get(action.fingerprint, -1)
        elif not told.alert.firing:
            over[told.alert.fingerprint] = max(over.get(told.alert.fingerprint, -1), told.alert.starts_at)


@LAW
@given(EVENTS)
def test_a_replay_decides_the_same(events: list[tuple[int, object]]) -> None:
    once, again = play(events, Target(a_policy())), play(events, Target(a_policy()))

    assert (once.state, once.told, once.ask_at) == (again.state, again.told, again.ask_at)


@LAW
@given(st.lists(NOTIFICATIONS, max_size=12), st.randoms(use_true_random=False))
def test_order_and_copies_of_notifications_lead_to_the_same_faults(alerts: list[Alert], random: Random) -> None:
    shuffled = [*alerts, *alerts, *alerts]
    random.shuffle(shuffled)
    straight, mixed = Target(a_policy(wait_ms=HOUR)), Target(a_policy(wait_ms=HOUR))
    for alert in alerts:
        straight.alert(alert, T0)
    for alert in shuffled:
        mixed.alert(alert, T0)

    assert phases(straight.state) == phases(mixed.state)
    assert actions(mixed.told) == []


def phases(state: TargetState) -> dict[str, tuple[int, str]]:
    return {name: (e.alert.starts_at, e.phase.value) for name, e in state.episodes.items()}
