"""Values on the command line that need more than a string: durations and pairs."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600}


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration such as `30s`, `2m` or `1h`, as whole seconds. A bare number is refused: its unit is a guess."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,9})([smh])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; write 30s, 2m or 1h", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


class KeyValue(click.ParamType):  # type: ignore[type-arg]
    """One `key=value` pair."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not of the form key=value", param, ctx)
        return key, text
