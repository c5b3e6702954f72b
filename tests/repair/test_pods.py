"""Evicting a pod: once, the right one, and seen to be replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.repairs import MINUTE, T0
from tests.repair.played import DWELL, Played, an_action
from waypost.model.repair_action import BEGIN_MS, Outcome
from waypost.model.repair_steps import Do, Step
from waypost.model.surroundings import Surroundings
from waypost.repair.claims import CLAIMS
from waypost.repair.execution import VERIFY_MS
from waypost.repair.executor import GIVE_UP_MS
from waypost.repair.objects import DEPLOYMENT, STATEFUL_SET, Pod, Reference
from waypost.repair.port import DENIED_MS, Denied, Refused, Unavailable
from waypost.repair.steps.evict import PATIENCE_MS
from waypost.wire.repair_results import StepOutcome


def a_shop(kind: str = DEPLOYMENT, replicas: int = 3) -> tuple[Played, Pod]:
    played = Played()
    played.cluster.add_node("n1")
    played.cluster.add_workload(kind, "shop", "payments", replicas=replicas)
    played.cluster.add_service("shop", "payments", {"app": "payments"})
    return played, sorted(played.cluster.all_pods(), key=lambda pod: pod.name)[0]


def evicting(played: Played, pod: Pod, around: Surroundings | None = None) -> None:
    played.give(an_action(pod=pod.name), around or Surroundings())


def test_the_named_pod_is_evicted_once_and_success_is_told_after_the_dwell() -> None:
    played, pod = a_shop()
    evicting(played, pod)

    result = played.to_the_end()

    assert played.evictions() == [f"shop/{pod.name}"]
    assert result.outcome is Outcome.SUCCEEDED
    assert result.at >= T0 + DWELL
    assert [step.outcome for step in result.steps] == [StepOutcome.DONE]
    workload = played.cluster.workload(DEPLOYMENT, "shop", "payments")
    assert workload is not None
    assert workload.annotations[CLAIMS].endswith(f".0={pod.uid}")


def test_the_pod_s_events_say_what_was_done_to_it() -> None:
    played, pod = a_shop()
    evicting(played, pod)

    played.to_the_end()

    [note] = played.cluster.notes.values()
    assert note.about == pod.reference
    assert "evicted" in note.message


@pytest.mark.parametrize("kind", [DEPLOYMENT, STATEFUL_SET])
@pytest.mark.parametrize("lost_turns", range(1, 8))
def test_a_replay_from_before_any_turn_evicts_nobody_twice(kind: str, lost_turns: int) -> None:
    played, pod = a_shop(kind)
    evicting(played, pod)
    played.save()

    for _ in range(lost_turns):
        played.turn()
    played.crash()
    result = played.to_the_end()

    assert played.evictions() == [f"shop/{pod.name}"]
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("kind", [DEPLOYMENT, STATEFUL_SET])
@pytest.mark.parametrize("call", ["change_workload", "evict"])
@pytest.mark.parametrize("after", [False, True])
def test_a_lost_answer_leads_to_one_eviction(kind: str, call: str, after: bool) -> None:
    played, pod = a_shop(kind)
    played.cluster.fail(call, Unavailable("timeout"), after=after, times=2)
    evicting(played, pod)

    result = played.to_the_end()

    assert set(played.evictions()) == {f"shop/{pod.name}"}
    gone = {one.uid for one in played.cluster.all_pods()}
    assert pod.uid not in gone
    assert len(gone) == 3
    assert result.outcome is Outcome.SUCCEEDED


def test_a_disruption_budget_is_waited_for() -> None:
    played, pod = a_shop()
    played.cluster.add_budget("shop", {"app": "payments"}, 3)
    evicting(played, pod)
    while played.now < T0 + MINUTE:
        played.turn()
    assert played.evictions() == []

    played.cluster.budgets.clear()
    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED


def test_a_disruption_budget_that_never_allows_it_ends_in_failure() -> None:
    played, pod = a_shop()
    played.cluster.add_budget("shop", {"app": "payments"}, 3)
    evicting(played, pod)

    result = played.to_the_end()

    assert played.evictions() == []
    assert result.outcome is Outcome.FAILED
    assert T0 + PATIENCE_MS <= result.at < T0 + PATIENCE_MS + MINUTE


def test_a_pod_of_another_service_is_not_evicted() -> None:
    played, _ = a_shop()
    played.cluster.add_workload(DEPLOYMENT, "shop", "other")
    [other] = played.cluster.pods("shop", {"app": "other"})
    evicting(played, other)

    result = played.to_the_end()

    assert played.cluster.calls == [("tell", str(other.reference))]
    assert result.outcome is Outcome.FAILED
    assert "is not one of shop/payments" in result.detail


def test_a_pod_that_nothing_would_make_anew_is_not_evicted() -> None:
    played, _ = a_shop()
    job = Reference("Job", "shop", "nightly")
    bare = [
        played.cluster.add_pod("shop", name, labels={"app": "payments"}, owner=owner)
        for name, owner in (("bare", None), ("nightly-1", job))
    ]

    for pod in bare:
        evicting(played, pod)
        result = played.to_the_end()
        assert result.outcome is Outcome.FAILED
        assert "anew" in result.detail
        played.work = type(played.work)()
    assert played.evictions() == []


def test_a_pod_that_is_gone_already_needs_nothing() -> None:
    played, _ = a_shop()
    played.give(an_action(pod="payments-7f9-99"))

    result = played.to_the_end()

    assert played.cluster.calls == []
    assert [step.outcome for step in result.steps] == [StepOutcome.ALREADY]
    assert result.outcome is Outcome.SUCCEEDED


def test_a_workload_that_does_not_come_back_is_a_failure() -> None:
    played, pod = a_shop()
    played.settles = False
    evicting(played, pod)

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "not verified" in result.detail
    assert result.at >= T0 + VERIFY_MS


def test_a_table_that_stays_short_is_no_success() -> None:
    played, pod = a_shop()
    evicting(played, pod, Surroundings(healthy=3))
    played.until_verifying()
    [one] = played.work.running.values()
    played.work = played.work.having(replace(one, table=2))

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "2 endpoints in the table, 3 are to be" in result.detail


class TestSwitch:
    @pytest.mark.parametrize("how", ["off", "unreadable"])
    def test_nothing_begins_and_it_is_given_back(self, how: str) -> None:
        played, pod = a_shop()
        played.enabled, played.readable = how != "off", how != "unreadable"
        evicting(played, pod)

        result = played.to_the_end()

        assert played.cluster.calls == []
        assert result.outcome is Outcome.NOT_DONE
        assert result.at >= T0 + BEGIN_MS

    def test_it_stops_between_two_calls_and_goes_on(self) -> None:
        played, pod = a_shop()
        evicting(played, pod)
        played.turn()  # claimed

        played.enabled = False
        for _ in range(100):
            played.turn()
        assert played.evictions() == []
        played.enabled = True
        result = played.to_the_end()

        assert played.evictions() == [f"shop/{pod.name}"]
        assert result.outcome is Outcome.SUCCEEDED

    def test_off_for_ever_it_ends_before_the_model_gives_up(self) -> None:
        played, pod = a_shop()
        evicting(played, pod)
        played.turn()
        played.enabled = False

        result = played.to_the_end()

        assert result.outcome is Outcome.FAILED
        assert played.evictions() == []


class TestCancel:
    def test_before_it_began_nothing_is_done(self) -> None:
        played, pod = a_shop()
        evicting(played, pod)
        played.cancel()

        result = played.to_the_end()

        assert result.outcome is Outcome.NOT_DONE
        assert played.cluster.calls == []

    def test_between_claim_and_eviction_the_pod_stays(self) -> None:
        played, pod = a_shop()
        evicting(played, pod)
        played.turn()
        played.cancel()

        result = played.to_the_end()

        assert played.evictions() == []
        assert result.outcome is Outcome.SUCCEEDED

    def test_after_the_eviction_it_is_still_verified(self) -> None:
        played, pod = a_shop()
        evicting(played, pod)
        played.until_verifying()
        played.cancel()

        result = played.to_the_end()

        assert result.outcome is Outcome.SUCCEEDED
        assert "verified" in result.detail


def test_nobody_begins_too_late() -> None:
    played, pod = a_shop()
    evicting(played, pod)
    played.now = T0 + BEGIN_MS

    result = played.to_the_end()

    assert result.outcome is Outcome.NOT_DONE
    assert played.cluster.calls == []


def test_without_a_grant_nothing_begins() -> None:
    played, pod = a_shop()
    played.give(an_action(pod=pod.name, granted_at=0))

    assert played.to_the_end().outcome is Outcome.NOT_DONE
    assert played.cluster.calls == []


def test_a_server_that_never_answers_is_given_up() -> None:
    played, pod = a_shop()
    played.cluster.fail("evict", Unavailable("timeout"), times=10_000)
    evicting(played, pod)

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "given up" in result.detail
    assert result.at <= T0 + GIVE_UP_MS + MINUTE
    assert played.turns < 60, "it asks less and less often"


def test_a_call_that_is_no_good_fails_at_once() -> None:
    played, pod = a_shop()
    played.cluster.fail("change_workload", Refused("422"), times=9)
    evicting(played, pod)

    result = played.to_the_end()

    assert (result.outcome, result.at) == (Outcome.FAILED, T0 + 1)
    assert played.evictions() == []
    assert played.now < T0 + MINUTE


@pytest.mark.parametrize("call", ["pod", "workload_of", "change_workload", "evict"])
@pytest.mark.parametrize("away", [0, 5])
def test_a_server_that_has_just_started_may_deny_what_it_allows_later(call: str, away: int) -> None:
    played, pod = a_shop()
    played.cluster.fail(call, Unavailable("timeout"), times=away)
    played.cluster.fail(call, Denied("403"), times=2)
    evicting(played, pod)

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert played.evictions() == [f"shop/{pod.name}"]


def test_a_server_that_denies_for_good_is_asked_for_a_while_only() -> None:
    played, pod = a_shop()
    played.cluster.fail("change_workload", Denied("403"), times=10_000)
    evicting(played, pod)

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "given up: 403" in result.detail
    assert T0 + DENIED_MS <= result.at <= T0 + DENIED_MS + 1_000
    assert played.evictions() == []


def test_the_time_of_an_outage_is_no_time_of_denial() -> None:
    played, pod = a_shop()
    played.cluster.fail("change_workload", Denied("403"))
    played.cluster.fail("change_workload", Unavailable("timeout"), times=8)
    played.cluster.fail("change_workload", Denied("403"))
    evicting(played, pod)

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert result.at > T0 + 2 * DENIED_MS


def test_a_denial_behind_an_outage_is_asked_about_soon() -> None:
    played, pod = a_shop()
    played.cluster.fail("change_workload", Unavailable("timeout"), times=8)
    played.cluster.fail("change_workload", Denied("403"))
    evicting(played, pod)
    while not (running := next(iter(played.work.running.values()))).denied_since:
        played.turn()

    assert running.wake_at <= played.now + 500


def test_time_in_which_nobody_asked_is_no_time_of_denial() -> None:
    played, pod = a_shop()
    played.cluster.fail("change_workload", Denied("403"), times=2)
    evicting(played, pod)
    while not next(iter(played.work.running.values())).denied_since:
        played.turn()
    played.save()
    played.crash()
    played.now += 2 * DENIED_MS

    assert played.to_the_end().outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("denials", "away", "outcome"),
    [(1, 0, Outcome.SUCCEEDED), (1, 20, Outcome.SUCCEEDED), (10_000, 0, Outcome.NOT_DONE)],
)
def test_a_denial_does_not_say_that_nothing_was_begun(denials: int, away: int, outcome: Outcome) -> None:
    """The state is lost behind the eviction, the alert is over, and the server has just started."""
    played, pod = a_shop()
    evicting(played, pod)
    played.save()
    while not played.evictions():
        played.turn()
    played.crash()
    played.cancel()
    for error, times in ((Denied("403"), denials), (Unavailable("timeout"), away), (Denied("403"), 1)):
        for call in ("pod", "workload_of", "workload"):
            played.cluster.fail(call, error, times=times)

    result = played.to_the_end()

    assert result.outcome is outcome
    assert len(played.evictions()) == 1
    assert played.now < T0 + MINUTE


def test_the_same_order_twice_is_one() -> None:
    played, pod = a_shop()
    for _ in range(3):
        evicting(played, pod)
    played.to_the_end()
    for _ in range(3):
        evicting(played, pod)

    assert not played.turn()
    assert played.evictions() == [f"shop/{pod.name}"]
    assert len(played.results) == 1


def test_an_empty_name_does_nothing_and_raises_an_alarm() -> None:
    played, _ = a_shop()
    played.give(an_action(pod=""))

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert played.cluster.calls == []
    assert played.alarms


def test_whoever_may_not_look_has_begun_nothing() -> None:
    """Its place is not held for as long as the server says no."""
    played, _ = a_shop()
    played.enabled = False
    played.give(an_action(Step.of(Do.RESTART), pod=""))
    assert played.turn()
    for call in ("workload", "service_selector", "pods", "workload_of"):
        played.cluster.fail(call, Refused("403"), times=99)
    played.cancel()

    result = played.to_the_end()

    assert result.outcome is Outcome.NOT_DONE
    assert played.turns < 5
