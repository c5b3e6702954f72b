"""A table does not become empty by leases or damping; and what it then holds is marked."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import (
    LAW,
    SERVICE,
    T0,
    a_fact,
    a_set,
    declared,
    deregistered,
    drained,
    registered,
    service_logs,
    unprotected,
    updated,
)
from tests.model.stores import DictStore, FrozenStore
from waypost.model.events import Hold, InstanceEvent, LeaseFact, LeaseTransition, RouteEvent
from waypost.model.isolation import REPAIR, Isolation
from waypost.model.lifecycle import Declared
from waypost.model.route_table import digest
from waypost.model.service import APPLIED, NOT_PROTECTED, ServiceFold
from waypost.model.service_state import Mark
from waypost.wire.endpoint import JsonRenderer, decode_endpoint, decode_instance

HOLD = T0 + 700_000
ENDS = (LeaseFact.LAPSED, LeaseFact.HELD)
"""What ends a hold when no time is said with it."""


class Reader:
    """A fold whose every change is published at once, and what a reader then has."""

    def __init__(self, store: DictStore | None = None) -> None:
        self.store = store if store is not None else DictStore()
        self.fold = ServiceFold(SERVICE, self.store, JsonRenderer())
        self.route: dict[str, str] = {}
        self.instances: dict[str, str] = {}
        self.protected = False
        self.answers: dict[str, str] = {}

    def tell(self, *events: RouteEvent) -> Reader:
        for event in events:
            self.fold.apply(event)
        return self.publish()

    def publish(self) -> Reader:
        plan = self.fold.plan()
        if plan is not None:
            for mine, told in ((self.route, plan.publication.routes), (self.instances, plan.publication.instances)):
                for instance, text in told.items():
                    if text is None:
                        mine.pop(instance, None)
                    else:
                        mine[instance] = text
            self.protected = plan.publication.protected
            self.answers.update({a.request_id: a.reason for a in plan.publication.answers})
            self.fold.done(plan)
        return self

    def table(self) -> dict[str, bool]:
        """Instance → whether it is held."""
        return {i: decode_endpoint(text).held for i, text in self.route.items()}

    def why(self, instance: str = "p-1") -> tuple[str, Hold | None]:
        known = decode_instance(self.instances[instance])
        return known.reason, known.held.why if known.held else None


def reader(*events: RouteEvent) -> Reader:
    found = Reader()
    for event in events:
        found.tell(event)
    return found


def lapsed(when: float, instance: str = "p-1", until: int = HOLD, **more: int) -> LeaseTransition:
    return a_fact(LeaseFact.LAPSED, when, 0, instance, until=until, **more)


def held(when: float, instance: str = "p-1") -> LeaseTransition:
    return a_fact(LeaseFact.HELD, when, 0, instance, until=HOLD, hold=Hold.SERVICE)


def damped(when: float, instance: str = "p-1", until: int = HOLD) -> LeaseTransition:
    return a_fact(LeaseFact.DAMPED, when, 0, instance, until=until)


def test_a_held_instance_is_in_the_table_and_says_so() -> None:
    found = reader(registered(0), registered(0, "p-2"), held(90))

    assert found.table() == {"p-1": True, "p-2": False}
    assert found.why() == ("held", Hold.SERVICE)
    assert found.protected
    assert decode_instance(found.instances["p-1"]).held == (Hold.SERVICE, T0 + 90_000, HOLD)

    found.tell(a_fact(LeaseFact.RENEWED, 95, 0))
    assert found.table() == {"p-1": False, "p-2": False}
    assert not found.protected


def test_a_held_instance_leaves_when_its_hold_is_over_even_as_the_last() -> None:
    found = reader(registered(0), held(90)).tell(lapsed(690, until=0))

    assert found.table() == {}
    assert not found.protected


def test_the_last_endpoint_stays_until_another_one_is_routable() -> None:
    found = reader(registered(0), lapsed(90))
    assert found.table() == {"p-1": True}
    assert found.why() == ("held", Hold.LAST)
    assert found.protected

    found.tell(registered(100, "p-2"))
    assert found.table() == {"p-2": False}
    assert found.why() == ("lease-lapsed", None)
    assert not found.protected


def test_the_last_endpoint_stays_until_its_hold_is_over() -> None:
    found = reader(registered(0), lapsed(90)).tell(lapsed(690, until=0))

    assert found.table() == {}
    assert found.why() == ("lease-lapsed", None)
    assert not found.protected


def test_of_those_that_lapse_together_the_one_that_beat_last_stays() -> None:
    found = reader(registered(0), registered(0, "p-2"))

    found.tell(lapsed(90, last_beat=T0 + 5_000), lapsed(90, "p-2", last_beat=T0 + 4_000))

    assert found.table() == {"p-1": True}


@pytest.mark.parametrize(
    "word",
    [
        deregistered(100, "p-2"),
        drained(100, "p-2"),
        declared(Declared.DOWN, 100, "p-2"),
    ],
)
def test_when_a_word_takes_out_the_last_endpoint_no_earlier_lapse_is_taken_back(word: RouteEvent) -> None:
    assert reader(registered(0), registered(0, "p-2"), lapsed(90), word).table() == {}


def test_an_empty_set_after_a_lapse_empties_the_table() -> None:
    found = reader(registered(0), a_set(1, "10.0.0.9:80"), lapsed(90), a_set(100, last_updated=2))

    assert found.table() == {}


def test_words_about_the_dead_do_not_take_the_last_endpoint_away() -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(80, "p-2"), lapsed(90))
    assert found.table() == {"p-1": True}

    found.tell(deregistered(100, "p-2"))
    found.tell(updated(101, weight=7))

    assert found.table() == {"p-1": True}


@pytest.mark.parametrize("word", [deregistered(100), drained(100), declared(Declared.OUT_OF_SERVICE, 100)])
def test_a_word_about_the_endpoint_that_is_kept_counts(word: RouteEvent) -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(80, "p-2"), lapsed(90), word)

    assert found.table() == {}
    assert not found.protected


def test_an_operator_lets_everything_held_leave() -> None:
    found = reader(registered(0), registered(0, "p-2"), held(90), held(90, "p-2"))

    assert found.fold.apply(unprotected(100)) == APPLIED
    assert found.tell().table() == {}
    assert found.fold.apply(unprotected(101)) == NOT_PROTECTED
    assert found.tell(held(102)).table() == {"p-1": True}  # another incident


def test_an_operator_lets_the_last_endpoint_leave() -> None:
    found = reader(registered(0), lapsed(90))

    assert found.fold.apply(unprotected(100)) == APPLIED
    assert found.tell().table() == {}


def test_a_damped_instance_waits_and_says_so() -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(90), damped(90))
    found.tell(a_fact(LeaseFact.RENEWED, 95, 0))
    assert found.table() == {"p-2": False}
    assert found.why() == ("damped", None)
    assert decode_instance(found.instances["p-1"]).damped_until == HOLD

    found.tell(damped(200, until=0))
    assert found.table() == {"p-1": False, "p-2": False}


def test_damping_never_keeps_the_last_endpoint_out() -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(90), damped(90), a_fact(LeaseFact.RENEWED, 95, 0))
    assert found.table() == {"p-2": False}

    found.tell(drained(100, "p-2"))
    assert found.table() == {"p-1": True}
    assert found.why() == ("held", Hold.FLAPS)

    found.tell(registered(110, "p-2"))
    assert found.table() == {"p-2": False}


@pytest.mark.parametrize("word", [registered(100), declared(Declared.UP, 100)])
def test_damping_never_delays_a_registration_or_an_operator(word: RouteEvent) -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(90), damped(90), a_fact(LeaseFact.RENEWED, 95, 0))

    assert "p-1" in found.tell(word).table()


@pytest.mark.parametrize("word", [deregistered(100), drained(100)])
def test_damping_never_delays_a_departure(word: RouteEvent) -> None:
    assert "p-1" not in reader(registered(0), damped(90), word).table()


def test_one_that_is_away_by_damping_is_not_brought_back_by_the_brake() -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(90), damped(90), a_fact(LeaseFact.RENEWED, 95, 0))

    assert found.tell(held(200)).table() == {"p-2": False}


def test_the_last_word_about_one_that_is_out_writes_nothing() -> None:
    found = reader(registered(0), registered(0, "p-2"), lapsed(90))

    found.fold.apply(lapsed(690, until=0))

    assert found.fold.plan() is None
    assert found.tell(drained(700, "p-2")).table() == {}


@LAW
@given(service_logs(30))
def test_no_table_becomes_empty_by_what_the_lease_path_a_check_or_a_repair_says(log: list[RouteEvent]) -> None:
    found = Reader()
    for event in sorted(log, key=lambda e: e.stamp):
        before = len(found.route)
        found.tell(event)

        is_lease = isinstance(event, LeaseTransition)
        is_check = isinstance(event, InstanceEvent) and event.health is not None
        is_repair = isinstance(event, Isolation) and event.by == REPAIR
        ends_hold = isinstance(event, LeaseTransition) and event.fact in ENDS and not event.until
        if before and (is_lease or is_check or is_repair) and not ends_hold:
            assert found.route


@LAW
@given(service_logs(30), st.data())
def test_a_snapshot_says_what_the_changes_said(log: list[RouteEvent], data: st.DataObject) -> None:
    store = FrozenStore()
    found = Reader(store)
    for event in data.draw(st.permutations(log)):
        found.tell(event)
        store.refreeze()
        whole = found.fold.plan(above=max(store.header.revision, 1))
        assert whole is not None

        assert whole.publication.routes == found.route
        assert {i: said(text) for i, text in whole.publication.instances.items()} == {
            i: said(text) for i, text in found.instances.items()
        }
        assert whole.publication.digest == store.header.digest == digest(found.route)
        assert whole.publication.endpoints == store.header.endpoints == len(found.route)
        assert whole.marks == store.header.marks
        assert whole.publication.protected == any(found.table().values()) == found.protected
        assert {i for i, e in store.published.items() if e.mark is Mark.SPARE} == found.fold._spares()


@LAW
@given(service_logs(20), st.data())
def test_changes_told_together_or_one_by_one_end_in_one_table(log: list[RouteEvent], data: st.DataObject) -> None:
    order = data.draw(st.permutations(log))
    one_by_one = Reader()
    for event in order:
        one_by_one.tell(event)

    assert Reader().tell(*order).table().keys() == one_by_one.table().keys()


def said(text: str | None) -> object:
    known = decode_instance(text or "")
    return known.status, known.reason, known.held, known.damped_until, known.health, known.lease, known.isolated


def told(events: Iterable[RouteEvent]) -> dict[str, bool]:
    return Reader().tell(*events).table()


def test_registrations_and_lapses_that_overtake_each_other_end_in_one_table() -> None:
    """The two come by different ways; only the last to leave counts, by the stamps of the log."""
    events = [registered(0), registered(0, "p-2"), lapsed(90), drained(100, "p-2")]

    assert told(events) == told([events[0], events[1], events[3], events[2]]) == {}
