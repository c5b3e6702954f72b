"""What counts as a percentile, and when an expectation holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.demo.figures import (
    TOLERANCE,
    at_least,
    at_most,
    exactly,
    percentile,
    removed_after_lease,
    spread,
    within_ms,
)

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=300).map(sorted)
shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.07, 7), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


@given(values, shares)
def test_a_percentile_was_measured_and_covers_its_share(numbers: list[float], share: float) -> None:
    found = percentile(numbers, share)

    assert found in numbers
    assert sum(number <= found for number in numbers) >= share * len(numbers) - 1e-6


@given(values, shares, shares)
def test_percentiles_do_not_cross(numbers: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert percentile(numbers, low) <= percentile(numbers, high)


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_spread_takes_values_in_any_order() -> None:
    found = spread([30.0, 10.0, 20.0])

    assert found is not None
    assert (found.count, found.p50, found.p99, found.max) == (3, 20.0, 30.0, 30.0)
    assert spread([]) is None


@pytest.mark.parametrize(
    ("measured", "held", "target_met"),
    [
        (100.0, True, True),
        (100.1, True, False),
        (100.0 * TOLERANCE, True, False),
        (100.0 * TOLERANCE + 1, False, False),
        (None, False, False),
    ],
)
def test_a_time_fails_at_ten_times_its_target(measured: float | None, held: bool, target_met: bool) -> None:
    found = within_ms("x", measured, 100.0)

    assert (found.held, found.target_met) == (held, target_met)


@pytest.mark.parametrize(
    ("silent", "held", "target_met"),
    [(5.99, False, False), (6.0, True, True), (8.0, True, True), (8.1, True, False), (26.0, True, False),
     (26.1, False, False), (None, False, False)],
)  # fmt: skip
def test_a_removal_is_never_early_and_only_its_margin_is_stretched(
    silent: float | None, held: bool, target_met: bool
) -> None:
    found = removed_after_lease("x", silent, lease_s=6, margin_s=2)

    assert (found.held, found.target_met) == (held, target_met)


def test_counts_are_exact() -> None:
    assert exactly("x", 3, 3).held
    assert not exactly("x", 4, 3).held
    assert at_most("x", 3, 3).held
    assert not at_most("x", 4, 3).held
    assert at_least("x", 3, 3).held
    assert not at_least("x", 2, 3).held
