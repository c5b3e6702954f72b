"""A reader's copy against every way a stream can mislead it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.memory import MemoryRouteStore
from waypost.client.table import LocalTable, Reading, Verdict
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Delta, Publication, digest
from waypost.wire.changes import RouteChange, decode_change

PAY = ServiceKey("default", "payments")
T0 = 1_795_298_407_272
LIFE, OTHER_LIFE = "life-a", "life-b"


def entry(port: int) -> str:
    return f'{{"address":"10.0.0.1","port":{port}}}'


def a_change(op: ChangeOp, base: int, revision: int, set: dict[str, str] | None = None, *delete: str) -> RouteChange:
    return RouteChange(
        service=PAY, op=op, base=base, revision=revision, event_time=T0, delta=Delta(set or {}, tuple(delete))
    )


def a_reading(revision: int, routes: dict[str, str], life: str = LIFE, endpoints: int | None = None) -> Reading:
    count = len(routes) if endpoints is None else endpoints
    return Reading(life=life, revision=revision, endpoints=count, event_time=T0, routes=routes)


NOTHING = a_reading(0, {})


@pytest.fixture
def table() -> LocalTable:
    """A copy at revision 10 with endpoints a and b."""
    copy = LocalTable(PAY)
    assert copy.take(a_reading(10, {"a": entry(1), "b": entry(2)})) is Verdict.APPLIED
    return copy


class TestChanges:
    def test_a_delta_on_its_revision_is_applied(self, table: LocalTable) -> None:
        assert table.offer(a_change(ChangeOp.DELTA, 10, 11, {"c": entry(3)}, "a"), LIFE) is Verdict.APPLIED
        assert (table.revision, table.routes) == (11, {"b": entry(2), "c": entry(3)})

    def test_the_same_delta_again_is_ignored(self, table: LocalTable) -> None:
        change = a_change(ChangeOp.DELTA, 10, 11, {}, "a")
        table.offer(change, LIFE)

        assert table.offer(change, LIFE) is Verdict.IGNORED

    @pytest.mark.parametrize("base", [0, 9, 11])
    def test_a_delta_on_another_revision_asks_for_a_reread(self, table: LocalTable, base: int) -> None:
        assert table.offer(a_change(ChangeOp.DELTA, base, 12, {}, "a"), LIFE) is Verdict.REREAD
        assert table.revision == 10

    def test_answers_from_a_revision_it_has_not_seen_ask_for_a_reread(self, table: LocalTable) -> None:
        assert table.offer(a_change(ChangeOp.DELTA, 12, 12), LIFE) is Verdict.REREAD
        assert table.offer(a_change(ChangeOp.DELTA, 10, 10), LIFE) is Verdict.IGNORED

    def test_a_snapshot_needs_no_base(self, table: LocalTable) -> None:
        assert table.offer(a_change(ChangeOp.SNAPSHOT, 0, 50, {"z": entry(9)}), LIFE) is Verdict.APPLIED
        assert table.routes == {"z": entry(9)}

    def test_a_removal_empties_and_is_remembered(self, table: LocalTable) -> None:
        assert table.offer(a_change(ChangeOp.REMOVED, 10, 11), LIFE) is Verdict.APPLIED
        assert (table.routes, table.exists, table.revision) == ({}, False, 11)
        assert table.offer(a_change(ChangeOp.SNAPSHOT, 0, 10, {"a": entry(1)}), LIFE) is Verdict.IGNORED
        assert table.offer(a_change(ChangeOp.DELTA, 0, 12, {"a": entry(1)}), LIFE) is Verdict.REREAD
        assert table.take(a_reading(12, {"a": entry(1)})) is Verdict.APPLIED


class TestReadings:
    def test_an_older_table_is_refused(self, table: LocalTable) -> None:
        assert table.take(a_reading(9, {"a": entry(1)})) is Verdict.REFUSED
        assert set(table.routes) == {"a", "b"}

    def test_a_store_in_another_life_that_has_nothing_is_refused(self, table: LocalTable) -> None:
        assert table.take(a_reading(0, {}, OTHER_LIFE)) is Verdict.REFUSED
        assert table.take(a_reading(0, {}, "")) is Verdict.REFUSED
        assert set(table.routes) == {"a", "b"}

    def test_a_store_in_the_same_life_that_has_nothing_has_removed_it(self, table: LocalTable) -> None:
        assert table.take(NOTHING) is Verdict.APPLIED
        assert (table.routes, table.exists, table.revision) == ({}, False, 10)

    def test_a_doubted_life_removes_nothing(self, table: LocalTable) -> None:
        table.doubt()

        assert table.take(NOTHING) is Verdict.REFUSED

    def test_a_new_life_that_has_caught_up_is_believed_from_then_on(self, table: LocalTable) -> None:
        assert table.take(a_reading(11, {"a": entry(1)}, OTHER_LIFE)) is Verdict.APPLIED
        assert table.take(a_reading(0, {}, OTHER_LIFE)) is Verdict.APPLIED
        assert not table.exists

    def test_a_lost_route_key_is_not_an_empty_table(self, table: LocalTable) -> None:
        assert table.take(a_reading(11, {}, endpoints=2)) is Verdict.REFUSED
        assert table.take(a_reading(11, {}, endpoints=0)) is Verdict.APPLIED

    def test_a_service_that_never_was_is_no_news(self) -> None:
        copy = LocalTable(PAY)

        assert copy.take(NOTHING) is Verdict.IGNORED
        assert not copy.exists
        assert copy.offer(a_change(ChangeOp.DELTA, 0, 1, {"a": entry(1)}), LIFE) is Verdict.APPLIED


ROUTES = st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(1, 99).map(entry)), max_size=3)
WRITES = st.lists(st.tuples(st.sampled_from([*ChangeOp, ChangeOp.DELTA, ChangeOp.DELTA]), ROUTES), max_size=20)


def written(store: MemoryRouteStore, epoch: int, op: ChangeOp, routes: dict[str, str | None], counter: int) -> None:
    """Publish on top of what is stored, with a revision that only ever rises."""
    stored = store.meta(PAY)
    now = dict(store.services[PAY].route) if stored else {}
    if op is not ChangeOp.DELTA:
        routes = {k: v for k, v in routes.items() if v is not None} if op is ChangeOp.SNAPSHOT else {}
        now = {}
    after = {k: v for k, v in {**now, **routes}.items() if v is not None}
    publication = Publication(
        service=PAY, op=op, base=stored.revision if stored else 0, revision=counter, event_time=T0,
        routes=routes, instances={}, digest=digest(after), endpoints=len(after), rule="test",
    )  # fmt: skip
    assert store.publish(publication, epoch, T0) == Written()


def read(store: MemoryRouteStore) -> Reading:
    stored = store.services.get(PAY)
    if stored is None:
        return Reading(life=store.look().generation or "", routes={})
    return Reading(
        life=store.look().generation or "",
        revision=int(stored.meta["revision"]),
        endpoints=int(stored.meta["endpoints"]),
        routes=dict(stored.route),
    )


@given(WRITES, st.data())
def test_any_way_of_following_ends_with_the_stores_table_and_never_goes_back(writes: list[Any], data: Any) -> None:
    store = MemoryRouteStore()
    opened = store.open(WriterId("a" * 32, 0), T0)
    assert isinstance(opened, Opened)
    copy, revisions = LocalTable(PAY), [0]

    def believe(verdict: Verdict) -> None:
        if verdict is Verdict.REREAD:
            assert copy.take(read(store)) is not Verdict.REFUSED
        revisions.append(copy.revision)

    for number, (op, routes) in enumerate(writes):
        written(store, opened.epoch, op, routes, number + 1)
        # The reader sees some entries, any number of times, in any order; others were trimmed before it came.
        kept = data.draw(st.lists(st.sampled_from(range(len(store.changes))), max_size=3))
        for index in kept:
            believe(copy.offer(decode_change(store.changes[index]), store.look().generation or ""))
    if data.draw(st.booleans()) and store.changes:
        believe(copy.offer(decode_change(store.changes[-1]), store.look().generation or ""))
    else:  # trimmed: the reader notices, and reads
        assert copy.take(read(store)) is not Verdict.REFUSED
    revisions.append(copy.revision)

    assert revisions == sorted(revisions)
    assert copy.routes == (store.services[PAY].route if PAY in store.services else {})
    assert copy.exists == (PAY in store.services)


@given(WRITES, st.lists(st.tuples(st.integers(0, 30), ROUTES, st.sampled_from([LIFE, OTHER_LIFE, ""])), max_size=8))
def test_no_reading_takes_the_revision_back_or_empties_without_a_reason(writes: list[Any], readings: list[Any]) -> None:
    copy = LocalTable(PAY)
    copy.take(a_reading(10, {"a": entry(1)}, LIFE))

    for revision, routes, life in readings:
        before, routes_before = copy.revision, copy.routes
        found = {k: v for k, v in routes.items() if v is not None} if revision else {}
        verdict = copy.take(a_reading(revision, found, life))

        assert copy.revision >= before
        if verdict is Verdict.REFUSED:
            assert copy.routes == routes_before
