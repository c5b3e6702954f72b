"""Success is the endpoint back in the table, also when it had left before anybody looked."""

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
from waypost.repair.objects import DEPLOYMENT, Pod
from waypost.repair.steps.workloads import endpoints

EVICT, RESTART = Step.of(Do.EVICT_POD), Step.of(Do.RESTART)


def now_in_the_table(played: Played, n: int) -> None:
    for one in list(played.work.running.values()):
        played.work = played.work.having(replace(one, table=n))


def a_crash(step: Step) -> tuple[Played, Pod]:
    """One of three pods is not Ready and has left the table; its repair is under way."""
    played, pod = a_shop()
    played.cluster.unready("shop", pod.name)
    played.give(an_action(step, pod="" if step is RESTART else pod.name), Surroundings(healthy=2, takes=0))
    played.until_verifying()
    return played, pod


@pytest.mark.parametrize("step", [EVICT, RESTART])
def test_an_endpoint_that_never_comes_back_is_no_success(step: Step) -> None:
    played, _ = a_crash(step)

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "2 endpoints in the table, 3 are to be" in result.detail


@pytest.mark.parametrize("step", [EVICT, RESTART])
def test_one_that_does_is(step: Step) -> None:
    played, _ = a_crash(step)
    now_in_the_table(played, 3)

    assert played.to_the_end().outcome is Outcome.SUCCEEDED


def test_a_workload_that_is_scaled_down_meanwhile_is_whole_with_fewer() -> None:
    played, pod = a_shop()
    played.give(an_action(pod=pod.name), Surroundings(instances=(pod.name,), healthy=3, takes=1))
    played.until_verifying()
    workload = played.cluster.workload(DEPLOYMENT, "shop", "payments")
    assert workload is not None
    played.cluster.change_workload(workload, annotations={}, replicas=2)
    now_in_the_table(played, 2)

    assert played.to_the_end().outcome is Outcome.SUCCEEDED


counts = st.integers(0, 50)


@given(counts, st.integers(-1, 50), counts, counts, counts)
def test_what_is_expected(healthy: int, ready: int, wanted: int, now: int, fewer: int) -> None:
    expected = endpoints(healthy, ready, wanted, now)

    assert 0 <= expected <= max(healthy, wanted)
    if 0 <= ready <= healthy and now >= wanted:
        assert expected >= wanted
    if ready > healthy or ready < 0:
        assert expected <= healthy
    assert endpoints(healthy, ready, wanted, min(now, fewer)) <= expected
    if now < wanted and healthy <= wanted:
        assert expected <= now
