"""The end of the show: figures and expectations as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from waypost.demo.figures import TOLERANCE, Expectation

_HEADER = ("", "EXPECTED", "WANTED", "MEASURED")


def machine() -> dict[str, Any]:
    """Return where it was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def document(
    figures: dict[str, Any], expectations: Sequence[Expectation], *, build: str | None, script: str, seed: int
) -> dict[str, Any]:
    """Return what goes into `demo.json`."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "build": build,
        "script": script,
        "seed": seed,
        "machine": machine(),
        **rounded(figures),
        "time_tolerance": TOLERANCE,
        "expectations": [
            {
                "name": e.name,
                "wanted": e.wanted,
                "measured": e.measured,
                "held": e.held,
                "target_met": e.target_met and e.held,
            }
            for e in expectations
        ],
        "held": all(e.held for e in expectations),
    }


def rounded(figures: Any) -> Any:
    """Return the figures with three decimals: a microsecond and a millisecond are as fine as anything here is known."""
    if isinstance(figures, float):
        return round(figures, 3)
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    return figures


def table(expectations: Sequence[Expectation]) -> list[str]:
    """Return the lines of an aligned table, one expectation each."""
    rows = [_HEADER, *((_mark(e), e.name, e.wanted, e.measured) for e in expectations)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if any(e.held and not e.target_met for e in expectations):
        lines.append(f"slow: not within the target, but within {TOLERANCE} times its time; see waypost/demo/figures.py")
    return lines


def verdict(expectations: Sequence[Expectation], *, logs: Path) -> list[str]:
    """Return the last lines: whether every expectation held and, when not, which did not."""
    missed = [e for e in expectations if not e.held]
    if not missed:
        return [f"all {len(expectations)} expectations held"]
    return [
        f"{len(missed)} of {len(expectations)} expectations did NOT hold:",
        *(f"  {e.name}: measured {e.measured}, wanted {e.wanted}" for e in missed),
        f"logs: {logs}",
    ]


def _mark(expectation: Expectation) -> str:
    if not expectation.held:
        return "FAIL"
    return "ok" if expectation.target_met else "slow"
