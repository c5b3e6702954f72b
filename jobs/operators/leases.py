"""The lease fold on Flink: one call per shard and tick, one per registration."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedCoProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

from jobs.operators.collector import spare_what_stays
from jobs.operators.keyed_state import BYTES
from jobs.operators.meters import Meters
from jobs.operators.outputs import PARTIALS, dead_letter
from waypost.errors import DecodeError
from waypost.metrics import BEATS, DEAD_LETTERS, LATE_BEATS, LEASES, UNKNOWN_BEATS
from waypost.model.events import InstanceEvent
from waypost.model.gate import shard_tick
from waypost.model.health_window import WindowPlan
from waypost.model.leases import LeaseShard, Reject, TickResult
from waypost.model.service import TOMBSTONE_MS
from waypost.model.stamp import Stamp
from waypost.wire.fold_state import (
    decode_shard,
    encode_directory,
    encode_last_beats,
    encode_tallies,
    encode_unknown,
)
from waypost.wire.glue import read_entries
from waypost.wire.health_window import encode_partial
from waypost.wire.registry import decode_registration
from waypost.wire.tick import TickReader
from waypost.wire.transitions import encode_row

_PER_TICK = 12_800
"""Registrations that all shards together fold per tick: a third of a processor with ticks of a second."""

_TURNS = 8
"""In so many ticks it is each shard's turn once to fold more than its share of that."""

_FORGET_EVERY = 600
"""Ticks between two looks for old tombstones of a shard."""


