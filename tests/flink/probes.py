"""The job's operators with a counter: how often Python was called, and in which process.

They run inside the job and leave one line of JSON each in `$WAYPOST_PROBES` when they are closed.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.operators.decode import HeartbeatExploder, RegistryDecoder
from jobs.operators.gate import LapseGate
from jobs.operators.leases import LeaseFold
from jobs.operators.routes import RouteFold
from schemas.flink_types import WINDOW

DIRECTORY = "WAYPOST_PROBES"


def leave(operator: str, calls: int) -> None:
    report = {
        "operator": operator,
        "calls": calls,
        "executable": Path(os.readlink("/proc/self/exe")).name,
        "pemja": "pemja" in sys.modules or "_pemja" in sys.modules,
    }
    Path(os.environ[DIRECTORY], f"{operator}-{uuid.uuid4().hex}.json").write_text(json.dumps(report))


class CountedDecoder(RegistryDecoder):
    calls = 0

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls += 1
        yield from super().process_element(value, ctx)

    def close(self) -> None:
        leave("registrations", self.calls)


class CountedExploder(HeartbeatExploder):
    calls = 0

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls += 1
        yield from super().process_element(value, ctx)

    def close(self) -> None:
        leave("odd-beats", self.calls)


class CountedLeases(LeaseFold):
    calls = 0

    def process_element1(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls += 1
        yield from super().process_element1(value, ctx)

    def close(self) -> None:
        leave("ticks", self.calls)


class CountedGate(LapseGate):
    calls = 0

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls += 1
        yield from super().process_element(value, ctx)

    def close(self) -> None:
        leave("gate", self.calls)


class CountedRoutes(RouteFold):
    """Notes each window it is told of, too."""

    calls = 0

    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        self._windows = Path(os.environ[DIRECTORY], f"windows-{uuid.uuid4().hex}.lines")
        self._windows.touch()

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls += 1
        if value[1] == WINDOW:
            with self._windows.open("ab") as lines:
                lines.write(value[0].encode() + b" " + bytes(value[5]) + b"\n")
        yield from super().process_element(value, ctx)

    def close(self) -> None:
        leave("routes", self.calls)


COUNTED = {
    "RegistryDecoder": CountedDecoder,
    "HeartbeatExploder": CountedExploder,
    "LeaseFold": CountedLeases,
    "LapseGate": CountedGate,
    "RouteFold": CountedRoutes,
}
