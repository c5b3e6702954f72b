"""Isolation in the route fold: who leaves, who stays, who comes back, and that none of it outlasts its time."""

from __future__ import annotations

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
    checked,
    declared,
    deregistered,
    drained,
    isolated,
    registered,
    released,
    service_logs,
    unprotected,
    updated,
)
from tests.model.stores import FrozenStore
from tests.model.test_last_endpoint import Reader, damped, lapsed, reader
from tests.model.test_service import facts, seen
from waypost.model.events import Hold, LeaseFact, RouteEvent
from waypost.model.isolation import LONGEST_MS, Isolation, Verb
from waypost.model.lifecycle import Declared, Health
from waypost.model.service import (
    APPLIED,
    ISOLATION_ENDED,
    ISOLATION_OVER,
    LAST_ENDPOINT,
    NOT_ISOLATED,
    NOT_YET_KNOWN,
    SUPERSEDED,
)
from waypost.model.stamp import Cause
from waypost.wire.endpoint import IsolatedBy, decode_instance

ANNA = "operator:anna"
HOUR = 3_600_000
TWO = (registered(0, node="n1"), registered(0, "p-2", node="n2"))


def test_an_isolated_instance_is_known_and_not_routable_and_says_why() -> None:
    found = reader(*TWO, isolated(10, node="n1", cause="KubeNodeNotReady"))

    assert found.table() == {"p-2": False}
    assert found.why() == ("isolated", None)
    known = decode_instance(found.instances["p-1"])
    assert known.isolated == IsolatedBy(by="repair", cause="KubeNodeNotReady", since=T0 + 10_000, until=T0 + 3_610_000)
    assert decode_instance(found.instances["p-2"]).isolated is None


def test_a_release_brings_it_back() -> None:
    assert reader(*TWO, isolated(10), released(20)).table() == {"p-1": False, "p-2": False}
    assert reader(*TWO, isolated(10, node="n1"), released(20, node="n1")).table() == {"p-1": False, "p-2": False}


def test_who_registers_later_on_an_isolated_node_is_not_routable_and_who_moves_away_is() -> None:
    found = reader(*TWO, isolated(10, node="n1"), registered(20, "p-3", node="n1"))
    assert found.table() == {"p-2": False}

    assert found.tell(registered(30, "p-3", node="n2")).table() == {"p-2": False, "p-3": False}
    assert found.tell(updated(40, "p-2", node="n1")).table() == {"p-3": False}
    assert found.tell(released(50, node="n1")).table() == {"p-1": False, "p-2": False, "p-3": False}


def test_an_instance_that_registers_after_its_isolation_is_isolated() -> None:
    found = Reader()
    assert found.fold.apply(isolated(1, "p-2")) == NOT_YET_KNOWN

    assert found.tell(*TWO).table() == {"p-1": False}


def test_a_new_registration_does_not_end_an_isolation() -> None:
    assert reader(*TWO, isolated(10), registered(20, node="n1")).table() == {"p-2": False}


def test_it_ends_by_itself_and_says_so() -> None:
    found = reader(*TWO, isolated(10, for_s=60))
    end = T0 + 70_000
    assert found.store.isolations.next_end == end
    assert not found.fold.end_isolations(end - 1)

    assert found.fold.end_isolations(end, "service-isolation")
    plan = found.fold.plan()
    assert plan is not None
    assert plan.publication.rule == ISOLATION_ENDED
    assert plan.publication.causes == (Cause("service-isolation", 0, 0),)
    assert plan.publication.event_time == end
    assert found.publish().table() == {"p-1": False, "p-2": False}
    assert decode_instance(found.instances["p-1"]).isolated is None


def test_one_that_is_read_after_its_end_takes_nobody_out_and_ends_what_it_replaces() -> None:
    found = reader(*TWO)
    late = T0 + HOUR

    assert found.fold.apply(isolated(10, for_s=60), now=late) == ISOLATION_OVER
    assert found.publish().table() == {"p-1": False, "p-2": False}

    found.tell(isolated(20, for_s=7_200))
    assert found.fold.apply(isolated(30, for_s=60), now=late) == APPLIED
    assert found.publish().table() == {"p-1": False, "p-2": False}


