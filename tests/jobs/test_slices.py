"""Slices take half of the time, whatever they cost, and come one after the other."""

from __future__ import annotations

from itertools import pairwise

from jobs.operators.slices import SLICE_MS, Slices


class Machine:
    """A clock, and slices that take time."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.slices = Slices(lambda: self.seconds)

    def run(self, cost_ms: float) -> bool:
        if not self.slices.begin():
            return False
        self.seconds += cost_ms / 1000
        self.slices.end()
        return True


def test_a_slice_is_over_after_its_time() -> None:
    machine = Machine()
    assert machine.slices.begin()
    assert not machine.slices.is_over()

    machine.seconds += SLICE_MS / 1000

    assert machine.slices.is_over()


def test_after_a_slice_others_have_as_long_as_it_took() -> None:
    machine = Machine()
    machine.run(30)

    machine.seconds += 0.029
    assert not machine.run(30)
    machine.seconds += 0.002
    assert machine.run(30)


def test_slices_are_booked_one_after_the_other_and_at_first_at_once() -> None:
    slices = Slices(lambda: 0.0)

    booked = [slices.book(1_000) for _ in range(50)]

    assert 1_000 < booked[0] <= 1_002
    assert all(2 * SLICE_MS - 1 <= later - earlier <= 2 * SLICE_MS + 1 for earlier, later in pairwise(booked))


def test_costly_slices_are_booked_further_apart() -> None:
    machine = Machine()
    for _ in range(30):
        assert machine.run(50)
        machine.seconds += 0.06
    booked = [machine.slices.book(1_000) for _ in range(10)]

    assert all(95 <= later - earlier <= 105 for earlier, later in pairwise(booked))


def test_a_clock_that_is_set_back_does_not_postpone_slices() -> None:
    slices = Slices(lambda: 0.0)
    slices.book(10_000_000_000)

    assert slices.book(1_000) <= 1_002
