"""What processes cost, by the kernel's account (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of one process: CPU seconds since it started, resident memory in MiB."""

    cpu_s: float
    rss_mb: float


def usage(pid: int) -> Usage | None:
    """Return what the process has used so far, None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Usage(cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS, rss_mb=int(fields[21]) * _PAGE_MB)


class Meter:
    """Takes the difference: `with`-less, because a phase begins and ends in different places."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began = time.monotonic()
        self._before = {name: usage(pid) for name, pid in self._pids.items()}

    def read(self) -> dict[str, dict[str, float]]:
        """Return for each process its share of one core in % since the meter was made, and its memory now."""
        seconds = time.monotonic() - self._began
        costs = {}
        for name, pid in self._pids.items():
            before, now = self._before[name], usage(pid)
            if before is not None and now is not None:
                costs[name] = {
                    "cpu_percent": round((now.cpu_s - before.cpu_s) / seconds * 100, 1),
                    "rss_mb": round(now.rss_mb),
                }
        return costs
