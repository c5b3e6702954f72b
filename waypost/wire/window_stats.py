"""What readers are told of a service's window: fields of its `meta` in Redis, all of them strings.

Numbers are decimal; cpu has three digits behind the point, in the producer's unit. A field is empty when no beat said
anything of it. A service of which no window has ended yet has none of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from waypost.errors import DecodeError
from waypost.model.health_window import WindowStats
from waypost.wire.fields import as_text, required

_WHOLE = re.compile(r"(?:0|[1-9][0-9]{0,14})\Z")
_THOUSANDTHS = re.compile(r"(0|[1-9][0-9]{0,11})\.([0-9]{3})\Z")

_MAX_SIGNS = 16


def encode_window_stats(stats: WindowStats) -> dict[str, str]:
    """Write the fields."""
    return {
        "window_start": str(stats.start),
        "window_end": str(stats.end),
        "window_beats": str(stats.beats),
        "window_late": str(stats.late),
        "window_instances": str(stats.instances),
        "window_healthy": str(stats.healthy),
        "cpu_mean": _thousandths(stats.cpu_mean),
        "cpu_max": _thousandths(stats.cpu_max),
        "lag_max_ms": "" if stats.lag_max_ms is None else str(stats.lag_max_ms),
        "drift": "" if stats.drift is None else str(stats.drift),
    }


def _thousandths(number: int | None) -> str:
    return "" if number is None else f"{number // 1000}.{number % 1000:03d}"


def decode_window_stats(meta: Mapping[str, Any]) -> WindowStats:
    """Read the fields out of a whole `meta`. Raises DecodeError; `window-end-missing` when no window has ended."""
    fields = dict(meta)
    return WindowStats(
        end=_whole(fields, "window_end"),
        start=_whole(fields, "window_start"),
        beats=_whole(fields, "window_beats"),
        late=_whole(fields, "window_late"),
        instances=_whole(fields, "window_instances"),
        healthy=_whole(fields, "window_healthy"),
        cpu_mean=_milli(fields, "cpu_mean"),
        cpu_max=_milli(fields, "cpu_max"),
        lag_max_ms=_whole_or_none(fields, "lag_max_ms"),
        drift=_whole_or_none(fields, "drift"),
    )


def _whole(fields: dict[str, Any], name: str) -> int:
    text = as_text(name, required(fields, name), _MAX_SIGNS)
    if not _WHOLE.match(text):
        raise DecodeError("wrong-type", f"{name} must be a decimal number")
    return int(text)


def _whole_or_none(fields: dict[str, Any], name: str) -> int | None:
    return None if required(fields, name) == "" else _whole(fields, name)


def _milli(fields: dict[str, Any], name: str) -> int | None:
    text = as_text(name, required(fields, name), _MAX_SIGNS)
    if not text:
        return None
    found = _THOUSANDTHS.match(text)
    if not found:
        raise DecodeError("wrong-type", f"{name} must be a number with three digits behind the point")
    return int(found[1]) * 1000 + int(found[2])
