"""Windows: the order of beats, ticks and shards never shows in what they add up to."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW, OTHER, T0, a_beat, checked, deregistered, registered
from waypost.model.beats import Beat
from waypost.model.health_window import (
    MAX_LAG_MS,
    HealthyEndpointAggregator,
    Partial,
    ServiceWindow,
    ShardTallies,
    Tally,
    WindowPlan,
    WindowStats,
    combine,
)
from waypost.model.leases import LeaseShard, TimedBeat
from waypost.model.lifecycle import Health
from waypost.model.names import ServiceKey
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp

PLAN = WindowPlan(size_ms=60_000, buckets=1, tick_ms=1000)
END = T0 - T0 % 60_000 + 60_000
"""When the window ends in which T0 lies."""

COUNTS = st.integers(0, 10**12)
TALLIES = st.builds(Tally, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 1))
PARTIALS: st.SearchStrategy[Partial] = st.dictionaries(
    st.sampled_from(["default/a", "default/b", "staging/c"]),
    st.dictionaries(st.sampled_from(["p-1", "p-2", "p-3"]), TALLIES, max_size=3),
    max_size=3,
)
BEATS = st.builds(
    Beat,
    cpu=st.none() | st.floats(0, 1e300),
    ts=st.none() | st.integers(T0 - 2 * MAX_LAG_MS, T0 + 2 * MAX_LAG_MS),
)
aggregator = HealthyEndpointAggregator()


@LAW
@given(TALLIES, TALLIES, TALLIES)
def test_tallies_combine_in_any_grouping_and_order(a: Tally, b: Tally, c: Tally) -> None:
    assert combine(combine(a, b), c) == combine(a, combine(b, c))
    assert combine(a, b) == combine(b, a)
    assert combine(a, Tally()) == a


@LAW
@given(PARTIALS, PARTIALS, PARTIALS)
def test_merge_is_associative_and_commutative_with_identity(a: Partial, b: Partial, c: Partial) -> None:
    merge = aggregator.merge

    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    assert merge(a, aggregator.create()) == merge(aggregator.create(), a) == a


@LAW
@given(st.lists(PARTIALS, max_size=5), st.lists(PARTIALS, max_size=5))
def test_adding_apart_and_merging_is_adding_everything(one: list[Partial], other: list[Partial]) -> None:
    apart = [reduce(aggregator.add, part, aggregator.create()) for part in (one, other)]

    assert aggregator.merge(*apart) == reduce(aggregator.add, one + other, aggregator.create())
    assert aggregator.merge(*apart) == aggregator.merge_all(one + other)


@LAW
@given(st.dictionaries(st.sampled_from(["p-1", "p-2"]), TALLIES))
def test_merging_leaves_what_it_merges_as_it_was(tallies: dict[str, Tally]) -> None:
    partial = {"default/a": dict(tallies)}

    aggregator.merge(partial, {"default/a": {"p-1": Tally(1), "p-9": Tally(1)}})

    assert partial == {"default/a": tallies}


@LAW
@given(
    st.lists(st.tuples(st.sampled_from(["p-1", "p-2", "p-3"]), BEATS, st.integers(0, 59_999)), max_size=20),
    st.integers(0, 2**32),
)
def test_any_partition_and_order_of_the_same_beats_gives_the_same_window(
    beats: list[tuple[str, Beat, int]], seed: int
) -> None:
    """One shard or three, one tick or many, sorted or not."""

    def windows(shards: int, order: Random) -> Partial:
        given_to: list[LeaseShard] = [LeaseShard() for _ in range(shards)]
        for instance in ("p-1", "p-2", "p-3"):
            given_to[shard_of(instance, shards)].register(registered(-100, instance))
        shuffled = order.sample(beats, len(beats))
        for second in range(60):
            for shard in given_to:
                end = END - 60_000 + (second + 1) * 1000
                own = [b for b in shuffled if b[2] // 1000 == second and given_to[shard_of(b[0], shards)] is shard]
                shard.tick(end, [TimedBeat(instance, Stamp(END - 60_000 + ms), beat) for instance, beat, ms in own])
        partials = [shard.end_windows({0}, PLAN, END).get(0, {}) for shard in given_to]
        return aggregator.merge_all(order.sample(partials, len(partials)))

    assert windows(1, Random(seed)) == windows(3, Random(seed + 1))


# -- one beat ---------------------------------------------------------------------------------------------


def tally(*beats: tuple[Beat, int], tick_start: int = T0) -> Tally:
    tallies = ShardTallies()
    slot = tallies.new_slot()
    for beat, when in beats:
        tallies.count(slot, beat, when, tick_start)
    return tallies.take(slot)


def test_a_bare_beat_counts_and_says_nothing_else() -> None:
    assert tally((Beat(), T0)) == Tally(beats=1)


def test_cpu_is_added_up_in_thousandths() -> None:
    said = tally((Beat(cpu=0.4), T0), (Beat(cpu=0.2), T0), (Beat(), T0))

    assert (said.beats, said.cpu_beats, said.cpu_sum, said.cpu_max, said.cpu_mean) == (3, 2, 600, 400, 300)


def test_any_cpu_a_beat_may_say_can_be_added_up() -> None:
    many = tally(*[(Beat(cpu=1.7e308), T0)] * 1000)

    assert many.cpu_sum == many.cpu_max * 1000


def test_lag_is_append_time_minus_the_beats_own_time() -> None:
    said = tally((Beat(ts=T0 - 250), T0), (Beat(ts=T0 - 40), T0), (Beat(), T0))

    assert (said.timed_beats, said.lag_max) == (2, 250)


def test_a_producer_ahead_of_the_broker_has_no_lag() -> None:
    assert tally((Beat(ts=T0 + 5_000), T0)) == Tally(beats=1, timed_beats=1)


def test_a_time_in_another_unit_says_nothing_of_lag() -> None:
    assert tally((Beat(ts=T0 // 1000), T0)) == Tally(beats=1)


def test_a_beat_logged_before_its_tick_is_late_and_counts() -> None:
    assert tally((Beat(), T0 - 1), (Beat(), T0)) == Tally(beats=2, late=1)


def test_a_tally_that_was_taken_begins_anew() -> None:
    tallies = ShardTallies()
    slot = tallies.new_slot()
    tallies.count(slot, Beat(cpu=1.0), T0, T0)

    assert tallies.take(slot).beats == 1
    assert tallies.take(slot) == Tally()


# -- one shard --------------------------------------------------------------------------------------------


def ended(shard: LeaseShard, end: int = END) -> dict[str, dict[str, Tally]]:
    return shard.end_windows({0}, PLAN, end).get(0, {})


def test_windows_follow_who_comes_and_goes() -> None:
    shard = LeaseShard()
    shard.register(registered(0, "p-1"))
    shard.register(registered(0, "p-2"))
    assert ended(shard) == {}, "they are younger than the window"

    shard.register(deregistered(1, "p-1"))
    shard.register(registered(1, "p-3"))
    shard.register(registered(1, "p-1", service=OTHER))
    assert ended(shard, T0 + 120_000).keys() == {"default/payments", str(OTHER)}
    shard.register(registered(130, "p-1"))
    found = ended(shard, T0 + 300_000)

    assert found.keys() == {"default/payments", str(OTHER)}
    assert found["default/payments"].keys() == {"p-1", "p-2", "p-3"}
    assert found[str(OTHER)].keys() == {"p-1"}


def test_a_window_ends_once() -> None:
    shard = LeaseShard()
    shard.register(registered(0))
    shard.tick(T0 + 1000, [a_beat(0.5)])

    assert ended(shard) == {"default/payments": {"p-1": Tally(beats=1)}}
    assert ended(shard) == {}


def test_a_lease_that_lived_through_its_window_in_silence_is_told() -> None:
    shard = LeaseShard()
    shard.register(registered(-70, lease_seconds=3600))

    assert ended(shard) == {"default/payments": {"p-1": Tally()}}


def test_a_lapsed_lease_and_one_younger_than_the_window_are_not_expected_to_beat() -> None:
    shard = LeaseShard()
    shard.register(registered(-70, "lapsed", lease_seconds=2))
    shard.register(registered(1, "young", lease_seconds=3600))
    shard.tick(T0, [])

    assert ended(shard) == {}


def test_beats_of_an_unknown_and_of_a_deregistered_id_are_in_no_window() -> None:
    shard = LeaseShard()
    shard.register(registered(0, "gone"))
    shard.tick(T0 + 1000, [a_beat(0.1, "gone"), a_beat(0.2, "nobody")])
    shard.register(deregistered(1, "gone"))
    shard.tick(T0 + 2000, [a_beat(1.5, "gone")])

    assert ended(shard) == {}


def test_a_failing_instance_beats_and_is_not_healthy() -> None:
    shard = LeaseShard()
    for instance in ("well", "ill", "checked"):
        shard.register(registered(0, instance))
    shard.tick(T0 + 1000, [a_beat(0.1, "well"), a_beat(0.2, "ill", Health.FAIL), a_beat(0.3, "checked")])
    shard.register(checked(Health.FAIL, 1, "checked"))

    window = ServiceWindow(END - 60_000, END, ended(shard)["default/payments"])

    assert (len(window.beating), window.healthy) == (3, 1)


def test_tallies_keep_their_leases_when_the_directory_changes() -> None:
    shard = LeaseShard()
    for n in range(4):
        shard.register(registered(0, f"p-{n}"))
    shard.tick(T0 + 1000, [a_beat(0.1 * (n + 1), f"p-{n}") for n in range(4) for _ in range(n)])

    shard.register(deregistered(1, "p-1"))
    shard.register(registered(1, "p-9"))
    shard.arrange()
    shard.tick(T0 + 2000, [a_beat(1.5, "p-9")])

    beats = {i: t.beats for i, t in ended(shard)["default/payments"].items()}
    assert beats == {"p-2": 2, "p-3": 3, "p-9": 1}
    assert len(shard.tallies.cells) == 4 * 7


# -- when windows end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size_ms", "buckets"), [(60_000, 32), (10_000, 32), (10_000, 3), (60_000, 1), (3_600_000, 7)])
def test_every_tick_lies_in_one_window_of_each_bucket(size_ms: int, buckets: int) -> None:
    plan = WindowPlan(size_ms, buckets, 1000)
    first = T0 - T0 % 1000 + 1000

    for bucket in range(buckets):
        for end in range(first, first + 2 * min(size_ms, 60_000), 1000):
            start = plan.start(bucket, end)
            assert start <= end - 1000
            assert end <= start + size_ms
            assert (bucket in plan.due(end)) == (end == start + size_ms)


def test_ends_of_windows_are_spread_over_the_window() -> None:
    plan = WindowPlan(60_000, 30, 1000)
    first = T0 - T0 % 1000 + 1000

    due = Counter(len(plan.due(end)) for end in range(first, first + 60_000, 1000))

    assert due == {0: 30, 1: 30}


def test_a_service_has_the_same_bucket_in_every_process() -> None:
    assert WindowPlan(60_000, 32, 1000).bucket(ServiceKey("default", "payments")) == 9


# -- what readers are told --------------------------------------------------------------------------------


def test_statistics_of_a_window() -> None:
    window = ServiceWindow(
        T0,
        T0 + 60_000,
        {"p-1": Tally(2, 1, 2, 800, 500, 1, 30), "p-2": Tally(1, 0, 1, 100, 100, failing=1), "p-3": Tally()},
    )

    assert WindowStats.of(window, drift=1) == WindowStats(
        start=T0,
        end=T0 + 60_000,
        beats=3,
        late=1,
        instances=2,
        healthy=1,
        cpu_mean=300,
        cpu_max=500,
        lag_max_ms=30,
        drift=1,
    )


def test_what_no_beat_said_is_not_told() -> None:
    stats = WindowStats.of(ServiceWindow(T0, T0 + 60_000, {"p-1": Tally(beats=1)}), None)

    assert (stats.cpu_mean, stats.cpu_max, stats.lag_max_ms, stats.drift) == (None, None, None, None)
