"""Figures and what was expected of them. Pure: numbers in, judgements out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TOLERANCE = 10
"""Figures of time are targets for a quiet machine of two cores. The demo fails only when one is missed by this factor,
because it must not fail for a browser that was opened beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long something took, in ms."""

    count: int
    p50: float
    p99: float
    max: float


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0…1) of the values do not exceed (nearest rank).

    No interpolation: every figure shown was measured. Of fewer than 100 values the 99th percentile is the largest.
    """
    if not sorted_values:
        raise ValueError("no values")
    # Rounded, because 0.07 * 100 is a little more than 7.
    rank = math.ceil(round(share * len(sorted_values), 9))
    return sorted_values[max(0, rank - 1)]


def spread(milliseconds: Iterable[float]) -> Spread | None:
    """Return the spread of the values, None when there are none."""
    values = sorted(milliseconds)
    if not values:
        return None
    return Spread(count=len(values), p50=percentile(values, 0.5), p99=percentile(values, 0.99), max=values[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing the demo expected. `target` says that `wanted` is a figure of time and how it was judged."""

    name: str
    wanted: str
    measured: str
    held: bool
    target_met: bool = True
    """False: within the tolerance but not within the figure."""


def exactly(name: str, measured: int, wanted: int, unit: str = "") -> Expectation:
    """Expect a count."""
    return Expectation(name=name, wanted=_with(wanted, unit), measured=_with(measured, unit), held=measured == wanted)


def at_most(name: str, measured: int, limit: int, unit: str = "") -> Expectation:
    """Expect a count that is bounded."""
    return Expectation(
        name=name, wanted=f"≤ {_with(limit, unit)}", measured=_with(measured, unit), held=measured <= limit
    )


def at_least(name: str, measured: int, limit: int, unit: str = "") -> Expectation:
    """Expect a count that is not too small."""
    return Expectation(
        name=name, wanted=f"≥ {_with(limit, unit)}", measured=_with(measured, unit), held=measured >= limit
    )


def within_ms(name: str, measured: float | None, target: float) -> Expectation:
    """Expect a duration: shown against its target, judged at `TOLERANCE` times that. None: it never happened."""
    return Expectation(
        name=name,
        wanted=f"≤ {target:g} ms",
        measured="never" if measured is None else f"{measured:.1f} ms",
        held=measured is not None and measured <= target * TOLERANCE,
        target_met=measured is not None and measured <= target,
    )


def removed_after_lease(name: str, silent_s: float | None, lease_s: float, margin_s: float) -> Expectation:
    """Expect a removal this long after the last beat: not before the lease, and not `margin_s` after it.

    Only the margin is a figure of time, so only it is multiplied.
    """
    return Expectation(
        name=name,
        wanted=f"{lease_s:g} to {lease_s + margin_s:g} s",
        measured="never" if silent_s is None else f"{silent_s:.2f} s",
        held=silent_s is not None and lease_s <= silent_s <= lease_s + margin_s * TOLERANCE,
        target_met=silent_s is not None and lease_s <= silent_s <= lease_s + margin_s,
    )


def happened(name: str, wanted: str, measured: str, held: bool) -> Expectation:
    """Expect something that is not a number."""
    return Expectation(name=name, wanted=wanted, measured=measured, held=held)


def _with(number: int, unit: str) -> str:
    return f"{number} {unit}".rstrip()
