"""Failover: who is tried, how often, what it costs, and what the error says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.balancers import Random, RoundRobin, ZoneAware
from waypost.client.cache import Table
from waypost.client.failover import CallFailed, Failover, RetryBudget
from waypost.client.outliers import Outliers
from waypost.client.registry.instance import Instance


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def table(*zones: str) -> Table:
    instances = tuple(
        Instance(id=f"i{n}", name="svc", address=f"10.0.0.{n + 1}", port=80, zone=zone) for n, zone in enumerate(zones)
    )
    return Table(service="svc", instances=instances, stale_since=None)


class Service:
    """Answers, or fails, and notes who was asked."""

    def __init__(self, *broken: str, error: Exception | None = None) -> None:
        self.broken = set(broken)
        self.error = error or ConnectionRefusedError("refused")
        self.asked: list[str] = []

    def __call__(self, instance: Instance) -> str:
        self.asked.append(instance.id)
        if instance.id in self.broken:
            raise self.error
        return instance.id


def a_failover(table: Table, **settings: object) -> Failover:
    clock = Clock()
    settings.setdefault("balancer", Random(random.Random(1)))
    return Failover(lambda: table, now=clock, **settings)  # type: ignore[arg-type]


def test_the_next_instance_is_another_one() -> None:
    service = Service("i0", "i1")

    assert a_failover(table("", "", "")).call(service) == "i2"
    assert len(service.asked) == len(set(service.asked))


def test_the_same_instance_can_be_tried_again_first() -> None:
    service = Service("i0", "i1")

    with pytest.raises(CallFailed):
        a_failover(table("", ""), same=2).call(service)

    assert sorted(Counter(service.asked).values()) == [3, 3]
    assert len(set(service.asked[:3])) == 1


def test_the_own_zone_comes_first_and_then_the_others() -> None:
    service = Service("i0", "i1")
    balancer = ZoneAware("a", Random(random.Random(1)), random.Random(1))

    assert a_failover(table("a", "a", "b", "b"), balancer=balancer).call(service) in ("i2", "i3")
    assert set(service.asked[:2]) == {"i0", "i1"}


def test_the_error_lists_every_attempt() -> None:
    with pytest.raises(CallFailed) as failed:
        a_failover(table("", "", "", "")).call(Service("i0", "i1", "i2", "i3"))

    assert len(failed.value.attempts) == 3
    for attempt in failed.value.attempts:
        assert f"{attempt.instance.id} at {attempt.instance.address}:80" in str(failed.value)
    assert "ConnectionRefusedError: refused" in str(failed.value)
    assert isinstance(failed.value.__cause__, ConnectionRefusedError)


def test_nobody_to_call_is_said() -> None:
    with pytest.raises(CallFailed, match="nobody is left") as failed:
        a_failover(table()).call(Service())
    assert failed.value.attempts == ()


def test_what_may_not_be_repeated_is_not() -> None:
    service = Service("i0", "i1", error=ValueError("bad request"))

    with pytest.raises(ValueError, match="bad request"):
        a_failover(table("", "")).call(service)
    assert len(service.asked) == 1


def test_a_service_that_is_down_gets_little_more_than_its_calls() -> None:
    service, clock = Service("i0", "i1", "i2"), Clock()
    there = table("", "", "")
    failover = Failover(lambda: there, RoundRobin(), budget=RetryBudget(now=clock), now=clock)

    for _ in range(1_000):
        with pytest.raises(CallFailed):
            failover.call(service)

    # 1,000 first tries, a fifth of them repeated, and what was saved up before.
    assert 1_200 <= len(service.asked) <= 1_000 + 200 + 10


@given(events=st.lists(st.one_of(st.just("call"), st.just("repeat"), st.floats(0, 5)), max_size=200))
def test_a_budget_never_gives_more_than_was_earned(events: list[str | float]) -> None:
    clock = Clock()
    budget, calls, repeats, begun = RetryBudget(now=clock), 0, 0, clock.now
    for event in events:
        if event == "call":
            budget.earn()
            calls += 1
        elif event == "repeat":
            repeats += budget.spend()
        else:
            clock.now += float(event)
        assert repeats <= 10 + 0.2 * calls + (clock.now - begun) + 1e-6


def test_who_fails_again_and_again_is_left_out_for_a_while_each_time_longer() -> None:
    clock = Clock()
    outliers, all_of_them = Outliers(now=clock), ["i0", "i1", "i2", "i3"]
    for length in (30, 60, 90):
        for _ in range(5):
            assert outliers.ejected(all_of_them) == frozenset()
            outliers.failed("i0")
        clock.now += length - 1
        assert outliers.ejected(all_of_them) == {"i0"}
        clock.now += 1
        assert outliers.ejected(all_of_them) == frozenset()
    outliers.succeeded("i0")
    for _ in range(5):
        outliers.failed("i0")
    clock.now += 30
    assert outliers.ejected(all_of_them) == frozenset(), "it had served its time: the first ejection again"


def test_a_success_breaks_the_row() -> None:
    outliers = Outliers(now=Clock())
    for _ in range(4):
        outliers.failed("i0")
    outliers.succeeded("i0")
    for _ in range(4):
        outliers.failed("i0")
    assert outliers.ejected(["i0", "i1"]) == frozenset()


@given(failing=st.lists(st.integers(0, 9), max_size=200), size=st.integers(0, 10))
def test_never_more_than_half_are_left_out(failing: list[int], size: int) -> None:
    outliers = Outliers(failures=2, now=Clock())
    for number in failing:
        outliers.failed(f"i{number}")

    assert len(outliers.ejected([f"i{n}" for n in range(size)])) <= size // 2


def test_an_ejected_instance_is_called_when_nobody_else_is_left() -> None:
    clock = Clock()
    outliers = Outliers(failures=1, ejection=timedelta(minutes=1), now=clock)
    outliers.failed("i0")
    there = table("", "")
    service = Service("i1")

    assert Failover(lambda: there, Random(random.Random(1)), outliers=outliers, now=clock).call(service) == "i0"
    assert service.asked == ["i1", "i0"]


def test_the_face_for_asyncio_follows_the_same_rules() -> None:
    service, budget = Service("i0", "i1"), RetryBudget(part=0.0, per_second=0.0, now=Clock())

    async def call(instance: Instance) -> str:
        return service(instance)

    failover = a_failover(table("", "", ""))
    assert asyncio.run(failover.acall(call)) == "i2"
    assert len(service.asked) == len(set(service.asked))

    service.broken = {"i0", "i1", "i2"}
    with pytest.raises(CallFailed, match="as many as allowed") as caught:
        asyncio.run(failover.acall(call))
    assert len(caught.value.attempts) == 3
    assert caught.value.__cause__ is caught.value.attempts[-1].error

    service.error = ValueError("not to be repeated")
    service.asked.clear()
    with pytest.raises(ValueError):
        asyncio.run(failover.acall(call))
    assert len(service.asked) == 1

    service.error = TimeoutError()
    service.asked.clear()
    with pytest.raises(CallFailed, match="budget"):
        asyncio.run(a_failover(table("", "", ""), budget=_empty(budget)).acall(call))
    assert len(service.asked) == 1


def _empty(budget: RetryBudget) -> RetryBudget:
    while budget.spend():
        pass
    return budget
