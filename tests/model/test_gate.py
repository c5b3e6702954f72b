"""The gate: a lapse needs a log in which beats could have arrived."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.model.events import SERVICE, T0, a_fact, at
from waypost.model.brake import BrakeRules
from waypost.model.events import LeaseFact, LeaseTransition, Target
from waypost.model.gate import Clock, Decision, Gate, ShardTick
from waypost.model.lifecycle import Health
from waypost.wire.fold_state import decode_clock, encode_clock
from waypost.wire.transitions import decode_row, decode_waiting, encode_row, encode_waiting

SHARDS = 2


def end(seconds: float) -> int:
    return T0 + round(seconds * 1000)


def a_lapse(deadline: float, lease: float = 10.0, instance: str = "p-1", generation: float = 0) -> LeaseTransition:
    """The lapse of a lease whose deadline falls into the tick that proposes it."""
    when = -(-deadline // 1)
    return a_fact(LeaseFact.LAPSED, when, generation, instance, deadline=end(deadline), lease_ms=round(lease * 1000))


def a_renewal(when: float, instance: str = "p-1", generation: float = 0) -> LeaseTransition:
    return a_fact(LeaseFact.RENEWED, when, generation, instance)


def a_gate() -> Gate:
    return Gate(SHARDS, 1000)


def tick(
    gate: Gate,
    second: int,
    *,
    beats: tuple[float, ...] = (),
    lapses: Iterable[LeaseTransition] = (),
    renewals: Iterable[LeaseTransition] = (),
    shards: Iterable[int] = range(SHARDS),
) -> list[Decision]:
    """Offer the rows of the tick that ends at `second`; what happened is in the first shard's row."""
    decisions: list[Decision] = []
    for shard in shards:
        row = ShardTick(end(second), shard, 0, 0)
        if shard == 0:
            times = [end(b) for b in beats]
            row = ShardTick(
                end(second), 0, min(times, default=0), max(times, default=0), tuple(lapses), tuple(renewals)
            )
        decisions += gate.offer(row)
    return decisions


def alive(gate: Gate, start: int, stop: int) -> None:
    """Ticks start+1 … stop, each with a beat in its middle."""
    for second in range(start + 1, stop + 1):
        tick(gate, second, beats=(second - 0.5,))


def out(decisions: list[Decision]) -> list[tuple[str, str]]:
    return [(t.fact.value, t.instance) for d in decisions for batch in d.batches.values() for t in batch]


def test_one_dead_among_the_living_lapses_with_its_tick() -> None:
    gate = a_gate()
    alive(gate, 0, 11)

    assert out(tick(gate, 12, beats=(11.5,), lapses=[a_lapse(11.3)])) == [("lapsed", "p-1")]
    assert gate.deferred == 0


def test_nothing_is_decided_before_every_shard_reported() -> None:
    gate = a_gate()
    alive(gate, 0, 11)

    assert tick(gate, 12, beats=(11.5,), lapses=[a_lapse(11.3)], shards=[0]) == []
    assert out(tick(gate, 12, shards=[1])) == [("lapsed", "p-1")]


@pytest.mark.parametrize("silence", [1, 60, 86_400])
def test_silence_of_any_length_changes_nothing(silence: int) -> None:
    gate = a_gate()
    alive(gate, 0, 10)

    # The last beat was at 9.5; everybody's lease ends at 19.5 and nobody beats after 14.5 (the second half of it).
    decided = tick(gate, 20, lapses=[a_lapse(19.5)])
    for second in (21, 22, 20 + silence):
        decided += tick(gate, second)

    assert out(decided) == []
    assert gate.deferred == 1


def test_when_the_silence_ends_nobody_who_comes_back_within_a_lease_is_expired() -> None:
    gate = a_gate()
    alive(gate, 0, 10)
    tick(gate, 20, lapses=[a_lapse(19.5), a_lapse(19.5, instance="p-2")])

    decided = tick(gate, 100, beats=(99.5,))  # somebody beats: the clock of the deferred leases starts
    for second in range(101, 109):
        decided += tick(gate, second, beats=(second - 0.5,))
    decided += tick(gate, 109, beats=(108.5,), renewals=[a_renewal(108.5)])
    assert out(decided) == []  # p-1 came back, the route fold never heard that it was away

    assert out(tick(gate, 110, beats=(109.5,))) == [("lapsed", "p-2")]


