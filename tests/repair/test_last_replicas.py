"""Whatever the grant said: the last healthy endpoints are not taken from a table that is as it is now."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.repair.played import Played, an_action
from tests.repair.test_pods import a_shop
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import Do, Step
from waypost.model.surroundings import Surroundings
from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET
from waypost.wire.repair_results import StepOutcome

EVICT, RESTART, ISOLATE = Step.of(Do.EVICT_POD), Step.of(Do.RESTART), Step.of(Do.ISOLATE)


def now_in_the_table(played: Played, n: int) -> None:
    for one in list(played.work.running.values()):
        played.work = played.work.having(replace(one, table=n))


def taken(played: Played) -> int:
    return len(played.evictions()) + sum(played.cluster.restarts.values()) + len(played.isolations)


@pytest.mark.parametrize("step", [EVICT, RESTART, ISOLATE])
@pytest.mark.parametrize("table", [-1, 0, 1])
def test_a_table_that_fell_while_the_switch_was_off_stops_it(step: Step, table: int) -> None:
    played, pod = a_shop()
    played.enabled = False
    action = an_action(step, pod="" if step is RESTART else pod.name)
    played.give(action, Surroundings(instances=(pod.name,), healthy=3, takes=1))
    for _ in range(100):
        played.turn()
    now_in_the_table(played, table)

    played.enabled = True
    result = played.to_the_end()

    assert result.outcome is Outcome.NOT_DONE
    assert result.detail.startswith("last-replicas: shop/payments has ")
    assert taken(played) == 0


def test_a_service_of_which_nothing_is_left_is_restarted() -> None:
    played, _ = a_shop()
    played.give(an_action(RESTART, pod=""), Surroundings(instances=(), healthy=0, takes=0))

    while not taken(played):
        assert played.turn()

    assert not played.results


@given(
    step=st.sampled_from([EVICT, RESTART, ISOLATE]),
    table=st.integers(-1, 6),
    takes=st.integers(0, 3),
    min_healthy=st.integers(1, 3),
    turns=st.integers(0, 3),
)
def test_what_is_left_is_never_too_few(step: Step, table: int, takes: int, min_healthy: int, turns: int) -> None:
    played, pod = a_shop(replicas=6)
    action = an_action(step, pod="" if step is RESTART else pod.name, min_healthy=min_healthy)
    played.give(action, Surroundings(instances=(pod.name,) * takes, healthy=6, takes=takes))
    for _ in range(turns):
        if not taken(played):
            played.turn()
    before = taken(played)
    now_in_the_table(played, table)

    result = played.to_the_end() if played.work.running else played.results[-1]

    if takes and taken(played) > before:
        assert table - takes >= min_healthy
    if result.outcome is Outcome.NOT_DONE:
        assert taken(played) == 0


@pytest.mark.parametrize("kind", [DEPLOYMENT, STATEFUL_SET, DAEMON_SET])
@pytest.mark.parametrize("at_once", [0, 1, 2, 3])
def test_a_restart_takes_what_the_strategy_takes(kind: str, at_once: int) -> None:
    played = Played()
    played.cluster.add_workload(kind, "shop", "payments", replicas=3, at_once=at_once)
    played.cluster.add_service("shop", "payments", {"app": "payments"})
    played.give(an_action(RESTART, pod=""), Surroundings(healthy=3, takes=1))

    result = played.to_the_end()

    assert taken(played) == (at_once < 3)
    assert result.outcome is (Outcome.SUCCEEDED if at_once < 3 else Outcome.NOT_DONE)


def test_a_pod_that_was_isolated_first_is_not_counted_twice() -> None:
    played, pod = a_shop()
    played.give(an_action(ISOLATE, EVICT, pod=pod.name), Surroundings(instances=(pod.name,), healthy=2, takes=1))
    played.turn()
    assert played.isolations
    now_in_the_table(played, 1)

    assert played.to_the_end().outcome is Outcome.SUCCEEDED
    assert len(played.evictions()) == 1


def test_behind_a_step_that_was_done_it_is_a_failure() -> None:
    played, pod = a_shop()
    steps = (Step.of(Do.NOTIFY), EVICT)
    played.give(an_action(*steps, pod=pod.name), Surroundings(instances=(pod.name,), healthy=1, takes=1))

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert [one.outcome for one in result.steps] == [StepOutcome.DONE, StepOutcome.SKIPPED]
    assert played.evictions() == []
