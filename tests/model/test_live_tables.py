"""Tables from the audit log: what is known is right, and what is not is not guessed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.model.repairs import PAYMENTS
from tests.repair.played import an_action
from waypost.model.alert import Target
from waypost.model.impact import Place, impact
from waypost.model.live_tables import LiveTables
from waypost.model.names import ServiceKey
from waypost.model.repair_steps import Do, Step
from waypost.model.route_table import ChangeOp
from waypost.model.surroundings import Spared, surroundings
from waypost.wire.live_tables import decode_table, encode_table

SERVICES = [PAYMENTS, ServiceKey("shop", "web")]
A, B = Place("n1", "a"), Place("n2", "b", "pod-b")

places = st.builds(
    Place, st.sampled_from(["", "n1", "n2", "n3"]), st.sampled_from(["", "a"]), st.sampled_from(["", "x", "y"]),
    st.just(""), st.sampled_from(["", "10.0.0.1", "10.0.0.2"]),
)  # fmt: skip
tables = st.dictionaries(st.sampled_from("pqrs"), places, max_size=4)
steps = st.lists(
    st.tuples(st.sampled_from(SERVICES), tables, st.sampled_from(["delta", "snapshot", "lost", "twice", "removed"])),
    max_size=12,
)


@given(steps)
def test_a_table_is_either_right_or_unknown(history: list[tuple[ServiceKey, dict[str, Place], str]]) -> None:
    live = LiveTables()
    live.beside(PAYMENTS)
    real: dict[ServiceKey, dict[str, Place]] = {}
    revisions = dict.fromkeys(SERVICES, 0)

    for service, table, how in history:
        before, base = real.get(service, {}), revisions[service]
        revisions[service] += 1
        real[service] = table
        into = {name: place for name, place in table.items() if before.get(name) != place}
        out = [name for name in before if name not in table]
        if how == "lost":
            continue
        if how == "removed":
            real[service] = {}
            live.fold(service, ChangeOp.REMOVED, revisions[service], base, {}, ())
            continue
        for _ in range(1 + (how == "twice")):
            if how == "snapshot":
                live.fold(service, ChangeOp.SNAPSHOT, revisions[service], base, table, ())
            else:
                live.fold(service, ChangeOp.DELTA, revisions[service], base, into, out)
        if how == "snapshot":
            assert live.tables[service] == table

    for service, known in live.tables.items():
        if live.revisions[service] == revisions[service]:
            assert known == real[service]
    nodes = {place.node for table in live.tables.values() for place in table.values()} - {""}
    assert live.nodes == len(nodes)
    for node in nodes:
        having = {s for s, table in live.tables.items() if any(place.node == node for place in table.values())}
        assert live.on(node).keys() == having
    for service in live.tables:
        for step in (Step.of(Do.EVICT_POD), Step.of(Do.RESTART), Step.of(Do.ISOLATE)):
            for pod in ("", "x", "p"):
                action = replace(an_action(step, pod=pod), target=Target(*service))
                assert impact(action, live.beside(service, pod)) == impact(action, live.tables)


def test_a_gap_makes_it_unknown_and_a_snapshot_known_again() -> None:
    live = LiveTables()
    assert live.fold(PAYMENTS, ChangeOp.DELTA, 5, 0, {"p": A}, ())
    assert live.fold(PAYMENTS, ChangeOp.DELTA, 9, 7, {"q": A}, ())
    assert PAYMENTS not in live.tables
    assert live.fold(PAYMENTS, ChangeOp.DELTA, 10, 9, {"r": A}, ())
    assert PAYMENTS not in live.tables

    assert live.fold(PAYMENTS, ChangeOp.SNAPSHOT, 11, 10, {"p": A, "q": B}, ())

    assert live.tables[PAYMENTS] == {"p": A, "q": B}


def test_a_copy_is_nothing_new() -> None:
    live = LiveTables()
    assert live.fold(PAYMENTS, ChangeOp.DELTA, 5, 0, {"p": A}, ())
    assert not live.fold(PAYMENTS, ChangeOp.DELTA, 5, 0, {"p": A}, ())
    assert not live.fold(PAYMENTS, ChangeOp.SNAPSHOT, 4, 0, {}, ())
    assert live.tables[PAYMENTS] == {"p": A}


@given(tables, st.booleans(), st.integers(0, 2**53))
def test_what_is_stored_comes_back(table: dict[str, Place], known: bool, revision: int) -> None:
    stored = table if known else None

    assert decode_table(encode_table(revision, stored)) == (revision, stored)


def test_a_table_of_an_older_build_is_read() -> None:
    assert decode_table(b'[2,7,{"p":["n1","a","pod-1","v1"]}]') == (7, {"p": Place("n1", "a", "pod-1", "v1")})


def test_the_tables_on_a_node_tell_its_impact_as_all_of_them_do() -> None:
    live = LiveTables()
    for n, service in enumerate([*SERVICES, ServiceKey("shop", "far")]):
        live.fold(service, ChangeOp.SNAPSHOT, 1, 0, {"p": A, "q": B} if n < 2 else {"r": B}, ())
    action = an_action(Step.of(Do.CORDON), Step.of(Do.DRAIN), node="n1")

    assert impact(action, live.on("n1")) == impact(action, live.tables)


def test_surroundings_of_a_pod_are_its_endpoints() -> None:
    table = {"10.0.0.1:80": Place("n1", "", "payments-1"), "payments-1": A, "x": A}

    around = surroundings(an_action(), {PAYMENTS: table})

    assert around.instances == ("10.0.0.1:80", "payments-1")
    assert around.healthy == 3
    assert surroundings(an_action(pod=""), {PAYMENTS: table}).instances == ()
    assert surroundings(an_action(), {}).healthy == -1


def test_surroundings_of_a_node_name_who_is_there_and_who_stays() -> None:
    web = ServiceKey("shop", "web")
    known = {PAYMENTS: {"p": A, "b": B}, web: {"w": A, "z": Place("n1", "", "pod-z")}, ServiceKey("x", "y"): {"y": B}}
    action = replace(an_action(Step.of(Do.DRAIN), node="n1"), excluded=(web,))

    around = surroundings(action, known)

    assert around.services == (PAYMENTS,)
    assert around.spared == (Spared("shop", "pod-z"), Spared("shop", "w"))
