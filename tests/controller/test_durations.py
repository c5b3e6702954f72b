"""Durations: what Kubernetes users write, in ms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.controller.durations import milliseconds


@pytest.mark.parametrize(
    ("text", "ms"), [("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("1m500ms", 60_500), ("0s", 0)]
)
def test_a_duration_is_the_sum_of_its_parts(text: str, ms: int) -> None:
    assert milliseconds(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5m ", "1.5h", "5d", "٥m", "5m\n", "1" * 10 + "s"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        milliseconds(text)


@given(st.lists(st.tuples(st.integers(0, 999_999_999), st.sampled_from(["ms", "s", "m", "h"])), min_size=1, max_size=5))
def test_parts_add_up_in_any_number(parts: list[tuple[int, str]]) -> None:
    together = milliseconds("".join(f"{number}{unit}" for number, unit in parts))

    assert together == sum(milliseconds(f"{number}{unit}") for number, unit in parts)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert milliseconds(text) >= 0
    except ValueError:
        pass
