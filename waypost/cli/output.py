"""How commands print: aligned columns for people, one document for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import click
import yaml

_GAP = "   "

Row = Sequence[str]


class TableWriter:
    """Prints rows under one header, some now and some later; a column that has to grow stays wide from then on."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._widths = [len(column) for column in columns]
        self._has_header = False

    def write(self, rows: Iterable[Row]) -> None:
        """Print rows, and before the first ones the header."""
        shown = [[_one_line(cell) for cell in row] for row in rows]
        if not shown:
            return
        self._widths = [
            max(width, *map(len, cells)) for width, cells in zip(self._widths, zip(*shown, strict=True), strict=True)
        ]
        if not self._has_header:
            self._has_header = True
            shown.insert(0, list(self._columns))
        for row in shown:
            cells = (cell.ljust(width) for cell, width in zip(row, self._widths, strict=True))
            click.echo(_GAP.join(cells).rstrip())


def print_table(rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Print all rows, aligned, under a header; nothing when there are none."""
    TableWriter(columns).write(rows)


def print_document(document: Any, output: str, *, follows: bool = False) -> None:
    """Print one document as `json` or `yaml`. `follows`: it is one of many, so a line of JSON each, or `---` before."""
    if output == "yaml":
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        click.echo(f"---\n{text}" if follows else text, nl=False)
    else:
        click.echo(json.dumps(document, ensure_ascii=False, indent=None if follows else 2))


def utc(at_ms: int) -> str:
    """Return a moment, epoch ms, as `2026-11-22T14:05:00Z`."""
    return datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(since_ms: int, now_ms: int) -> str:
    """Return how long ago, in kubectl's spelling: 9s, 3m20s, 5h, 12d; `<unknown>` for 0."""
    if since_ms <= 0:
        return "<unknown>"
    seconds = max(0, now_ms - since_ms) // 1000
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def pairs(mapping: Mapping[str, Any]) -> str:
    """Return `a=1,b=2`, or `<none>`."""
    return ",".join(f"{name}={value}" for name, value in mapping.items()) or "<none>"


def _one_line(cell: str) -> str:
    """Keep what producers wrote from moving the cursor: everything unprintable is shown escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in cell)
