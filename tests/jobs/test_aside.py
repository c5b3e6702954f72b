"""Whatever is put aside is taken in its order, once, and a journal has at least what was not taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.operators.aside import Aside, Record
from tests.model.events import T0, a_fact
from waypost.model.events import LeaseFact, LeaseTransition
from waypost.model.stamp import Stamp
from waypost.wire.glue import ENTRY, encode_entry
from waypost.wire.transitions import encode_transitions


def column(first: int, count: int) -> bytes:
    """A row of so many records."""
    return ENTRY.join(encode_entry("k", Stamp(T0, 0, n), "{}") for n in range(first, first + count)).encode()


def leases(first: int, count: int) -> bytes:
    """A row of so many leases that ended."""
    stamps = [Stamp(T0, 0, n) for n in range(first, first + count)]
    return encode_transitions([a_fact(LeaseFact.LAPSED, 1, stamp, f"p-{stamp.offset}") for stamp in stamps])


def offset(item: Record | LeaseTransition) -> int:
    return item.stamp.offset if isinstance(item, Record) else item.generation.offset


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([column, leases]), st.integers(1, 9)),
        st.tuples(st.just("take"), st.integers(1, 20)),
    ),
    max_size=60,
)


@given(STEPS)
def test_everything_is_taken_in_its_order_and_stays_in_the_journal_until_then(steps: list) -> None:  # type: ignore[type-arg]
    aside, journal, given_, taken = Aside(), list[bytes](), 0, list[int]()
    for what, count in steps:
        if what == "take":
            some = [offset(item) for item in aside.take(count)]
            assert len(some) <= count
            assert some or not aside
            taken += some
            if aside:
                left = aside.shorter_journal()
                assert left is None or sum(map(len, left)) < sum(map(len, journal))
                journal = journal if left is None else left
            else:
                aside, journal = Aside(), []
        else:
            row = what(given_, count)
            aside.add(row)
            journal.append(row)
            given_ += count
        assert taken == list(range(len(taken)))
        assert bool(aside) == (len(taken) < given_)
        again, found = Aside(journal), list[int]()
        while again:
            found += [offset(item) for item in again.take(20)]
        assert found[found.index(len(taken)) :] == list(range(len(taken), given_)) if aside else not found


@given(st.lists(st.integers(1, 9), max_size=9))
def test_the_journal_does_not_keep_all_it_ever_had(counts: list[int]) -> None:
    rows = [column(0, count) for count in counts]
    aside = Aside(rows)
    assert aside.size == sum(map(len, rows))
    assert aside.count() == sum(counts)
    journal = rows
    while aside:
        aside.take(1)
        journal = aside.shorter_journal() or journal
        # One row may be about to be folded, and as much as is left.
        assert sum(map(len, journal)) <= 2 * (aside.size + max(map(len, rows), default=0))
    assert aside.size == 0
