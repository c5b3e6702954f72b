"""Slices leave room for rows, and a service with little to fold does not wait for those with much."""

from __future__ import annotations

import pytest

from jobs.operators.slices import SLICE_MS, Slices


class Machine:
    """A clock, and rows and slices that take time."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.slices = Slices(lambda: self.seconds)

    def pass_ms(self, ms: float) -> None:
        self.seconds += ms / 1000

    def row(self, ms: float, *, late: bool = False, explicit: bool = True) -> None:
        self.slices.begin_row()
        if late:
            self.slices.note_backlog()
        self.pass_ms(ms)
        self.slices.end_row(explicit=explicit)

    def slice(self, ms: float = SLICE_MS, *, left_after: int | None = None) -> str:
        """Fold all of whose turn it is, or, with `left_after`, so many records, and more of it waits."""
        assert self.slices
        self.slices.begin()
        service = self.slices.next()
        self.pass_ms(ms)
        if left_after is not None:
            self.slices.add(service, -left_after, explicit=True)
        self.slices.end_turn(service)
        self.slices.end()
        return service

    def turns_until(self, service: str) -> int:
        """Count turns until that of a service; all others are through with theirs."""
        turns = 1
        while self.slice() != service:
            turns += 1
        return turns


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_slice_is_over_after_its_time(machine: Machine) -> None:
    machine.slices.add("a", 1, explicit=True)
    machine.slices.begin()
    assert not machine.slices.is_over()

    machine.pass_ms(SLICE_MS)

    assert machine.slices.is_over()


# -- rows -------------------------------------------------------------------------------------------------


def test_rows_that_take_less_than_half_of_the_time_are_folded_as_they_come(machine: Machine) -> None:
    for _ in range(1_000):
        assert machine.slices.has_room(explicit=True)
        machine.row(4)
        machine.pass_ms(5)


def test_rows_that_take_more_are_put_aside_after_a_moment_and_not_for_long(machine: Machine) -> None:
    folded = 0
    while machine.slices.has_room(explicit=True):
        machine.row(1)
        folded += 1
    assert SLICE_MS <= folded <= 3 * SLICE_MS

    for _ in range(10_000):
        machine.row(1)
    assert not machine.slices.has_room(explicit=True)
    machine.pass_ms(3 * SLICE_MS)
    assert machine.slices.has_room(explicit=True), "a storm that is over holds up nobody"


def test_explicit_changes_wait_for_each_other_and_everything_else_for_all(machine: Machine) -> None:
    for _ in range(100):
        machine.row(1, explicit=False)
    assert machine.slices.has_room(explicit=True)
    assert not machine.slices.has_room(explicit=False)
    machine.pass_ms(5 * SLICE_MS)

    for _ in range(100):
        machine.row(1)
    assert not machine.slices.has_room(explicit=True)
    assert not machine.slices.has_room(explicit=False)


def test_after_a_slice_rows_have_as_long_as_it_took(machine: Machine) -> None:
    machine.slices.add("a", 100, explicit=True)
    machine.slice(30, left_after=1)

    machine.row(1)
    assert 29 <= machine.slices.wait_ms() <= 30
    machine.row(28)
    assert 0 < machine.slices.wait_ms() <= 2
    machine.row(2)
    assert machine.slices.wait_ms() == 0


def test_a_slice_waits_for_no_rows_when_there_are_none(machine: Machine) -> None:
    machine.slices.add("a", 100, explicit=True)
    machine.slice(30, left_after=1)

    machine.pass_ms(1)

    assert machine.slices.wait_ms() == 0


def test_while_the_job_is_behind_rows_have_several_times_as_long(machine: Machine) -> None:
    machine.slices.add("a", 100, explicit=True)
    machine.slice(30, left_after=1)

    machine.row(1, late=True)
    machine.pass_ms(60)  # more are on their way
    assert 59 <= machine.slices.wait_ms() <= 60
    machine.pass_ms(60)
    assert machine.slices.wait_ms() == 0


def test_late_rows_that_are_over_hold_up_nobody(machine: Machine) -> None:
    machine.slices.add("a", 100, explicit=True)
    machine.slice(500, left_after=1)
    machine.row(1, late=True)

    machine.pass_ms(120)

    assert machine.slices.wait_ms() == 0


# -- turns ------------------------------------------------------------------------------------------------


def test_who_has_little_to_fold_goes_before_those_that_wait_longer(machine: Machine) -> None:
    for number in range(1_000):
        machine.slices.add(f"storm-{number}", 100, explicit=True)
    for _ in range(50):
        assert machine.slice().startswith("storm-")

    machine.slices.add("other", 5, explicit=True)

    assert machine.turns_until("other") <= 2


def test_who_asks_for_little_soon_has_its_turn_however_often_it_had_one(machine: Machine) -> None:
    for number in range(1_000):
        machine.slices.add(f"storm-{number}", 100, explicit=True)
    asked = 0
    while machine.slices:
        machine.slices.add("other", 1, explicit=True)
        assert machine.turns_until("other") <= 2
        asked += 1
    assert asked >= 500


def test_who_has_much_has_its_turn_however_many_ask_for_little(machine: Machine) -> None:
    machine.slices.add("large", 10_000, explicit=True)

    turns = []
    while "large" not in turns:
        machine.slices.add(f"small-{len(turns)}", 10, explicit=True)
        turns.append(machine.slice())

    assert len(turns) <= 2


def test_who_always_wants_more_takes_turns(machine: Machine) -> None:
    for service in ("a", "b", "c"):
        machine.slices.add(service, 10, explicit=True)

    turns = [machine.slice(left_after=0) for _ in range(300)]

    for service in ("a", "b", "c"):
        assert turns.count(service) >= 50


def test_who_is_almost_through_goes_before_those_that_have_not_begun(machine: Machine) -> None:
    for service in ("a", "b", "c"):
        machine.slices.add(service, 100, explicit=True)
    first = machine.slice(left_after=90)

    assert first in (machine.slice(), machine.slice())


def test_who_gets_more_while_it_waits_keeps_its_place(machine: Machine) -> None:
    for service in ("a", "b"):
        machine.slices.add(service, 100, explicit=True)
    machine.slices.add("a", 1_000, explicit=True)

    assert [machine.slice(), machine.slice()] == ["b", "a"], "b has less, a waits longer"
    machine.slices.add("c", 500, explicit=True)
    machine.slices.add("a", 1, explicit=True)
    assert [machine.slice(), machine.slice()] == ["a", "c"], "what it had is through"


def test_who_has_more_of_another_kind_keeps_its_size(machine: Machine) -> None:
    """What a service put aside may be explicit changes and leases in turns: it waits in the one queue or the other."""
    slices = machine.slices
    slices.add("much", 1_000, explicit=False)
    assert slices.next() == "much"
    slices.add("much", -16, explicit=True)
    slices.end_turn("much")

    slices.add("least", 500, explicit=True)

    assert [machine.slice(), machine.slice()] == ["least", "much"]


def test_what_waits_is_over_when_all_had_their_turn(machine: Machine) -> None:
    for service in ("a", "b", "a"):
        machine.slices.add(service, 1, explicit=True)

    assert {machine.slice(), machine.slice()} == {"a", "b"}
    assert not machine.slices


def test_who_had_much_folded_in_an_earlier_storm_is_like_others_in_the_next(machine: Machine) -> None:
    machine.slices.add("a", 100_000, explicit=True)
    machine.slice()

    machine.slices.add("b", 20, explicit=True)
    machine.slices.add("a", 10, explicit=True)
    machine.slices.add("c", 20, explicit=True)

    assert "a" in (machine.slice(), machine.slice())


def test_explicit_changes_and_others_have_every_other_turn(machine: Machine) -> None:
    for number in range(10):
        machine.slices.add(f"explicit-{number}", 1, explicit=True)
        machine.slices.add(f"other-{number}", 1, explicit=False)

    turns = [machine.slice().partition("-")[0] for _ in range(20)]

    assert {tuple(turns[n : n + 2]) for n in range(0, 20, 2)} in ({("explicit", "other")}, {("other", "explicit")})
    assert not machine.slices


def test_who_waits_gets_on_with_an_explicit_change_and_has_one_turn(machine: Machine) -> None:
    for service in ("a", "b", "c", "d"):
        machine.slices.add(service, 1, explicit=False)

    machine.slices.add("d", 1, explicit=True)

    turns = [machine.slice() for _ in range(4)]
    assert "d" in turns[:2]
    assert sorted(turns) == ["a", "b", "c", "d"]
    assert not machine.slices


def test_who_has_left_a_queue_and_comes_again_has_one_turn_in_it(machine: Machine) -> None:
    machine.slices.add("x", 1, explicit=True)
    machine.slices.add("y", 1, explicit=False)
    assert {machine.slice(), machine.slice()} == {"x", "y"}
    machine.slices.add("a", 1, explicit=False)
    machine.slices.add("a", 1, explicit=True)
    assert machine.slice() == "a"

    machine.slices.add("a", 50, explicit=False)
    machine.slices.add("b", 2, explicit=False)

    assert {machine.slice(), machine.slice()} == {"a", "b"}
    assert not machine.slices
