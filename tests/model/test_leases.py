"""The lease fold of one shard: who beats, whose lease ran out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.events import (
    ELSEWHERE,
    LAW,
    OTHER,
    SECOND,
    SERVICE,
    T0,
    a_beat,
    an_event,
    at,
    checked,
    deregistered,
    drained,
    registered,
    updated,
)
from waypost.model.events import InstanceEvent, LeaseFact, Op, Target
from waypost.model.leases import (
    MAX_UNKNOWN,
    UNKNOWN_MEMORY_MS,
    UNKNOWN_WAIT_MS,
    LeaseShard,
    TickResult,
    TimedBeat,
)
from waypost.model.lifecycle import Health
from waypost.model.service import TOMBSTONE_MS
from waypost.model.stamp import Stamp
from waypost.wire.fold_state import decode_shard, encode_directory, encode_last_beats, encode_unknown


def a_shard(*events: InstanceEvent) -> LeaseShard:
    shard = LeaseShard()
    for event in events:
        shard.register(event)
    return shard


def end(seconds: float) -> int:
    return T0 + round(seconds * 1000)


def lapsed(result: TickResult) -> list[str]:
    return [t.instance for t in result.lapses]


def renewed(result: TickResult) -> list[tuple[LeaseFact, str, Health | None]]:
    return [(t.fact, t.instance, t.health) for t in result.renewals]


def through_the_codecs(shard: LeaseShard) -> LeaseShard:
    return decode_shard(encode_directory(shard, 8), encode_last_beats(shard), encode_unknown(shard), 8)


# -- leases ------------------------------------------------------------------------------------------------


def test_a_register_alone_starts_the_lease() -> None:
    shard = a_shard(registered(0, lease_seconds=5))

    assert lapsed(shard.tick(end(4.999), [])) == []
    assert lapsed(shard.tick(end(5), [])) == ["p-1"]


def test_a_lease_lapses_once() -> None:
    shard = a_shard(registered(0, lease_seconds=5))
    shard.tick(end(5), [])

    assert lapsed(shard.tick(end(6), [])) == []


def test_a_beat_renews_a_lease_from_its_own_append_time() -> None:
    shard = a_shard(registered(0, lease_seconds=5))

    shard.tick(end(4), [a_beat(3.2)])

    assert lapsed(shard.tick(end(8), [])) == []
    assert lapsed(shard.tick(end(9), [])) == ["p-1"]


def test_a_lapse_says_why() -> None:
    shard = a_shard(registered(0, lease_seconds=5))
    shard.tick(end(4), [a_beat(3.2)])

    [lapse] = shard.tick(end(9), []).lapses

    assert (lapse.deadline, lapse.last_beat, lapse.lease_ms) == (end(8.2), end(3.2), 5_000)
    assert (lapse.generation, lapse.stamp) == (at(0), Stamp(end(9)))


def test_a_beat_in_the_tick_of_the_deadline_comes_in_time() -> None:
    shard = a_shard(registered(0, lease_seconds=5))

    assert lapsed(shard.tick(end(6), [a_beat(5.9)])) == []


def test_the_first_beat_after_a_lapse_renews_and_the_next_is_no_news() -> None:
    shard = a_shard(registered(0, lease_seconds=5))
    shard.tick(end(5), [])

    assert renewed(shard.tick(end(7), [a_beat(6.5)])) == [(LeaseFact.RENEWED, "p-1", None)]
    assert renewed(shard.tick(end(8), [a_beat(7.5)])) == []
    assert lapsed(shard.tick(end(13), [])) == ["p-1"]


def test_unchanged_beats_are_no_news() -> None:
    shard = a_shard(registered(0), registered(0, "p-2"))

    result = shard.tick(end(1), [a_beat(0.1), a_beat(0.2, "p-2"), a_beat(0.9)])

    assert (result.renewals, result.lapses, result.rejects) == ([], [], [])
    assert (result.renewed, result.first_beat, result.last_beat) == (3, end(0.1), end(0.9))


def test_a_beat_logged_before_the_registration_does_not_renew_it() -> None:
    shard = a_shard(registered(10, lease_seconds=5))

    shard.tick(end(12), [a_beat(9.9)])

    assert lapsed(shard.tick(end(15), [])) == ["p-1"]


def test_registering_anew_starts_a_new_lease_with_the_new_length() -> None:
    shard = a_shard(registered(0, lease_seconds=5))
    shard.tick(end(5), [])

    shard.register(registered(6, lease_seconds=60))

    assert lapsed(shard.tick(end(65), [])) == []
    [lapse] = shard.tick(end(66), []).lapses
    assert lapse.generation == at(6)


def test_a_deregistered_instance_neither_lapses_nor_comes_back() -> None:
    shard = a_shard(registered(0, lease_seconds=5), deregistered(1))

    result = shard.tick(end(20), [a_beat(2), a_beat(19)])

    assert (result.lapses, result.renewals, result.rejects) == ([], [], [])
    assert (result.renewed, result.late) == (0, 2)


def test_a_registration_older_than_the_deregistration_leases_nothing() -> None:
    shard = a_shard(deregistered(5), registered(4))

    assert shard.leases == {}
    assert shard.register(registered(6))


@pytest.mark.parametrize(("seconds", "deadline"), [(3, 4), (30, 31)])
def test_an_update_of_the_lease_counts_from_the_last_beat(seconds: int, deadline: int) -> None:
    shard = a_shard(registered(0, lease_seconds=10))
    shard.tick(end(2), [a_beat(1)])

    shard.register(updated(2, lease_seconds=seconds))

    assert lapsed(shard.tick(end(deadline) - 1, [])) == []
    assert lapsed(shard.tick(end(deadline), [])) == ["p-1"]


def test_events_that_say_nothing_of_leases_change_nothing() -> None:
    shard = a_shard(registered(0))

    assert not shard.register(drained(1))
    assert not shard.register(updated(1, weight=3))
    assert not shard.register(registered(0))
    assert not shard.register(deregistered(-1, "p-1")) or shard.leases


def test_one_id_in_two_services_has_two_leases() -> None:
    shard = a_shard(registered(0, lease_seconds=5), registered(0, service=OTHER, lease_seconds=5))

    shard.tick(end(4), [a_beat(3, service="webhook")])

    assert [t.service for t in shard.tick(end(6), []).lapses] == [SERVICE]


def test_a_bare_beat_renews_every_registration_of_its_id() -> None:
    shard = a_shard(registered(0, lease_seconds=5), registered(0, service=OTHER, lease_seconds=5))

    shard.tick(end(4), [a_beat(3)])

    assert lapsed(shard.tick(end(7), [])) == []


def test_a_bare_beat_of_an_id_in_two_namespaces_is_ambiguous_and_renews_none() -> None:
    shard = a_shard(registered(0, lease_seconds=5), registered(0, service=ELSEWHERE, lease_seconds=5))

    result = shard.tick(end(4), [a_beat(3)])

    assert [r.reason for r in result.rejects] == ["ambiguous-namespace"]
    assert lapsed(shard.tick(end(5), [])) == ["p-1", "p-1"]


def test_a_beat_that_names_the_namespace_is_not_ambiguous() -> None:
    shard = a_shard(registered(0, lease_seconds=5), registered(0, service=ELSEWHERE, lease_seconds=5))

    result = shard.tick(end(4), [a_beat(3, namespace="staging")])

    assert result.rejects == []
    assert [t.service for t in shard.tick(end(5), []).lapses] == [SERVICE]


# -- health ------------------------------------------------------------------------------------------------


def test_a_beat_that_changes_the_health_is_news_once() -> None:
    shard = a_shard(registered(0))

    first = shard.tick(end(1), [a_beat(0.5, health=Health.FAIL)])
    second = shard.tick(end(2), [a_beat(1.5, health=Health.FAIL)])

    assert renewed(first) == [(LeaseFact.HEALTH, "p-1", Health.FAIL)]
    assert first.renewals[0].stamp == at(0.5)
    assert renewed(second) == []


def test_a_beat_without_a_status_says_nothing_of_health() -> None:
    shard = a_shard(registered(0))
    shard.tick(end(1), [a_beat(0.5, health=Health.FAIL)])

    assert renewed(shard.tick(end(2), [a_beat(1.5)])) == []
    assert renewed(shard.tick(end(3), [a_beat(2.5, health=Health.FAIL)])) == []


def test_of_one_ticks_beats_the_last_on_the_log_decides_on_health_whatever_their_order() -> None:
    failing, passing, bare = a_beat(0.5, health=Health.FAIL), a_beat(0.6, health=Health.PASS), a_beat(0.9)

    for beats in ([failing, passing, bare], [passing, failing, bare], [bare, passing, failing]):
        shard = a_shard(registered(0))
        newest = max(shard.tick(end(1), beats).renewals, key=lambda t: t.stamp)
        assert newest.health is Health.PASS
        assert renewed(shard.tick(end(2), [a_beat(1.5, health=Health.FAIL)])) == [
            (LeaseFact.HEALTH, "p-1", Health.FAIL)
        ]


def test_beats_of_one_millisecond_are_ordered_by_their_offsets() -> None:
    shard = a_shard(registered(0))

    shard.tick(
        end(1),
        [
            a_beat(at(0.5, 2), health=Health.PASS),
            a_beat(at(0.5, 1), health=Health.FAIL),
        ],
    )

    assert renewed(shard.tick(end(2), [a_beat(1.5, health=Health.FAIL)])) == [(LeaseFact.HEALTH, "p-1", Health.FAIL)]


def test_a_beat_overrules_a_check_and_a_check_a_beat() -> None:
    """Steady beats say nothing new, unless a checker said something else in between."""
    shard = a_shard(registered(0))
    shard.tick(end(1), [a_beat(0.5, health=Health.PASS)])

    shard.register(checked(Health.FAIL, 1.2))

    assert renewed(shard.tick(end(2), [a_beat(1.1, health=Health.PASS)])) == []
    assert renewed(shard.tick(end(3), [a_beat(2.5, health=Health.PASS)])) == [(LeaseFact.HEALTH, "p-1", Health.PASS)]


def test_a_check_that_is_read_late_is_overruled_by_the_next_beat() -> None:
    shard = a_shard(registered(0))
    shard.tick(end(1), [a_beat(0.5, health=Health.PASS)])
    shard.tick(end(3), [a_beat(2.5, health=Health.PASS)])  # no news

    shard.register(checked(Health.FAIL, 2))  # the route fold takes it: it has heard of the beat at 0.5 only

    assert renewed(shard.tick(end(4), [a_beat(3.5, health=Health.PASS)])) == [(LeaseFact.HEALTH, "p-1", Health.PASS)]


# -- unknown ids -------------------------------------------------------------------------------------------


def test_beats_that_come_before_their_registration_renew_it_when_it_arrives() -> None:
    shard = a_shard()
    result = shard.tick(end(5), [a_beat(4)])
    assert (result.unknown, result.rejects) == (1, [])

    shard.register(registered(0, lease_seconds=5))

    assert lapsed(shard.tick(end(8), [])) == []
    assert lapsed(shard.tick(end(9), [])) == ["p-1"]


def test_a_waiting_beat_of_one_service_does_not_renew_another() -> None:
    shard = a_shard()
    shard.tick(end(5), [a_beat(4, service="webhook")])

    shard.register(registered(0, lease_seconds=5))
    assert lapsed(shard.tick(end(6), [])) == ["p-1"]

    shard.register(registered(0, service=OTHER, lease_seconds=5))
    assert lapsed(shard.tick(end(8), [])) == []


def test_an_unknown_id_is_reported_when_it_waited_one_lease_and_then_once_an_hour() -> None:
    shard = a_shard()
    reported = []

    for second in range(0, 3 * 3600, 10):
        result = shard.tick(end(second + 10), [a_beat(second + 1)])
        reported += [second + 10 for reject in result.rejects if reject.reason == "unknown-instance"]

    assert reported == [100, 3700, 7300]
    assert end(reported[0]) >= end(1) + UNKNOWN_WAIT_MS


def test_an_unknown_id_that_fell_silent_is_forgotten() -> None:
    shard = a_shard()
    shard.tick(end(1), [a_beat(0.5)])
    shard.tick(end(100), [])

    shard.tick(end(0.5) + UNKNOWN_MEMORY_MS, [])

    assert shard.unknown == {}


def test_a_registered_id_is_no_longer_reported() -> None:
    shard = a_shard()
    shard.tick(end(1), [a_beat(0.5)])
    shard.register(registered(0))

    assert shard.tick(end(200), [a_beat(199)]).rejects == []


def test_unknown_ids_beyond_the_bound_are_refused_at_once_and_take_no_memory() -> None:
    shard = a_shard()

    result = shard.tick(end(1), [a_beat(0.5, f"x-{n}") for n in range(MAX_UNKNOWN + 3)])

    assert len(shard.unknown) == MAX_UNKNOWN
    assert [r.reason for r in result.rejects] == ["unknown-instance"] * 3


def test_tombstones_are_forgotten_after_their_time() -> None:
    shard = a_shard(
        registered(0), deregistered(1), registered(0, "p-2"), deregistered(2, "p-2"), updated(0, "p-3", lease_seconds=5)
    )

    shard.forget(end(2))
    assert (set(shard.removed), shard.updates) == ({"p-2"}, {})

    shard.forget(end(2) + TOMBSTONE_MS)
    assert shard.removed == {}


# -- properties --------------------------------------------------------------------------------------------

_IDS = st.sampled_from(["p-1", "p-2", "p-3"])
_SERVICES = st.sampled_from([SERVICE, OTHER, ELSEWHERE])


@st.composite
def registrations(draw: st.DrawFn) -> list[InstanceEvent]:
    """Registration events of a few ids in three services, each with a stamp of its own."""
    events = []
    for offset in range(draw(st.integers(1, 10))):
        stamp = Stamp(T0 + draw(st.integers(0, 4)) * SECOND, draw(st.integers(0, 1)), offset)
        op = draw(st.sampled_from([Op.REGISTER, Op.REGISTER, Op.UPDATE, Op.DEREGISTER]))
        said: dict[str, Any] = {"service": draw(_SERVICES)}
        seconds = draw(st.sampled_from([2, 5, 60]))
        if op is Op.REGISTER:
            events.append(registered(stamp, draw(_IDS), lease_seconds=seconds, **said))
        elif op is Op.UPDATE:
            events.append(updated(stamp, draw(_IDS), lease_seconds=seconds, **said))
        else:
            events.append(an_event(op, stamp, draw(_IDS), **said))
    return events


def leased(shard: LeaseShard) -> dict[tuple[str, str], tuple[Stamp, int]]:
    return {(i, str(x.service)): (x.generation, x.lease_ms) for i, leases in shard.leases.items() for x in leases}


@settings(LAW, max_examples=300)
@given(registrations(), st.data())
def test_the_order_and_repetition_of_registrations_make_no_difference(
    events: list[InstanceEvent], data: st.DataObject
) -> None:
    again = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=3))))

    assert leased(a_shard(*again)) == leased(a_shard(*sorted(events, key=lambda e: e.stamp)))


@st.composite
def beats_in_ticks(draw: st.DrawFn) -> list[list[TimedBeat]]:
    """Beats for twelve ticks of one second, in any order within a tick."""
    return [
        [
            a_beat(
                Stamp(T0 + second * SECOND + draw(st.integers(0, 999)), 0, draw(st.integers(0, 9))),
                draw(_IDS),
                draw(st.sampled_from([None, None, Health.PASS, Health.FAIL])),
                namespace=draw(st.sampled_from(["", "", "default", "staging"])),
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        for second in range(12)
    ]


@LAW
@given(registrations(), beats_in_ticks(), st.data())
def test_no_lease_lapses_while_its_last_beat_is_younger(
    events: list[InstanceEvent], ticks: list[list[TimedBeat]], data: st.DataObject
) -> None:
    shard = LeaseShard()
    unread = data.draw(st.permutations(events))

    for second, beats in enumerate(ticks):
        for event in unread[:2]:
            shard.register(event)
        unread = unread[2:]
        before = {(i, x.service): x.last_beat for i, leases in shard.leases.items() for x in leases}
        result = shard.tick(end(second + 1), beats)

        for lapse in result.lapses:
            assert max(lapse.generation.at, lapse.last_beat) + lapse.lease_ms == lapse.deadline <= end(second + 1)
        for instance, leases in shard.leases.items():
            for lease in leases:
                assert lease.last_beat >= before.get((instance, lease.service), 0)
                assert lease.lapsed or lease.deadline > end(second + 1)
                assert lease.lapsed or lease.deadline >= shard.next_deadline
        assert result.renewed + result.unknown + result.late + sum(
            r.reason == "ambiguous-namespace" for r in result.rejects
        ) == len(beats)


@LAW
@given(registrations(), beats_in_ticks(), st.integers(0, 11))
def test_a_round_trip_through_the_state_at_any_moment_changes_nothing(
    events: list[InstanceEvent], ticks: list[list[TimedBeat]], moment: int
) -> None:
    plain, restored = LeaseShard(), LeaseShard()

    for second, beats in enumerate(ticks):
        if second == moment:
            restored = through_the_codecs(restored)
        for event in events[second : second + 1]:
            assert plain.register(event) == restored.register(event)
        raw = [b._replace(raw=_raw(b)) for b in beats]
        assert dataclasses.asdict(plain.tick(end(second + 1), raw)) == dataclasses.asdict(
            restored.tick(end(second + 1), raw)
        )

    assert leased(plain) == leased(restored)
    assert plain.unknown == restored.unknown
    assert plain.removed == restored.removed


def _raw(timed: TimedBeat) -> str:
    from waypost.wire.beats import encode_beat

    return encode_beat(timed.beat).decode()


def test_a_beat_that_is_read_again_does_not_renew_a_lapsed_lease() -> None:
    shard = LeaseShard()
    shard.register(registered(0, lease_seconds=10))
    shard.tick(T0 + 2_000, [a_beat(1.5)])
    assert shard.tick(T0 + 12_000, ()).lapses

    result = shard.tick(T0 + 13_000, [a_beat(1.5)])

    assert result.renewals == []
    assert result.counts == {}


def test_each_row_tells_by_how_much_the_live_leases_changed() -> None:
    shard = LeaseShard()
    shard.register(registered(0, lease_seconds=10))
    shard.register(registered(0, "p-2", lease_seconds=10))
    assert shard.tick(T0 + 1_000, ()).counts == {SERVICE: 2}
    assert shard.tick(T0 + 2_000, ()).counts == {}
    assert shard.tick(T0 + 10_000, [a_beat(9.5)]).counts == {SERVICE: -1}

    shard.register(registered(11, "p-2", lease_seconds=10))
    shard.register(deregistered(11, "p-1"))
    result = shard.tick(T0 + 12_000, ())

    assert result.counts == {}  # one more and one less
    assert result.settled == [Target(SERVICE, "p-2")]
