"""Tables as data: differences and digests."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from waypost.model.route_table import Delta, apply, diff, digest, entry_digest, format_digest

IDS = st.sampled_from(["p-1", "p-2", "p-3", "10.0.0.1:80"])
TABLES = st.dictionaries(IDS, st.sampled_from(['{"port":1}', '{"port":2}', ""]))


def test_a_difference_names_what_is_new_changed_and_gone() -> None:
    old, new = {"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}

    assert diff(old, new) == Delta(set={"b": "2", "d": "1"}, delete=("a",))


def test_the_digest_of_an_empty_table_is_zero() -> None:
    assert digest({}) == 0
    assert format_digest(0) == "0000000000000000"


def test_a_digest_is_the_same_in_every_process() -> None:
    assert format_digest(digest({"p-1": "{}"})) == "344542c78e7b066f"


def test_two_entries_do_not_cancel_each_other() -> None:
    """XOR forgets pairs of equal digests: an entry's digest therefore holds its id, and an id is in a table once."""
    assert digest({"a": "1", "b": "1"}) != 0
    assert entry_digest("a", "b\0c") != entry_digest("a\0b", "c\0")


@LAW
@given(TABLES, TABLES)
def test_applying_a_difference_leads_to_the_other_table(old: dict[str, str], new: dict[str, str]) -> None:
    before = dict(old)

    assert apply(old, diff(old, new)) == new
    assert old == before


@LAW
@given(TABLES, TABLES)
def test_a_difference_is_as_small_as_it_can_be(old: dict[str, str], new: dict[str, str]) -> None:
    delta = diff(old, new)

    assert bool(delta) == (old != new)
    assert not set(delta.set) & set(delta.delete)
    assert all(old.get(i) != text for i, text in delta.set.items())
    assert all(i in old for i in delta.delete)


@LAW
@given(TABLES, TABLES, TABLES)
def test_differences_in_a_row_lead_to_the_last_table(a: dict[str, str], b: dict[str, str], c: dict[str, str]) -> None:
    assert apply(apply(a, diff(a, b)), diff(b, c)) == c


@LAW
@given(TABLES)
def test_a_digest_is_that_of_its_entries_in_any_order(table: dict[str, str]) -> None:
    entries = sorted(table.items(), reverse=True)

    assert digest(dict(entries)) == digest(table) == reduce(lambda x, e: x ^ entry_digest(*e), entries, 0)


@LAW
@given(TABLES, TABLES)
def test_different_tables_have_different_digests(a: dict[str, str], b: dict[str, str]) -> None:
    assert (digest(a) == digest(b)) == (a == b)
