"""What the beats of a service say in one tumbling window: who beat, how often, how loaded, how late.

The window informs: it never removes anybody. What it knows of one instance is a `Tally` of whole numbers, so that
the order in which beats, ticks and shards are added can never show in a result: sums of floats would.

    one beat ──► Tally ──► one shard's tallies of a window ──► merged by service ──► ServiceWindow
                           (`ShardTallies`, a partial)         (`HealthyEndpointAggregator`)

Windows of different services do not end at the same moment. A service belongs to a *bucket*, and each bucket's
windows are shifted by a part of the window's length; so the work of ten thousand ends is spread evenly over the time
between two ends, without timers or chance:

    bucket 0   |───────────────|───────────────|
    bucket 1       |───────────────|───────────────|
    bucket 2           |───────────────|───────────────|

A beat belongs to the window in which its tick row is folded. Should the row at a window's end be missing (a shard
without witness), the shard's numbers go to its next window.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from waypost.model.beats import Beat
from waypost.model.names import ServiceKey

MAX_CPU_MILLI = 1_000_000_000
"""A million of whatever unit the producer uses; more counts as this much. Sums of a window stay below 2^63."""

MAX_LAG_MS = 86_400_000
"""A beat whose own time is further off than a day has another unit or another epoch: it says nothing of lag."""


class Tally(NamedTuple):
    """What the beats of one instance said. All zeros, `Tally()`, is an instance that did not beat.

    `late` counts those that arrived behind the log's watermark. `cpu_sum` and `cpu_max` are in thousandths of the
    producer's unit, over the `cpu_beats` that said it; `lag_max` in ms over the `timed_beats` that said when they were
    sent. `failing` is 1 when the newest word on the instance's health was fail.
    """

    beats: int = 0
    late: int = 0
    cpu_beats: int = 0
    cpu_sum: int = 0
    cpu_max: int = 0
    timed_beats: int = 0
    lag_max: int = 0
    failing: int = 0

    @property
    def cpu_mean(self) -> int | None:
        """Mean load in thousandths, None when no beat said any."""
        return self.cpu_sum // self.cpu_beats if self.cpu_beats else None


def combine(a: Tally, b: Tally) -> Tally:
    """Return both together. Associative and commutative; `Tally()` is the identity."""
    return Tally(
        a.beats + b.beats,
        a.late + b.late,
        a.cpu_beats + b.cpu_beats,
        a.cpu_sum + b.cpu_sum,
        max(a.cpu_max, b.cpu_max),
        a.timed_beats + b.timed_beats,
        max(a.lag_max, b.lag_max),
        max(a.failing, b.failing),
    )


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """When windows end. `size_ms` is a multiple of `tick_ms`, so that a tick never lies in two windows."""

    size_ms: int
    buckets: int
    tick_ms: int

    def bucket(self, service: ServiceKey) -> int:
        """Return the bucket of a service, 0 … buckets-1; the same in every process."""
        return crc32(str(service).encode()) % self.buckets

    def phase(self, bucket: int) -> int:
        """Return how far the windows of a bucket are shifted against multiples of their length, whole ticks in ms."""
        return bucket * self.size_ms // self.buckets // self.tick_ms * self.tick_ms

    def start(self, bucket: int, end: int) -> int:
        """Return when the window began in which a tick with this end lies."""
        last = end - 1 - self.phase(bucket)
        return last - last % self.size_ms + self.phase(bucket)

    def due(self, end: int) -> frozenset[int]:
        """Return the buckets that have a window ending with this tick."""
        return frozenset(b for b in range(self.buckets) if (end - self.phase(b)) % self.size_ms == 0)


Partial = Mapping[str, Mapping[str, Tally]]
"""Service (`namespace/service`) → instance → tally."""


class HealthyEndpointAggregator:
    """Merges what the shards know of one window. An accumulator is never modified."""

    def create(self) -> Partial:
        """Return the accumulator of nothing."""
        return {}

    def add(self, accumulator: Partial, partial: Partial) -> Partial:
        """Return the accumulator with one shard's partial in it."""
        return self.merge(accumulator, partial)

    def merge(self, one: Partial, other: Partial) -> Partial:
        """Return two accumulators as one. Associative and commutative; `create()` is the identity."""
        return self.merge_all((one, other))

    def merge_all(self, several: Iterable[Partial]) -> Partial:
        """Return all accumulators as one: what `merge` gives one after the other, in one pass."""
        merged: dict[str, dict[str, Tally]] = {}
        for partial in several:
            for service, tallies in partial.items():
                known = merged.setdefault(service, {})
                for instance, tally in tallies.items():
                    known[instance] = combine(known[instance], tally) if instance in known else tally
        return merged

    def result(self, accumulator: Partial, start: int, end: int) -> Iterable[tuple[str, ServiceWindow]]:
        """Yield (service, its window) for everything in the accumulator."""
        for service, tallies in accumulator.items():
            yield service, ServiceWindow(start, end, tallies)


