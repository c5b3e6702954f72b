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
from waypost.wire.glue import read_entries

DIRECTORY = "WAYPOST_PROBES"


class Calls:
    """A count that is on disk as soon as it is made: Flink does not close every operator that it stops."""

    def __init__(self, operator: str) -> None:
        self._operator = operator
        self._made = -1
        self._file = os.open(
            Path(os.environ[DIRECTORY], f"{operator}-{uuid.uuid4().hex}.json"), os.O_CREAT | os.O_WRONLY
        )
        self.count()

    def count(self) -> None:
        self._made += 1
        report = {
            "operator": self._operator,
            "calls": self._made,
            "executable": Path(os.readlink("/proc/self/exe")).name,
            "pemja": "pemja" in sys.modules or "_pemja" in sys.modules,
        }
        os.pwrite(self._file, json.dumps(report).ljust(200).encode(), 0)


class CountedDecoder(RegistryDecoder):
    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        self.calls = Calls("odd-registrations")

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls.count()
        yield from super().process_element(value, ctx)


class CountedExploder(HeartbeatExploder):
    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        self.calls = Calls("odd-beats")

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls.count()
        yield from super().process_element(value, ctx)


class CountedLeases(LeaseFold):
    """Counts the ticks; notes where each registration comes from that waits for the next tick."""

    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        self.calls = Calls("ticks")
        self._leased = Path(os.environ[DIRECTORY], f"leased-{uuid.uuid4().hex}.lines")
        self._leased.touch()

    def process_element1(self, value: Any, ctx: Any) -> Iterator[Any]:
        if value[1]:
            self.calls.count()
        yield from super().process_element1(value, ctx)
        if not value[1]:
            with self._leased.open("a") as lines:
                lines.writelines(f"{stamp.partition} {stamp.offset}\n" for _, stamp, _ in read_entries(value[2]))


class CountedGate(LapseGate):
    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        self.calls = Calls("gate")

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls.count()
        yield from super().process_element(value, ctx)


class CountedRoutes(RouteFold):
    """Notes each window it is told of, too."""

    def open(self, runtime_context: Any) -> None:
        super().open(runtime_context)
        self.calls = Calls("routes")
        self._windows = Path(os.environ[DIRECTORY], f"windows-{uuid.uuid4().hex}.lines")
        self._windows.touch()

    def process_element1(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls.count()
        yield from super().process_element1(value, ctx)

    def process_element2(self, value: Any, ctx: Any) -> Iterator[Any]:
        self.calls.count()
        if value[1] == WINDOW:
            with self._windows.open("ab") as lines:
                lines.write(value[0].encode() + b" " + bytes(value[2]) + b"\n")
        yield from super().process_element2(value, ctx)


COUNTED = {
    "RegistryDecoder": CountedDecoder,
    "HeartbeatExploder": CountedExploder,
    "LeaseFold": CountedLeases,
    "LapseGate": CountedGate,
    "RouteFold": CountedRoutes,
}