def test_what_becomes_of_each_word() -> None:
    found = reader(*TWO)

    assert found.fold.apply(released(5)) == NOT_ISOLATED
    assert found.fold.apply(isolated(4)) == SUPERSEDED
    assert found.fold.apply(isolated(10)) == APPLIED
    assert found.fold.apply(isolated(10)) == SUPERSEDED
    assert found.fold.apply(isolated(11, node="n9")) == APPLIED
    assert found.fold.apply(released(12)) == APPLIED
    assert not any(v.dead for v in (NOT_ISOLATED, NOT_YET_KNOWN, ISOLATION_OVER))


def test_a_repair_releases_its_own_and_what_a_person_isolated_stays() -> None:
    found = reader(*TWO, isolated(10, node="n1"), isolated(20, node="n1", by=ANNA, for_s=7_200))

    assert found.fold.apply(released(30, node="n1")) == NOT_ISOLATED
    assert found.publish().table() == {"p-2": False}
    known = decode_instance(found.instances["p-1"])
    assert known.isolated is not None
    assert known.isolated.by == ANNA
    assert found.tell(released(40, node="n1", by=ANNA)).table() == {"p-1": False, "p-2": False}


# -- the last endpoint --------------------------------------------------------------------------------------


def test_a_repair_never_takes_the_last_endpoint_and_says_so() -> None:
    found = reader(*TWO, isolated(10, node="n1", request_id="r-1"), isolated(20, "p-2", request_id="r-2"))

    assert found.table() == {"p-1": True, "p-2": True}
    assert found.why("p-2") == ("held", Hold.ISOLATED)
    assert found.protected
    assert found.answers == {"r-1": "applied", "r-2": LAST_ENDPOINT}
    known = decode_instance(found.instances["p-2"])
    assert known.held == (Hold.ISOLATED, T0 + 20_000, T0 + 3_620_000)
    assert known.isolated is not None


def test_the_refused_isolation_counts_as_soon_as_another_endpoint_is_there() -> None:
    found = reader(registered(0, node="n1"), isolated(10, node="n1"))
    assert found.table() == {"p-1": True}

    assert found.tell(registered(20, "p-2", node="n2")).table() == {"p-2": False}
    assert found.why() == ("isolated", None)
    assert not found.protected


def test_an_operator_may_take_the_last_endpoint() -> None:
    found = reader(registered(0), isolated(10, by=ANNA, request_id="r-1"))

    assert found.table() == {}
    assert found.answers == {"r-1": "applied"}
    assert not found.protected


def test_an_operator_has_the_last_word_about_what_a_repair_left_in() -> None:
    found = reader(registered(0, node="n1"), isolated(10, node="n1"))

    assert found.tell(isolated(20, by=ANNA)).table() == {}
    assert found.tell(released(30, by=ANNA)).table() == {"p-1": True}


def test_who_lets_go_what_is_held_lets_go_the_isolated_too() -> None:
    found = reader(registered(0), isolated(10))

    assert found.tell(unprotected(20)).table() == {}
    assert found.tell(isolated(30)).table() == {"p-1": True}  # another incident


def test_when_an_operator_isolates_the_last_endpoint_no_earlier_lapse_is_taken_back() -> None:
    assert reader(*TWO, lapsed(90), isolated(100, "p-2", by=ANNA)).table() == {}


def test_a_repair_does_not_take_the_last_endpoint_that_the_gate_keeps() -> None:
    found = reader(registered(0), lapsed(90), isolated(100))

    assert found.table() == {"p-1": True}
    assert found.why() == ("held", Hold.LAST)
    assert found.tell(lapsed(690, until=0)).table() == {}


def test_one_that_a_repair_isolated_stays_when_the_other_one_lapses_fails_or_flaps() -> None:
    for word in (lapsed(90, "p-2"), checked(Health.FAIL, 90, "p-2")):
        assert reader(*TWO, isolated(10), word).table() == {"p-1": True}
    assert reader(*TWO, isolated(10), damped(90, "p-2")).table() == {"p-1": True, "p-2": True}


def test_an_endpoint_of_a_set_can_be_isolated_and_is_spared_by_a_repair() -> None:
    one, two = "10.0.0.1:80", "10.0.0.2:80"
    found = reader(a_set(0, one, two), isolated(10, one))
    assert found.table() == {two: False}

    assert found.tell(isolated(20, two)).table() == {one: True, two: True}
    assert found.tell(isolated(30, one, by=ANNA), isolated(30, two, by=ANNA)).table() == {}
    assert found.tell(released(40, one, by=ANNA)).table() == {one: False}
    assert found.tell(isolated(50, one), a_set(60, one, healthy=False, last_updated=2)).table() == {}