@dataclass(frozen=True, slots=True)
class ServiceWindow:
    """One service in [start, end), epoch ms of the log. `tallies` has every instance that beat, and every one whose
    lease lived through the window without a beat."""

    start: int
    end: int
    tallies: Mapping[str, Tally]

    @property
    def total(self) -> Tally:
        """Everything its instances said, together."""
        total = Tally()
        for tally in self.tallies.values():
            total = combine(total, tally)
        return total

    @property
    def beating(self) -> frozenset[str]:
        """Who beat."""
        return frozenset(i for i, tally in self.tallies.items() if tally.beats)

    @property
    def healthy(self) -> int:
        """How many beat and did not say, or were not said, to fail."""
        return sum(1 for tally in self.tallies.values() if tally.beats and not tally.failing)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStats:
    """What readers are told of a service's window. `cpu_mean` and `cpu_max` are in thousandths; they and `lag_max_ms`
    are None when no beat said any. `drift` is None when the table was not compared with the beats."""

    start: int
    end: int
    beats: int
    late: int
    instances: int
    healthy: int
    cpu_mean: int | None
    cpu_max: int | None
    lag_max_ms: int | None
    drift: int | None

    @classmethod
    def of(cls, window: ServiceWindow, drift: int | None) -> WindowStats:
        """Sum a window up."""
        total = window.total
        return cls(
            start=window.start,
            end=window.end,
            beats=total.beats,
            late=total.late,
            instances=len(window.beating),
            healthy=window.healthy,
            cpu_mean=total.cpu_mean,
            cpu_max=total.cpu_max if total.cpu_beats else None,
            lag_max_ms=total.lag_max if total.timed_beats else None,
            drift=drift,
        )


_WIDTH = 7
"""Numbers per slot: the fields of `Tally` but the last, which is known from the lease when the window ends."""

_ZEROS = array("q", (0,) * _WIDTH)


class ShardTallies:
    """The tallies of one shard's leases since their windows began, in one flat array.

    A beat costs a few additions and no object. The array is what a checkpoint holds, as it is; one object per lease
    would have to be taken apart in every tick.
    """

    def __init__(self, cells: array[int] | None = None) -> None:
        self.cells = array("q") if cells is None else cells

    def new_slot(self) -> int:
        """Return the slot of one more lease."""
        self.cells.extend(_ZEROS)
        return len(self.cells) - _WIDTH

    def slot(self, number: int) -> int:
        """Return the slot of the lease with this number (from 0); the array grows as far as needed."""
        missing = (number + 1) * _WIDTH - len(self.cells)
        if missing > 0:
            self.cells.frombytes(bytes(8 * missing))
        return number * _WIDTH

    def count(self, slot: int, beat: Beat, at: int, tick_start: int) -> None:
        """Add one beat, logged `at`, read with the tick that began at `tick_start`."""
        cells = self.cells
        cells[slot] += 1
        if at < tick_start:
            cells[slot + 1] += 1
        cpu = beat.cpu
        if cpu is not None:
            milli = int(cpu * 1000.0 + 0.5) if cpu < 1_000_000.0 else MAX_CPU_MILLI
            cells[slot + 2] += 1
            cells[slot + 3] += milli
            if milli > cells[slot + 4]:
                cells[slot + 4] = milli
        if beat.ts is not None:
            lag = at - beat.ts
            if -MAX_LAG_MS <= lag <= MAX_LAG_MS:
                cells[slot + 5] += 1
                if lag > cells[slot + 6]:
                    cells[slot + 6] = lag

    def take(self, slot: int, *, failing: bool = False) -> Tally:
        """Return the tally of a slot and begin a new one."""
        cells = self.cells
        tally = Tally._make((*cells[slot : slot + _WIDTH], 1 if failing else 0))
        if tally.beats:
            cells[slot : slot + _WIDTH] = _ZEROS
        return tally

    def arranged(self, slots: Iterable[int]) -> ShardTallies:
        """Return the tallies of these slots in this order, and of no others."""
        cells = array("q")
        for slot in slots:
            cells.extend(self.cells[slot : slot + _WIDTH])
        return ShardTallies(cells)