def test_a_deferred_lapse_is_stamped_by_the_tick_that_executes_it() -> None:
    gate = a_gate()
    tick(gate, 20, lapses=[a_lapse(19.5)])
    alive(gate, 99, 109)

    [decision] = tick(gate, 110, beats=(109.5,))

    [[lapse]] = decision.batches.values()
    assert (lapse.stamp.at, lapse.deadline, lapse.generation) == (end(110), end(109.5), at(0))


def test_a_missing_tick_defers_the_lapses_whose_lease_it_touches() -> None:
    gate = a_gate()
    alive(gate, 0, 10)
    alive(gate, 11, 12)  # the tick that ends at 11 never comes

    assert out(tick(gate, 13, beats=(12.5,), lapses=[a_lapse(12.9, lease=10)])) == []
    assert gate.deferred == 1


def test_a_missing_tick_in_the_first_half_of_a_lease_is_of_no_account() -> None:
    gate = a_gate()
    alive(gate, 0, 10)
    alive(gate, 11, 16)

    assert out(tick(gate, 17, beats=(16.5,), lapses=[a_lapse(16.9, lease=10)])) == [("lapsed", "p-1")]


def test_after_a_start_nothing_lapses_until_half_a_lease_was_seen() -> None:
    gate = a_gate()

    assert out(tick(gate, 50, beats=(49.5,), lapses=[a_lapse(49.9, lease=10)])) == []
    alive(gate, 50, 56)
    assert out(tick(gate, 57, beats=(56.5,), lapses=[a_lapse(56.9, lease=10, instance="p-2")])) == [("lapsed", "p-2")]


def test_an_incomplete_tick_passes_good_news_and_keeps_the_bad() -> None:
    gate = a_gate()
    alive(gate, 0, 11)
    bad, health = a_lapse(11.3), a_fact(LeaseFact.HEALTH, 11.4, 0, "p-3", health=Health.FAIL)
    tick(gate, 12, beats=(11.5,), lapses=[bad], renewals=[a_renewal(11.4, "p-2"), health], shards=[0])

    [decision] = gate.release(end(12))

    assert out([decision]) == [("renewed", "p-2"), ("health", "p-3")]
    assert not decision.complete
    assert decision.lapses == {"deferred": 1}
    assert list(gate.release(end(12))) == []


def test_a_tick_that_a_later_one_overtook_is_given_up() -> None:
    gate = a_gate()
    alive(gate, 0, 11)
    tick(gate, 12, lapses=[a_lapse(11.3)], renewals=[a_renewal(11.4, "p-2")], shards=[0])

    decided = tick(gate, 13, beats=(12.5,))

    assert out(decided) == [("renewed", "p-2")]
    assert [d.complete for d in decided] == [False, True]
    assert gate.rows == {}
    assert out(tick(gate, 12, lapses=[a_lapse(11.3, instance="p-9")], shards=[1])) == []  # comes after all


def test_a_renewal_cancels_a_deferral_and_is_no_news() -> None:
    gate = a_gate()
    tick(gate, 20, lapses=[a_lapse(19.5)])

    assert out(tick(gate, 21, beats=(20.5,), renewals=[a_renewal(20.5)])) == []
    assert gate.deferred == 0


def test_a_renewal_without_a_deferral_is_news() -> None:
    gate = a_gate()

    assert out(tick(gate, 21, beats=(20.5,), renewals=[a_renewal(20.5)])) == [("renewed", "p-1")]


def test_a_renewal_of_another_generation_is_news_and_ends_the_old_deferral() -> None:
    gate = a_gate()
    tick(gate, 20, lapses=[a_lapse(19.5)])

    assert out(tick(gate, 41, beats=(40.5,), renewals=[a_renewal(40.5, generation=25)])) == [("renewed", "p-1")]
    assert gate.deferred == 0


def test_a_report_of_health_is_not_mistaken_for_a_renewal() -> None:
    gate = a_gate()
    tick(gate, 20, lapses=[a_lapse(19.5)])

    tick(gate, 21, beats=(20.5,), renewals=[a_fact(LeaseFact.HEALTH, 20.5, 0, health=Health.PASS)])

    assert gate.deferred == 1


def test_the_newest_deferral_of_an_instance_replaces_the_older_one() -> None:
    gate = a_gate()
    tick(gate, 20, lapses=[a_lapse(19.5, generation=0)])
    tick(gate, 40, lapses=[a_lapse(39.5, generation=25)])

    [waiting] = gate.waiting.values()
    assert waiting.lapse.generation == at(25)