# -- nothing is resurrected ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone", [deregistered(20), drained(20), declared(Declared.OUT_OF_SERVICE, 20), checked(Health.FAIL, 20), lapsed(90)]
)
@pytest.mark.parametrize("by", ["repair", ANNA])
def test_neither_a_release_nor_the_end_brings_back_who_is_out_by_other_means(gone: RouteEvent, by: str) -> None:
    before = (registered(0, "p-2"), registered(0), isolated(10, by=by, for_s=600))

    assert reader(*before, gone, released(95, by=by)).table() == {"p-2": False}
    found = reader(*before, gone)
    found.fold.end_isolations(T0 + 700_000)
    assert found.publish().table() == {"p-2": False}


@LAW
@given(service_logs(30))
def test_no_isolation_adds_anybody_but_those_that_a_repair_isolated(log: list[RouteEvent]) -> None:
    found = Reader()
    for event in sorted(log, key=lambda e: e.stamp):
        before = set(found.table())
        spared = {i for i in found.fold.ids() if (v := found.fold.view(i)) is not None and v.spare is not None}
        found.tell(event)

        if isinstance(event, Isolation) and event.verb is Verb.ISOLATE:
            # A newer word may be laxer than the one it replaces: an operator's isolation, then a repair's.
            relaxed = {i for i in found.fold.ids() if event.spares_the_last and _is_about(event, found, i)}
            assert set(found.table()) - before <= spared | relaxed


def _is_about(word: Isolation, found: Reader, instance: str) -> bool:
    known = found.fold.view(instance)
    assert known is not None
    return instance == word.instance or (bool(word.node) and known.attributes.node == word.node)


@LAW
@given(service_logs(20), st.data())
def test_the_oracle_agrees_at_any_time_whenever_time_passes(log: list[RouteEvent], data: st.DataObject) -> None:
    shorter = st.sampled_from([1, 60, 600, 3_600])
    log = [
        isolated(e.stamp, e.instance, node=e.node, by=e.by, for_s=data.draw(shorter))
        if isinstance(e, Isolation) and e.verb is Verb.ISOLATE
        else e
        for e in log
    ]
    store = FrozenStore()
    found = Reader(store)
    now = T0
    for event in data.draw(st.permutations(log)):
        now += data.draw(st.sampled_from([0, 1_000, 90_000, HOUR]))
        found.fold.end_isolations(now)
        found.fold.apply(event, now=now)
        store.refreeze()
        found.publish()
    now += data.draw(st.sampled_from([0, 1_000, 90_000, HOUR]))
    found.fold.end_isolations(now)
    found.publish()

    expected = oracle.told(log).known(now).get(SERVICE, {})
    assert seen(found.fold) == {i: facts(known) for i, known in expected.items()}
    meant = {i: known.isolation.by if known.isolation else None for i, known in expected.items()}
    shown = {i: decode_instance(text).isolated for i, text in found.instances.items()}
    assert {i: one.by if one else None for i, one in shown.items()} == meant


@LAW
@given(service_logs(20))
def test_every_isolation_ends_and_leaves_what_would_be_without_it(log: list[RouteEvent]) -> None:
    with_words, without = Reader(), Reader()
    for event in sorted(log, key=lambda e: e.stamp):
        with_words.tell(event)
        if not isinstance(event, Isolation):
            without.tell(event)
    over = T0 + LONGEST_MS + 12 * 90_000

    with_words.fold.end_isolations(over)
    with_words.publish()

    assert not with_words.store.isolations.in_force
    assert with_words.store.isolations.next_end is None
    if any(v.is_routable for v in map(without.fold.view, without.fold.ids()) if v is not None):
        assert with_words.table() == without.table()
    with_words.fold.purge(over + LONGEST_MS)
    assert not with_words.store.isolations


def test_a_beat_or_a_check_does_not_end_an_isolation() -> None:
    found = reader(*TWO, isolated(10))

    for word in (checked(Health.PASS, 20), a_fact(LeaseFact.RENEWED, 30, 0), declared(Declared.UP, 40)):
        assert found.tell(word).table() == {"p-2": False}
