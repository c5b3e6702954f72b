"""Balancers are fair, follow weights and zones, and never pick who must not be picked.

Chance is seeded, so the statistics are the same in every run; the bounds are those of the law behind them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.balancers import (
    Balancer,
    ConsistentHash,
    LeastConnection,
    PowerOfTwo,
    Random,
    RoundRobin,
    SmoothWeighted,
    ZoneAware,
)
from waypost.client.registry.instance import Instance

MAKERS: dict[str, Callable[[], Balancer]] = {
    "random": lambda: Random(random.Random(1)),
    "round-robin": lambda: RoundRobin(random.Random(1)),
    "smooth": SmoothWeighted,
    "least": lambda: LeastConnection(random.Random(1)),
    "two": lambda: PowerOfTwo(random.Random(1)),
    "hash": lambda: ConsistentHash(random.Random(1)),
    "zone": lambda: ZoneAware("a", Random(random.Random(1)), random.Random(2)),
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def instances(*weights: int, zones: str = "") -> tuple[Instance, ...]:
    return tuple(
        Instance(
            id=f"i{n}", name="svc", address=f"10.0.0.{n + 1}", port=80, weight=weight, zone=zones[n] if zones else ""
        )
        for n, weight in enumerate(weights)
    )


def count(balancer: Balancer, among: tuple[Instance, ...], times: int) -> Counter[str]:
    picked: Counter[str] = Counter()
    for n in range(times):
        chosen = balancer.pick(among, key=f"key-{n}")
        assert chosen is not None
        picked[chosen.id] += 1
    return picked


def chi_square(picked: Counter[str], shares: dict[str, float]) -> float:
    total = picked.total()
    return sum((picked[id] - total * share) ** 2 / (total * share) for id, share in shares.items())


@every
def test_equal_instances_get_equal_shares(make: Callable[[], Balancer]) -> None:
    among = instances(*[100] * 10)

    picked = count(make(), among, 20_000)

    assert set(picked) == {each.id for each in among}
    # Points on a ring are not as even as chance: 100 points each, so shares vary by a tenth (one standard deviation).
    slack = 0.35 if isinstance(make(), ConsistentHash) else 0.1
    assert all(abs(n - 2_000) <= 2_000 * slack for n in picked.values()), picked


def test_random_follows_weights() -> None:
    picked = count(Random(random.Random(7)), instances(10, 20, 70), 30_000)

    # Chi square with two degrees of freedom exceeds 13.8 once in a thousand.
    assert chi_square(picked, {"i0": 0.1, "i1": 0.2, "i2": 0.7}) < 13.8


@given(weights=st.lists(st.integers(1, 50), min_size=2, max_size=8))
def test_smooth_weighted_is_exact_over_a_round(weights: list[int]) -> None:
    picked = count(SmoothWeighted(), instances(*weights), sum(weights))

    assert picked == {f"i{n}": weight for n, weight in enumerate(weights)}


def test_smooth_weighted_spreads_the_turns() -> None:
    balancer, among = SmoothWeighted(), instances(5, 1, 1)

    turns = [balancer.pick(among) for _ in range(7)]

    assert [each.id for each in turns if each] == ["i0", "i0", "i1", "i0", "i2", "i0", "i0"]  # nginx's own example


def test_round_robin_takes_turns() -> None:
    balancer, among = RoundRobin(random.Random(3)), instances(1, 50, 100)

    turns = [balancer.pick(among) for _ in range(6)]

    assert turns[:3] == turns[3:]
    assert len(set(map(id, turns))) == 3


def test_least_connection_evens_out_what_is_under_way() -> None:
    balancer, among = LeastConnection(random.Random(5)), instances(100, 100, 200)
    held, picked = [], Counter[str]()
    for _ in range(400):
        chosen = balancer.pick(among)
        assert chosen is not None
        call = balancer.under_way(chosen)
        call.__enter__()
        held.append(call)
        picked[chosen.id] += 1
    assert picked == {"i0": 100, "i1": 100, "i2": 200}

    for call in held:
        call.__exit__(None, None, None)
    assert count(balancer, among, 100) == {"i2": 100}, "nobody is busy: the strongest"


def test_power_of_two_keeps_the_highest_load_near_the_mean() -> None:
    among = instances(*[100] * 50)
    balancer, chance = PowerOfTwo(random.Random(11)), Random(random.Random(11))
    two, held = Counter[str](), []
    for _ in range(5_000):
        chosen = balancer.pick(among)
        assert chosen is not None
        held.append(balancer.under_way(chosen))  # one that nobody holds ends
        held[-1].__enter__()
        two[chosen.id] += 1
    one = count(chance, among, 5_000)

    # Mean 100: two choices exceed it by log log n, one by about three standard deviations.
    assert max(two.values()) <= 105 < max(one.values())


def test_an_instance_that_goes_moves_only_its_own_keys() -> None:
    balancer, among = ConsistentHash(), instances(*[100] * 10)
    keys = [f"user-{n}" for n in range(5_000)]
    before = {key: balancer.pick(among, key=key) for key in keys}
    left = tuple(each for each in among if each.id != "i3")
    after = {key: balancer.pick(left, key=key) for key in keys}

    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if before[key] == among[3]}
    assert {key: balancer.pick(among, key=key) for key in keys} == before
    another = ConsistentHash()
    assert {key: another.pick(among, key=key) for key in keys} == before, "every caller agrees"


def test_a_zone_that_can_carry_its_callers_keeps_them() -> None:
    balancer = ZoneAware("a", Random(random.Random(1)), random.Random(2))

    picked = count(balancer, instances(100, 100, 100, zones="abc"), 1_000)

    assert picked == {"i0": 1_000}


def test_a_zone_that_is_too_small_keeps_what_it_can_carry() -> None:
    balancer = ZoneAware("a", Random(random.Random(1)), random.Random(2))

    # A quarter of all weight in one of two zones: half of the callers' requests.
    picked = count(balancer, instances(100, 100, 200, zones="abb"), 10_000)

    assert abs(picked["i0"] - 5_000) < 200  # four standard deviations
    assert abs(picked["i2"] - 2 * picked["i1"]) < 500


def test_without_anybody_in_the_zone_the_others_serve() -> None:
    assert count(ZoneAware("z", RoundRobin()), instances(1, 1, zones="ab"), 10).total() == 10


@every
@given(
    weights=st.lists(st.integers(0, 3), max_size=6),
    without=st.sets(st.sampled_from([f"i{n}" for n in range(6)])),
    key=st.none() | st.text(max_size=3),
)
def test_who_must_not_be_picked_is_not(
    make: Callable[[], Balancer], weights: list[int], without: set[str], key: str | None
) -> None:
    among = instances(*weights)
    left = [each for each in among if each.id not in without]

    chosen = make().pick(among, without=without, key=key)

    if not left:
        assert chosen is None
    else:
        assert chosen in left
        assert chosen.weight or not any(each.weight for each in left)