def test_a_second_silence_during_a_deferral_defers_it_again() -> None:
    gate = a_gate()
    tick(gate, 20, lapses=[a_lapse(19.5)])
    tick(gate, 100, beats=(99.5,))  # new deadline 109.5, but nothing beats from 99.5 on

    decided = [d for second in range(101, 120) for d in tick(gate, second)]
    assert out(decided) == []

    decided = tick(gate, 120, beats=(119.5,))
    decided += [d for second in range(121, 130) for d in tick(gate, second, beats=(second - 0.5,))]
    assert out(decided) == []
    assert out(tick(gate, 130, beats=(129.5,))) == [("lapsed", "p-1")]


def test_a_row_that_comes_twice_changes_nothing() -> None:
    gate = a_gate()
    alive(gate, 0, 11)
    tick(gate, 12, beats=(11.5,))
    clock = decode_clock(encode_clock(gate.clock))

    assert out(tick(gate, 12, beats=(11.5,))) == []
    assert gate.clock == clock


def test_the_state_of_a_gate_survives_its_codecs() -> None:
    gate = a_gate()
    alive(gate, 0, 11)
    tick(gate, 30, lapses=[a_lapse(29.5)])
    tick(gate, 31, beats=(30.5,), renewals=[a_renewal(30.5, "p-2")], shards=[0])

    again = Gate(
        SHARDS,
        1000,
        decode_clock(encode_clock(gate.clock)),
        {target: decode_waiting(encode_waiting(w)) for target, w in gate.waiting.items()},
        {e: {s: decode_row(encode_row(r)) for s, r in rows.items()} for e, rows in gate.rows.items()},
    )

    assert again == gate
    assert isinstance(again.clock, Clock)


def test_silence_is_counted_from_the_last_beat_and_where_nobody_ever_beat_from_the_first_tick() -> None:
    gate = a_gate()
    assert gate.clock.silence == 0
    for second in range(1, 91):
        tick(gate, second)
    assert gate.clock.silence == 90_000

    tick(gate, 91, beats=(90.5,))
    assert gate.clock.silence == 500
    for second in range(92, 152):
        tick(gate, second)
    assert gate.clock.silence == 60_500


def test_a_late_beat_that_comes_after_the_lapse_is_told_after_it() -> None:
    """Its stamp is lower than the end of the tick; the route fold would take the lapse for the newer word."""
    gate = a_gate()
    alive(gate, 0, 11)
    [decision] = tick(gate, 12, beats=(11.5,), lapses=[a_lapse(11.3)])
    [[lapse]] = decision.batches.values()

    [decision] = tick(gate, 13, beats=(12.5,), renewals=[a_renewal(11.8)])

    [[renewal]] = decision.batches.values()
    assert renewal.stamp > lapse.stamp
    assert renewal.stamp[1:] == a_renewal(11.8).stamp[1:]


def test_who_left_is_told_of_once_more_when_its_hold_time_is_over() -> None:
    gate = a_gate()
    alive(gate, 0, 11)
    [decision] = tick(gate, 12, beats=(11.5,), lapses=[a_lapse(11.3)])
    [[lapse]] = decision.batches.values()
    assert lapse.until == end(12) + gate.brake_rules.hold_ms

    assert out(tick(gate, 611, beats=(610.5,))) == []
    [decision] = tick(gate, 612, beats=(611.5,))

    [[last_word]] = decision.batches.values()
    assert (last_word.fact, last_word.until, last_word.stamp.at) == (LeaseFact.LAPSED, 0, end(612))
    tick(gate, 700, beats=(699.5,))
    assert gate.waiting == {}


@pytest.mark.parametrize("phase", ["deferred", "held", "left"])
def test_a_registration_or_deregistration_ends_every_phase(phase: str) -> None:
    gate = Gate(SHARDS, 1000, brake_rules=BrakeRules(service_min=1, service_percent=1 if phase == "held" else 100))
    alive(gate, 0, 11 if phase != "deferred" else 0)
    tick(gate, 12, beats=(11.5,) if phase != "deferred" else (), lapses=[a_lapse(11.3)])
    assert [w.phase.value for w in gate.waiting.values()] == [phase]

    row = ShardTick(end(13), 0, 0, 0, settled=(Target(SERVICE, "p-1"),))
    decisions = [*gate.offer(row), *gate.offer(ShardTick(end(13), 1, 0, 0))]

    assert gate.waiting == {}
    assert (gate.held, gate.deferred) == (0, 0)
    assert out(decisions) == []
