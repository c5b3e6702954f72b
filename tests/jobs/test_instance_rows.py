"""Rows of instances in keyed state: what stays read between turns is never anything but what state holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from jobs.operators.keyed_state import InstanceRows
from tests.jobs.fakes import Checkpoint, FakeRuntimeContext, Subtask
from waypost.model.fencing import WriterId

KEYS = ("a", "b", "c")
VALUES = st.none() | st.lists(st.integers(1, 9), min_size=1)
CHANGES = st.tuples(st.sampled_from(KEYS), st.integers(0, 9), st.integers(0, 1), VALUES)


class SmallRows(InstanceRows):
    KEPT = 5


class Rows:
    """Rows over a state of their own; `state` outlives the task."""

    def __init__(self, state: Checkpoint) -> None:
        self.task = SimpleNamespace(state=state, key="")
        context = FakeRuntimeContext(cast(Subtask, self.task), WriterId("0" * 32, 0))
        self.rows = SmallRows(cast(Any, context), "rows", columns=2)

    def turn_to(self, key: str) -> None:
        self.task.key = key
        self.rows.turn_to(key)

    def read(self, key: str) -> dict[tuple[str, int], Any]:
        self.turn_to(key)
        return {(i, column): self.rows.get(i, column) for column in (0, 1) for i in self.rows.having(column)}


def filled() -> Checkpoint:
    """Return a state with three rows of a, two of b, six of c."""
    state = Checkpoint()
    rows = Rows(state)
    for key, instances in (("a", 3), ("b", 2), ("c", 6)):
        rows.turn_to(key)
        for n in range(instances):
            rows.rows.set(f"i{n}", 0, [n])
        rows.rows.save()
    return state


@given(st.lists(CHANGES, max_size=60))
def test_rows_are_what_was_saved_however_many_stay_read(changes: list[tuple[str, int, int, list[int] | None]]) -> None:
    state = Checkpoint()
    tested = Rows(state)
    expected: dict[str, dict[tuple[str, int], Any]] = {key: {} for key in KEYS}
    for key, number, column, value in changes:
        tested.turn_to(key)
        tested.rows.set(f"i{number}", column, value)
        tested.rows.save()
        expected[key].pop((f"i{number}", column), None)
        if value is not None:
            expected[key][f"i{number}", column] = value
        assert tested.read(key) == expected[key]

    assert {key: tested.read(key) for key in KEYS} == expected
    assert {key: Rows(state).read(key) for key in KEYS} == expected


def test_a_keys_rows_are_read_once_as_long_as_there_is_room() -> None:
    state = filled()
    tested = Rows(state)
    for key in ("a", "b"):
        tested.read(key)
    state.maps.clear()  # Whoever reads again finds nothing.

    assert len(tested.read("a")) == 3
    assert len(tested.read("b")) == 2
    assert tested.read("c") == {}


def test_the_rows_of_a_key_that_was_long_away_make_room() -> None:
    state = filled()
    tested = Rows(state)
    for key in ("a", "b", "c", "b"):
        tested.read(key)
    state.maps.clear()

    assert len(tested.read("b")) == 2, "the newest stays"
    assert tested.read("a") == {}, "the oldest was forgotten"
