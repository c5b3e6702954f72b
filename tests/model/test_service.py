"""The route fold: whatever the order of the records, the facts end the same."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import oracle
from tests.model.events import (
    LAW,
    SERVICE,
    T0,
    a_fact,
    a_set,
    at,
    checked,
    declared,
    deregistered,
    drained,
    registered,
    service_logs,
    updated,
)
from tests.model.stores import DictStore, FrozenStore
from waypost.model.events import Attributes, LeaseFact, LeaseTransition, RouteEvent
from waypost.model.isolation import Isolation
from waypost.model.lifecycle import Declared, Health, Lease, Status, is_routable, view
from waypost.model.service import (
    ALREADY_GONE,
    APPLIED,
    OLD_GENERATION,
    STALE_SET,
    SUPERSEDED,
    TOMBSTONE_MS,
    UNKNOWN_INSTANCE,
    InstanceView,
    ServiceFold,
)
from waypost.model.service_state import Position
from waypost.model.stamp import ORIGIN, Stamp
from waypost.wire.endpoint import JsonRenderer

Seen = dict[str, tuple[Attributes, str, Declared, Health, Lease | None, Isolation | None]]


def a_fold(*events: RouteEvent, store: DictStore | None = None) -> ServiceFold:
    fold = ServiceFold(SERVICE, store if store is not None else DictStore(), JsonRenderer())
    for event in events:
        fold.apply(event)
    return fold


def seen(fold: ServiceFold) -> Seen:
    """Everything people see of a service."""
    return {i: facts(v) for i in fold.ids() if (v := fold.view(i)) is not None}


def facts(
    v: InstanceView | oracle.Known,
) -> tuple[Attributes, str, Declared, Health, Lease | None, Isolation | None]:
    return v.attributes, v.source, v.declared, v.health, v.lease, v.isolation


def routable(fold: ServiceFold) -> set[str]:
    return {
        i
        for i, (_, _, d, h, lease, word) in seen(fold).items()
        if lease is not None and is_routable(d, h, lease, isolated=word is not None)
    }


def status(fold: ServiceFold, instance: str = "p-1") -> tuple[Status, str] | None:
    found = fold.view(instance)
    return None if found is None else view(found.declared, found.health, found.lease)


# -- examples ----------------------------------------------------------------------------------------------


def test_a_registered_instance_is_routable() -> None:
    fold = a_fold(registered(0))

    assert status(fold) == (Status.UP, "up")
    assert routable(fold) == {"p-1"}


def test_a_failed_check_takes_an_instance_out_and_a_passed_one_brings_it_back() -> None:
    fold = a_fold(registered(0), checked(Health.FAIL, 1))
    assert status(fold) == (Status.DOWN, "health-failed")

    fold.apply(checked(Health.PASS, 2))
    assert status(fold) == (Status.UP, "up")


@pytest.mark.parametrize("state", [Declared.OUT_OF_SERVICE, Declared.DRAINING, Declared.STARTING, Declared.DOWN])
def test_no_beat_and_no_check_lifts_what_was_declared(state: Declared) -> None:
    fold = a_fold(registered(0), declared(state, 1))
    before = status(fold)

    fold.apply(checked(Health.PASS, 2))
    fold.apply(a_fact(LeaseFact.RENEWED, 3, 0))
    fold.apply(a_fact(LeaseFact.HEALTH, 4, 0, health=Health.PASS))

    assert status(fold) == before
    assert routable(fold) == set()


def test_a_drained_instance_is_known_and_not_routable_until_it_is_declared_up() -> None:
    fold = a_fold(registered(0), drained(1))
    assert status(fold) == (Status.DRAINING, "draining")

    fold.apply(declared(Declared.UP, 2))
    assert routable(fold) == {"p-1"}


def test_a_lapsed_lease_takes_an_instance_out_and_a_renewed_one_brings_it_back() -> None:
    fold = a_fold(registered(0), a_fact(LeaseFact.LAPSED, 90, 0))
    assert status(fold) == (Status.DOWN, "lease-lapsed")

    fold.apply(a_fact(LeaseFact.RENEWED, 95, 0))
    assert status(fold) == (Status.UP, "up")


def test_a_registration_at_a_new_address_replaces_the_old_one() -> None:
    fold = a_fold(registered(0, address="10.0.0.1"), registered(5, address="10.0.0.9"))

    assert seen(fold)["p-1"][0].address == "10.0.0.9"
    assert len(fold.ids()) == 1


def test_a_new_registration_starts_with_facts_of_its_own() -> None:
    fold = a_fold(
        registered(0, weight=1),
        updated(1, weight=7),
        drained(2),
        checked(Health.FAIL, 3),
        a_fact(LeaseFact.LAPSED, 90, 0),
        registered(91),
    )

    assert status(fold) == (Status.UP, "up")
    assert seen(fold)["p-1"][0].weight == Attributes(address="10.0.0.1", port=1).weight


def test_a_stale_generation_never_wins() -> None:
    fold = a_fold(registered(0), registered(50))

    assert fold.apply(a_fact(LeaseFact.LAPSED, 90, 0)) == OLD_GENERATION
    assert fold.apply(registered(20, address="10.0.0.9")) == SUPERSEDED
    assert fold.apply(drained(40)) == APPLIED  # kept, but it says nothing about this registration

    assert status(fold) == (Status.UP, "up")
    assert seen(fold)["p-1"][0].address == "10.0.0.1"


def test_nothing_late_resurrects_a_deregistered_instance() -> None:
    fold = a_fold(registered(0), deregistered(10))

    for late in (
        a_fact(LeaseFact.RENEWED, 11, 0),
        a_fact(LeaseFact.HEALTH, 12, 0, health=Health.PASS),
        drained(13),
        declared(Declared.UP, 14),
        checked(Health.PASS, 15),
        updated(16, address="10.0.0.9"),
        registered(9),
        a_fact(LeaseFact.RENEWED, 8, 0),
    ):
        fold.apply(late)
        assert seen(fold) == {}


def test_what_follows_a_deregistration_is_told_apart_from_what_never_was() -> None:
    fold = a_fold(registered(0), deregistered(10))

    assert fold.apply(deregistered(11)) == ALREADY_GONE
    assert fold.apply(drained(12)) == UNKNOWN_INSTANCE
    assert fold.apply(deregistered(11, "p-9")) == UNKNOWN_INSTANCE
    assert UNKNOWN_INSTANCE.dead
    assert not ALREADY_GONE.dead


def test_an_instance_comes_back_after_its_deregistration_by_registering_anew() -> None:
    fold = a_fold(registered(0), deregistered(10), registered(20))

    assert routable(fold) == {"p-1"}


def test_a_fact_that_overtook_its_registration_counts_once_that_arrives() -> None:
    fold = a_fold(drained(1), updated(2, weight=3), registered(0))

    assert status(fold) == (Status.DRAINING, "draining")
    assert seen(fold)["p-1"][0].weight == 3


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (updated(1, weight=1), updated(2, weight=2)),
        (drained(1), declared(Declared.UP, 2)),
        (checked(Health.FAIL, 1), checked(Health.PASS, 2)),
        (checked(Health.FAIL, 1), a_fact(LeaseFact.HEALTH, 2, 0, health=Health.PASS)),
        (a_fact(LeaseFact.LAPSED, 1, 0), a_fact(LeaseFact.RENEWED, 2, 0)),
        (registered(1, port=1), registered(2, port=2)),
        (deregistered(1), registered(2)),
        (registered(1), deregistered(2)),
        (a_set(1, "10.0.0.1:80"), a_set(2, "10.0.0.2:80")),
    ],
)
def test_of_two_words_on_one_thing_the_later_counts_whichever_is_read_first(
    older: RouteEvent, newer: RouteEvent
) -> None:
    assert seen(a_fold(registered(0), newer, older)) == seen(a_fold(registered(0), older, newer))


def test_an_update_changes_only_what_it_names() -> None:
    fold = a_fold(registered(0, zone="a", weight=5), updated(1, weight=6), updated(2, metadata={"v": "2"}))

    attributes = seen(fold)["p-1"][0]
    assert (attributes.zone, attributes.weight, attributes.metadata) == ("a", 6, {"v": "2"})


def test_a_set_declares_its_endpoints_without_a_lease() -> None:
    fold = a_fold(a_set(0, "10.0.0.1:80", "10.0.0.2:80"))

    assert routable(fold) == {"10.0.0.1:80", "10.0.0.2:80"}
    assert {facts[4] for facts in seen(fold).values()} == {Lease.NONE}


def test_a_set_removes_what_it_no_longer_lists() -> None:
    fold = a_fold(a_set(0, "10.0.0.1:80", "10.0.0.2:80"), a_set(1, "10.0.0.2:80", last_updated=2))

    assert routable(fold) == {"10.0.0.2:80"}


def test_a_set_never_removes_the_endpoints_of_another_source() -> None:
    fold = a_fold(
        registered(0, "10.0.0.1:80", address="10.0.0.1", port=80),
        a_set(1, "10.0.0.1:80", "10.0.0.2:80", source="dns"),
        a_set(2, "10.0.0.2:80", source="sync"),
        a_set(3, last_updated=5, source="dns"),
    )

    assert routable(fold) == {"10.0.0.1:80", "10.0.0.2:80"}
    assert seen(fold)["10.0.0.1:80"][4] is Lease.LIVE


def test_a_registration_speaks_for_an_id_before_any_set() -> None:
    fold = a_fold(a_set(0, "10.0.0.1:80"), registered(1, "10.0.0.1:80", address="10.0.0.1", port=80))
    fold.apply(a_fact(LeaseFact.LAPSED, 91, 1, "10.0.0.1:80"))
    assert routable(fold) == set()

    fold.apply(deregistered(92, "10.0.0.1:80"))
    assert routable(fold) == {"10.0.0.1:80"}  # the set still lists it


def test_a_set_with_an_older_last_updated_is_refused() -> None:
    fold = a_fold(a_set(0, "10.0.0.1:80", last_updated=10))

    assert fold.apply(a_set(1, "10.0.0.2:80", last_updated=9)) == STALE_SET
    assert STALE_SET.dead
    assert routable(fold) == {"10.0.0.1:80"}


def test_of_two_sets_with_one_last_updated_the_later_record_counts() -> None:
    fold = a_fold(a_set(1, "10.0.0.2:80", last_updated=9), a_set(0, "10.0.0.1:80", last_updated=9))

    assert routable(fold) == {"10.0.0.2:80"}


def test_each_source_of_sets_has_its_own_order() -> None:
    fold = a_fold(
        a_set(0, "10.0.0.1:80", last_updated=1_000_000, source="a"), a_set(1, "10.0.0.2:80", last_updated=1, source="b")
    )

    assert routable(fold) == {"10.0.0.1:80", "10.0.0.2:80"}


def test_an_empty_set_empties_the_table() -> None:
    assert seen(a_fold(a_set(0, "10.0.0.1:80"), a_set(1, last_updated=2))) == {}


def test_an_unhealthy_set_empties_the_table_and_keeps_its_instances_known() -> None:
    fold = a_fold(a_set(0, "10.0.0.1:80"), a_set(1, "10.0.0.1:80", last_updated=2, healthy=False))

    assert routable(fold) == set()
    assert status(fold, "10.0.0.1:80") == (Status.DOWN, "health-failed")


def test_an_endpoint_is_healthy_as_long_as_one_of_its_sources_says_so() -> None:
    fold = a_fold(a_set(0, "10.0.0.1:80", source="a"), a_set(1, "10.0.0.1:80", source="b", healthy=False))

    assert routable(fold) == {"10.0.0.1:80"}


def test_a_beats_word_on_health_counts_for_the_registration_it_follows() -> None:
    """A beat logged after a registration is about it, whichever of the two the lease fold had read first."""
    late = a_fact(LeaseFact.HEALTH, 5, 0, health=Health.FAIL)

    for order in ([registered(0), late, registered(3)], [registered(0), registered(3), late]):
        assert status(a_fold(*order)) == (Status.DOWN, "health-failed")


def test_a_tombstone_is_forgotten_after_its_day_and_not_before() -> None:
    fold = a_fold(registered(0), deregistered(10))
    end = T0 + 10_000 + TOMBSTONE_MS

    assert fold.purge(end) == 0
    assert fold.purge(end + 1) == 1
    assert fold.purge(end + 1) == 0


def test_a_tombstone_outlives_a_replay_from_yesterdays_savepoint() -> None:
    fold = a_fold(registered(0), deregistered(10))

    fold.purge(T0 + 24 * 3600 * 1000)
    fold.apply(registered(9))

    assert seen(fold) == {}


def test_what_is_registered_is_never_purged() -> None:
    fold = a_fold(registered(0), a_set(0, "10.0.0.1:80"))

    assert fold.purge(T0 + 365 * TOMBSTONE_MS) == 0
    assert routable(fold) == {"p-1", "10.0.0.1:80"}


@pytest.mark.parametrize("fact", [updated(1, weight=3), drained(1), checked(Health.FAIL, 1)])
def test_a_fact_that_waits_for_its_registration_is_kept_for_a_day(fact: RouteEvent) -> None:
    fold = a_fold(fact)

    assert fold.purge(T0 + 60_000) == 0
    assert fold.purge(T0 + 1_000 + TOMBSTONE_MS + 1) == 1


# -- properties --------------------------------------------------------------------------------------------


def expected(events: Iterable[RouteEvent]) -> Seen:
    return {i: facts(known) for i, known in oracle.told(events).known().get(SERVICE, {}).items()}


@LAW
@given(service_logs(), st.data())
def test_any_order_and_any_repetition_gives_what_the_log_says(log: list[RouteEvent], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(log), max_size=4))
    order = data.draw(st.permutations(log + repeated))

    assert seen(a_fold(*order)) == expected(log)


@LAW
@given(service_logs())
def test_replaying_a_log_changes_nothing(log: list[RouteEvent]) -> None:
    fold = a_fold(*log)
    once = seen(fold)

    for event in log:
        fold.apply(event)

    assert seen(fold) == once


@LAW
@given(service_logs(), st.integers(0, 12))
def test_a_replay_from_any_earlier_moment_changes_nothing(log: list[RouteEvent], moment: int) -> None:
    assert seen(a_fold(*log, *log[moment:])) == seen(a_fold(*log))


@LAW
@given(service_logs(), st.data())
def test_at_every_moment_of_any_order_the_view_is_legal(log: list[RouteEvent], data: st.DataObject) -> None:
    fold = a_fold()

    for event in data.draw(st.permutations(log)):
        fold.apply(event)

        for instance in fold.ids():
            found = fold.view(instance)
            assert found is not None
            shown, reason = view(found.declared, found.health, found.lease)
            assert shown is not Status.REMOVED
            assert reason
            assert (shown is Status.UP) == is_routable(found.declared, found.health, found.lease)


@LAW
@given(service_logs(), st.data())
def test_state_that_goes_through_the_codecs_at_every_step_is_no_different(
    log: list[RouteEvent], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(log))
    store = FrozenStore()
    fold = a_fold(store=store)

    for event in order:
        fold.apply(event)
        store.refreeze()

    plain = DictStore()
    assert seen(fold) == seen(a_fold(*order, store=plain))
    assert dict(store.instances) == dict(plain.instances)
    assert dict(store.sets) == dict(plain.sets)
    assert (store.header, store.pending, store.isolations) == (plain.header, plain.pending, plain.isolations)


@LAW
@given(service_logs(), st.data())
def test_what_is_forgotten_after_a_day_was_no_longer_seen(log: list[RouteEvent], data: st.DataObject) -> None:
    fold = a_fold(*data.draw(st.permutations(log)))
    before = seen(fold)

    fold.purge(T0 + 100 * TOMBSTONE_MS)

    assert seen(fold) == before


@LAW
@given(service_logs(), st.data())
def test_a_service_never_goes_back_in_time_and_ends_where_its_log_ends(
    log: list[RouteEvent], data: st.DataObject
) -> None:
    store = DictStore()
    fold = a_fold(store=store)

    for event in data.draw(st.permutations(log)):
        before, time = store.header.position, store.header.event_time
        fold.apply(event)
        assert store.header.position.reaches(before)
        assert store.header.event_time >= time

    facts, words, records = (
        [e for e in log if isinstance(e, LeaseTransition)],
        [e for e in log if isinstance(e, Isolation)],
        [e for e in log if not isinstance(e, LeaseTransition | Isolation)],
    )
    assert store.header.event_time == max(event.stamp.at for event in log)
    assert store.header.position == Position(
        max((e.stamp for e in records), default=ORIGIN),
        max((e.stamp.at for e in facts), default=0),
        max((e.stamp for e in words), default=ORIGIN),
    )


STAMPS = st.builds(Stamp, *[st.integers(-1, 2**53)] * 3)


@LAW
@given(st.builds(Position, STAMPS, st.integers(0, 2**53), st.just(ORIGIN) | STAMPS))
def test_a_position_can_be_read_back(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert position.reaches(position)


def test_a_position_written_before_there_were_isolations_is_read() -> None:
    assert Position.parse("5:0:7:9") == Position(Stamp(5, 0, 7), 9)
    with pytest.raises(ValueError, match="no position"):
        Position.parse("5:0:7:9:1")


def test_a_fold_without_the_newest_isolation_is_behind() -> None:
    assert not Position(at(1), T0).reaches(Position(at(1), T0, at(2)))


def test_leases_that_are_ahead_do_not_make_up_for_a_registry_that_is_behind() -> None:
    behind, stored = Position(at(1), T0 + 90_000), Position(at(2), T0 + 2_000)

    assert not behind.reaches(stored)
    assert not stored.reaches(behind)
