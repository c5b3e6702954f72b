"""Whether damage is found, and how much time finding it may take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.model.audit import START, Budget, Scan, damage
from waypost.model.fencing import StoredMeta, TablePart
from waypost.model.route_table import digest, format_digest

META = StoredMeta(revision=7, epoch=3, digest="00", event_time=5, position="5:0:1:0", endpoints=2)
WHOLE = TablePart(meta=META, endpoints=2, known=3, listed=True, entries=(), cursor=START)


def a_part(entries: dict[str, str], cursor: str = START) -> TablePart:
    return replace(WHOLE, entries=tuple(entries.items()), cursor=cursor)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (WHOLE, ""),
        (replace(WHOLE, meta=None), "meta-missing"),
        (replace(WHOLE, meta=replace(META, revision=8)), "meta-differs"),
        (replace(WHOLE, meta=replace(META, position="")), "meta-differs"),
        (replace(WHOLE, endpoints=1), "entries-missing"),
        (replace(WHOLE, endpoints=3), "entries-added"),
        (replace(WHOLE, known=1), "instances-missing"),
        (replace(WHOLE, listed=False), "unlisted"),
    ],
)
def test_each_kind_of_damage_has_a_name(part: TablePart, found: str) -> None:
    assert damage(part, META) == found


TABLES = st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=12)


@given(TABLES, st.integers(1, 4))
def test_digest_of_a_scan_is_the_tables_however_it_is_cut(table: dict[str, str], size: int) -> None:
    scan, entries = Scan(), list(table.items())

    for first in range(0, len(entries), size):
        scan.take(a_part(dict(entries[first : first + size]), "more"))

    assert scan.digest() == format_digest(digest(table))


@given(TABLES, TABLES, st.sets(st.text(max_size=3)), st.integers(0, 12))
def test_own_writes_during_a_scan_are_no_damage(
    table: dict[str, str], changes: dict[str, str], gone: set[str], read_before: int
) -> None:
    scan, entries = Scan(), list(table.items())
    scan.take(a_part(dict(entries[:read_before]), "more"))

    routes = {**changes, **dict.fromkeys(gone)}
    scan.wrote(routes)
    after = {k: v for k, v in {**table, **routes}.items() if v is not None}
    unread = {k: v for k, v in after.items() if k not in dict(entries[:read_before])}
    scan.take(a_part(unread))

    assert scan.digest() == format_digest(digest(after))


def test_an_entry_that_a_store_gives_twice_counts_once() -> None:
    scan = Scan()

    scan.take(a_part({"a": "1"}, "more"))
    last = scan.take(a_part({"a": "1", "b": "2"}))

    assert last
    assert scan.digest() == format_digest(digest({"a": "1", "b": "2"}))


def test_slots_take_no_more_than_their_share_of_the_time() -> None:
    budget = Budget(percent=5)

    ends = []
    for _ in range(1_000):
        ends.append(budget.reserve(0))
        budget.spent(3.0)

    assert 1_000 * 3.0 / (ends[-1] + 60) == pytest.approx(0.05, rel=0.02)


def test_a_budget_that_was_not_used_is_not_saved_up() -> None:
    budget = Budget(percent=5)
    budget.reserve(0)
    budget.spent(1.0)

    starts = [budget.reserve(60_000) for _ in range(3)]

    assert starts[0] == 60_000
    assert starts[2] >= starts[1] + 20 >= starts[0] + 40


def test_one_dear_slot_is_paid_for_before_the_next() -> None:
    budget = Budget(percent=5)

    budget.reserve(0)
    budget.spent(200.0)

    assert budget.reserve(0) == pytest.approx(4_000, rel=0.01)