class LeaseFold(KeyedCoProcessFunction):
    """Inputs: SHARD_INPUT rows, from SQL and from Python, keyed by shard.

    A shard decoded once stays decoded in this object: keyed state belongs to one subtask until the task is
    restarted, and a restarted task has a new object. State is written on the way out of every call, split by how
    often it changes: last beats and tallies (64 bytes a lease, as they lie in memory) every tick, the directory when
    a lease begins, ends, lapses or changes health. Registrations go to a journal first, and into the directory with
    the next tick, or, of a storm, with the next ones.
    """

    def __init__(self, topic: str, shards: int, windows: WindowPlan) -> None:
        self._topic = topic
        self._shards = shards
        self._windows = windows

    def open(self, runtime_context: RuntimeContext) -> None:
        spare_what_stays()
        self._directory = runtime_context.get_state(ValueStateDescriptor("directory", BYTES))
        self._last_beats = runtime_context.get_state(ValueStateDescriptor("last-beats", BYTES))
        self._tallies = runtime_context.get_state(ValueStateDescriptor("tallies", BYTES))
        self._unknown = runtime_context.get_state(ValueStateDescriptor("unknown", BYTES))
        self._journal = runtime_context.get_list_state(ListStateDescriptor("journal", BYTES))
        self._open: dict[int, LeaseShard] = {}
        self._waiting: dict[int, deque[tuple[str, Stamp, str]]] = {}
        """Registrations that are not folded yet; a journal that is not empty has them, and maybe folded ones."""
        self._journaled: set[int] = set()
        self._turns = min(_TURNS, self._shards)
        self._since_turn: dict[int, int] = {}
        """How many ticks each shard has left out."""
        self._ticks = 0
        self._due: tuple[int, frozenset[int]] = (0, frozenset())
        self._reader = TickReader()
        self._meters = Meters(runtime_context, BEATS, UNKNOWN_BEATS, LATE_BEATS, LEASES)

    def process_element1(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        shard, end, entries = value[0], value[1], value[2]
        if end:
            yield from self._tick(shard, end, entries)
        else:
            self._register(shard, entries)

    def process_element2(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        yield from self.process_element1(value, ctx)

    def _tick(self, shard: int, end: int, column: str | None) -> Iterator[Any]:
        leases = self._shard(shard)
        rejects: list[Reject] = []
        waiting = len(leases.unknown)
        registered = self._fold_some(shard, leases)
        result = leases.tick(end, self._reader.read(column, rejects) if column else (), self._windows.tick_ms)
        due = self._windows_due(end)
        partials = leases.end_windows(due, self._windows, end) if due else {}
        self._ticks += 1
        if self._ticks % (_FORGET_EVERY * self._shards) < self._shards:
            leases.forget(end - TOMBSTONE_MS)
        if registered or result.lapses or result.renewals or result.counts:
            self._save(leases)
        elif result.renewed or partials:
            self._save_beats(leases)
        if shard in self._journaled and not self._waiting[shard]:
            self._journal.clear()
            self._journaled.discard(shard)
        if result.unknown or result.rejects or len(leases.unknown) != waiting:
            self._unknown.update(encode_unknown(leases))
        self._count(result)
        for beat, reason in rejects + result.rejects:
            self._meters.count(DEAD_LETTERS, reason)
            yield dead_letter(
                self._topic,
                beat.stamp.partition,
                beat.stamp.offset,
                reason,
                beat.instance.encode(),
                beat.raw.encode(),
            )
        for bucket, services in partials.items():
            yield PARTIALS, Row(bucket, end, encode_partial(services))
        yield encode_row(shard_tick(end, shard, result))

    def _register(self, shard: int, column: str) -> None:
        """Keep the records; each tick folds some."""
        self._shard(shard)
        self._journal.add(column.encode())
        self._journaled.add(shard)
        self._waiting[shard].extend(read_entries(column))

    def _fold_some(self, shard: int, leases: LeaseShard) -> bool:
        """Fold registrations that wait, in turns: else a storm of them would hold up the beats and the job's sources.

        A record that cannot be read is for the route fold to report, which gets every one.
        """
        waiting, changed = self._waiting[shard], False
        share = -(-_PER_TICK // self._shards)
        if len(waiting) > share:
            # A shard is saved whole. In a storm a few fold much in each tick, instead of all a little.
            ticks = self._since_turn.get(shard, shard % self._turns) + 1
            if ticks < self._turns:
                self._since_turn[shard] = ticks
                return False
            self._since_turn[shard] = 0
            share *= self._turns
        for _ in range(min(len(waiting), share)):
            _, stamp, text = waiting.popleft()
            with contextlib.suppress(DecodeError):
                event = decode_registration(text, stamp)
                changed |= isinstance(event, InstanceEvent) and leases.register(event)
        return changed

    def _count(self, result: TickResult) -> None:
        for metric, n in ((BEATS, result.renewed), (UNKNOWN_BEATS, result.unknown), (LATE_BEATS, result.late)):
            if n:
                self._meters.count(metric, n=n)
        if self._ticks % len(self._open) == 0:  # about once per tick, not once per row
            self._meters.set(LEASES, sum(len(shard.leases) for shard in self._open.values()))

    def _shard(self, shard: int) -> LeaseShard:
        leases = self._open.get(shard)
        if leases is None:
            parts = (self._directory, self._last_beats, self._unknown, self._tallies)
            directory, beats, unknown, tallies = (
                None if blob is None else bytes(blob) for blob in (part.value() for part in parts)
            )
            leases = decode_shard(directory, beats, unknown, self._shards, tallies)
            waiting: deque[tuple[str, Stamp, str]] = deque()
            for entry in self._journal.get() or ():
                waiting.extend(read_entries(bytes(entry).decode()))
                self._journaled.add(shard)
            self._open[shard], self._waiting[shard] = leases, waiting
        return leases

    def _windows_due(self, end: int) -> frozenset[int]:
        """Return the buckets whose windows end with a tick; all shards ask this of each tick."""
        if self._due[0] != end:
            self._due = end, self._windows.due(end)
        return self._due[1]

    def _save_beats(self, leases: LeaseShard) -> None:
        self._last_beats.update(encode_last_beats(leases))
        self._tallies.update(encode_tallies(leases))

    def _save(self, leases: LeaseShard) -> None:
        leases.arrange()
        self._directory.update(encode_directory(leases, self._shards))
        self._save_beats(leases)
