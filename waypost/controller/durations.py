"""Durations as Kubernetes writes them ("5m", "1h30m") and milliseconds, as the job's settings want them."""

from __future__ import annotations

import re

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h))+\Z")
_PART = re.compile(r"([0-9]{1,9})(ms|s|m|h)")


def milliseconds(text: str) -> int:
    """Return a duration in ms. Raises ValueError for anything that is not one or more numbers with ms, s, m or h."""
    if not _DURATION.match(text):
        raise ValueError(f"{text!r} is not a duration such as 5m or 1h30m")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
