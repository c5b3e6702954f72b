"""The gate: whether proposed lapses may happen, decided with the whole fleet in view.

Rows of all shards meet here, one per shard and tick. A tick is *complete* when every shard's row is in; only then
is it known who beat in it, and only then are its lapses decided.

A lease counts only time in which beats could arrive. A lapse with deadline D passes only if

    somebody's real beat was logged in (D - lease/2, D]   and   no tick is missing in there,

otherwise it is deferred: its new deadline is the first real beat after D plus a full lease. So when everything
falls silent (our own fault far more often than the whole fleet's death) nothing changes, and when the
silence ends nobody who comes back within one lease is expired.

      beats   x x x x                      x x x
              ──────────┬── silence ───────┬──────────────┬──
              deadline D┘    (deferred)    └── + lease ───┘ new deadline

Good news never waits for a decision: renewals and reported health pass with their tick.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from waypost.model.events import LeaseFact, LeaseTransition
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp


class ShardTick(NamedTuple):
    """One shard's row of one tick. `first_beat`/`last_beat` are append times, 0 when nobody beat."""

    end: int
    shard: int
    first_beat: int
    last_beat: int
    lapses: tuple[LeaseTransition, ...] = ()
    renewals: tuple[LeaseTransition, ...] = ()


class Target(NamedTuple):
    """The instance a deferral is about."""

    service: ServiceKey
    instance: str


_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Deferred:
    """A lapse that did not pass. `deadline` is 0 until a real beat after the old one sets the new one."""

    lapse: LeaseTransition
    deadline: int = 0


@dataclass(slots=True)
class Clock:
    """What the gate knows of log time: the newest complete tick, since when no tick was missing, and the newest real
    beat before the current tick."""

    last_tick: int = 0
    unbroken_since: int = 0
    last_beat: int = 0


@dataclass(slots=True)
class Decision:
    """What leaves the gate for one tick: transitions by service, in the order of their stamps."""

    end: int
    complete: bool
    batches: dict[ServiceKey, list[LeaseTransition]] = field(default_factory=dict)
    deferred: int = 0

    def add(self, transition: LeaseTransition) -> None:
        self.batches.setdefault(transition.service, []).append(transition)


@dataclass(slots=True)
class Gate:
    """The gate's state and rules. `deferred` may write through to keyed state."""

    shards: int
    tick_ms: int
    clock: Clock = field(default_factory=Clock)
    deferred: MutableMapping[Target, Deferred] = field(default_factory=dict)
    rows: dict[int, dict[int, ShardTick]] = field(default_factory=dict)
    next_due: int = 0
    """No deferral with a deadline is due before this. After a long silence every instance is deferred: they are
    looked at when this is reached, not in every tick."""
    undated: bool = True
    """Whether a deferral may wait for the first beat to get its deadline."""

    def offer(self, row: ShardTick) -> Iterator[Decision]:
        """Take one shard's row; yield the decisions it makes possible, oldest tick first.

        Rows of one shard come in tick order. When a tick completes, older ones cannot any more: their good news
        passes, their lapses are deferred, and the unbroken run of ticks starts anew.
        """
        if row.end <= self.clock.last_tick:
            # A tick that was given up already, or a replayed row: only good news can still be of use.
            yield self._decide(row.end, [row], complete=False)
            return
        self.rows.setdefault(row.end, {})[row.shard] = row
        if len(self.rows[row.end]) < self.shards:
            return
        for end in sorted(end for end in self.rows if end <= row.end):
            yield self._decide(end, list(self.rows.pop(end).values()), complete=end == row.end)

    def release(self, end: int) -> Iterator[Decision]:
        """Give up waiting for the missing rows of a tick (a shard without witness): its good news passes, its
        lapses are deferred. A row that comes later after all is given up in its turn."""
        rows = self.rows.pop(end, None)
        if rows:
            yield self._decide(end, list(rows.values()), complete=False)

    def _decide(self, end: int, rows: list[ShardTick], *, complete: bool) -> Decision:
        decision = Decision(end, complete)
        clock = self.clock
        first = min((r.first_beat for r in rows if r.first_beat), default=0)
        last = max(r.last_beat for r in rows)
        if complete:
            if end - self.tick_ms != clock.last_tick:
                clock.unbroken_since = end - self.tick_ms
            clock.last_tick = end
        beats = (clock.last_beat, first, last)
        for row in rows:
            for renewal in row.renewals:
                self._renew(renewal, decision)
        if complete and self.deferred and (end >= self.next_due or (self.undated and first)):
            self._reconsider(end, beats, decision)
        for row in rows:
            for lapse in row.lapses:
                if complete and self._counts(lapse.deadline, lapse.lease_ms, beats):
                    decision.add(lapse)
                else:
                    self._defer(lapse, beats, decision)
        clock.last_beat = max(beats)
        return decision

    def _counts(self, deadline: int, lease_ms: int, beats: tuple[int, ...]) -> bool:
        """Tell whether beats could arrive in the second half of the lease that ended at `deadline`."""
        start = deadline - lease_ms // 2
        return self.clock.unbroken_since <= start and any(start < beat <= deadline for beat in beats)

    def _renew(self, renewal: LeaseTransition, decision: Decision) -> None:
        if renewal.fact is LeaseFact.RENEWED:
            waiting = self.deferred.pop(Target(renewal.service, renewal.instance), None)
            if waiting is not None and waiting.lapse.generation == renewal.generation:
                return  # The route fold never heard of the lapse.
        decision.add(renewal)

    def _defer(self, lapse: LeaseTransition, beats: tuple[int, ...], decision: Decision) -> None:
        after = min((beat for beat in beats if beat > lapse.deadline), default=0)
        deadline = after + lapse.lease_ms if after else 0
        self.deferred[Target(lapse.service, lapse.instance)] = Deferred(lapse, deadline)
        if deadline:
            self.next_due = min(self.next_due, deadline)
        else:
            self.undated = True
        decision.deferred += 1

    def _reconsider(self, end: int, beats: tuple[int, ...], decision: Decision) -> None:
        self.next_due, self.undated = _NEVER, False
        for target, waiting in list(self.deferred.items()):
            if waiting.deadline == 0:
                self._defer(waiting.lapse, beats, decision)
            elif waiting.deadline <= end:
                lapse = replace(waiting.lapse, deadline=waiting.deadline, stamp=Stamp(end))
                if self._counts(waiting.deadline, lapse.lease_ms, beats):
                    del self.deferred[target]
                    decision.add(lapse)
                else:
                    self._defer(lapse, beats, decision)
            else:
                self.next_due = min(self.next_due, waiting.deadline)
