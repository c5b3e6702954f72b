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

What passes this rule is judged by the brake (`waypost.model.brake`): too much at once is held. So a lapsed lease goes
through these phases here, and a beat, a new registration or a deregistration ends each of them:

    proposed ──► DEFERRED ──► HELD ◄──► LEFT ──► forgotten
                 not enough   brake     the route fold was told; told once more when the hold time is over, for it
                 evidence               keeps the last endpoint of a service until then

Good news never waits for a decision: renewals and reported health pass with their tick. Who comes and goes has its
coming back delayed by the route fold; the gate counts departures and says for how long (`waypost.model.damping`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from waypost.model.brake import Brake, BrakeRules
from waypost.model.damping import DampingRules, Flap, calm_after, departed, forgotten_after
from waypost.model.events import Hold, LeaseFact, LeaseTransition, Target
from waypost.model.leases import TickResult
from waypost.model.lifecycle import Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp


class ShardTick(NamedTuple):
    """One shard's row of one tick. `first_beat`/`last_beat` are append times, 0 when nobody beat; the rest is as in
    `waypost.model.leases.TickResult`."""

    end: int
    shard: int
    first_beat: int
    last_beat: int
    lapses: tuple[LeaseTransition, ...] = ()
    renewals: tuple[LeaseTransition, ...] = ()
    counts: Mapping[ServiceKey, int] = {}
    settled: tuple[Target, ...] = ()
    failed: tuple[LeaseTransition, ...] = ()
    released: Mapping[ServiceKey, int] = {}


def shard_tick(end: int, shard: int, result: TickResult) -> ShardTick:
    """Return the row that tells the gate what one tick did to a shard."""
    return ShardTick(
        end,
        shard,
        result.first_beat,
        result.last_beat,
        tuple(result.lapses),
        tuple(result.renewals),
        result.counts,
        tuple(result.settled),
        tuple(result.failed),
        result.released,
    )


class Phase(str, Enum):
    """Where a lapsed lease stands."""

    DEFERRED = "deferred"
    HELD = "held"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A lapsed lease the gate has not finished with, and since when it is in its phase (epoch ms of the log).

    `lapse` is as proposed while DEFERRED, later as the route fold was told it. `until`: when to look at it again; 0,
    only while DEFERRED: with the first real beat.
    """

    lapse: LeaseTransition
    phase: Phase = Phase.DEFERRED
    since: int = 0
    until: int = 0


@dataclass(slots=True)
class Clock:
    """What the gate knows of log time: the newest complete tick, since when no tick was missing, and the newest real
    beat before the current tick."""

    last_tick: int = 0
    unbroken_since: int = 0
    last_beat: int = 0

    @property
    def silence(self) -> int:
        """How long nobody has beaten, ms of the log: where nobody ever did, since ticks have come without a gap."""
        return max(0, self.last_tick - (self.last_beat or self.unbroken_since))


@dataclass(slots=True)
class Decision:
    """What leaves the gate for one tick: transitions by service, in the order of their stamps.

    `lapses` counts what became of lapses, by the words of `waypost.metrics.LAPSES`. `departed` are those who leave the
    table now, as far as the gate can know. `counted` says that `Gate.live` changed.
    """

    end: int
    complete: bool
    batches: dict[ServiceKey, list[LeaseTransition]] = field(default_factory=dict)
    lapses: Counter[str] = field(default_factory=Counter)
    departed: list[LeaseTransition] = field(default_factory=list)
    counted: bool = False

    def add(self, transition: LeaseTransition) -> None:
        self.batches.setdefault(transition.service, []).append(transition)


@dataclass(slots=True)
class Gate:
    """The gate's state and rules. `waiting` and `flaps` may write through to keyed state; `live` are the live leases
    per service.

    Time in which nothing is due costs nothing, however many are waiting: each waits in a queue for its time.
    """

    shards: int
    tick_ms: int
    clock: Clock = field(default_factory=Clock)
    waiting: MutableMapping[Target, Waiting] = field(default_factory=dict)
    rows: dict[int, dict[int, ShardTick]] = field(default_factory=dict)
    live: dict[ServiceKey, int] = field(default_factory=dict)
    flaps: MutableMapping[Target, Flap] = field(default_factory=dict)
    brake_rules: BrakeRules = field(default_factory=BrakeRules)
    damping: DampingRules = field(default_factory=DampingRules)
    _brake: Brake = field(init=False, repr=False, compare=False)
    _held: dict[ServiceKey, set[Target]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _due: list[tuple[int, Target]] = field(default_factory=list, init=False, repr=False, compare=False)
    _undated: dict[Target, None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _calm: list[tuple[int, Target]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._brake = Brake(self.brake_rules, self.live)
        for target, waiting in sorted(self.waiting.items(), key=lambda item: item[1].since):
            self._index(target, waiting)
        self._calm = [(self._next_look(flap), target) for target, flap in self.flaps.items()]
        heapify(self._calm)

    @property
    def deferred(self) -> int:
        """How many lapses wait for evidence."""
        return self._brake.all_waiting - self.held

    @property
    def held(self) -> int:
        """How many instances the brake holds."""
        return sum(map(len, self._held.values()))

    # -- input -----------------------------------------------------------------------------------------

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

    # -- deciding --------------------------------------------------------------------------------------

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
        changes: Counter[ServiceKey] = Counter()
        for row in rows:
            changes.update(row.counts)
            for target in row.settled:
                self._forget(target)
            for renewal in row.renewals:
                self._renew(renewal, decision)
        self._brake.count(changes)
        decision.counted = bool(changes)
        for row in rows:
            for service, at in row.released.items():
                self._release(service, at, decision)
        proposed = [lapse for row in rows for lapse in row.lapses]
        if complete:
            over = self._due_now(end, proposed, decision)
            if first:
                for target in list(self._undated):
                    self._defer(self.waiting[target].lapse, beats, decision)
            believed = [lapse for lapse in proposed if self._believe(lapse, beats, decision)]
            self._judge(end, believed, decision)
            self._end_holds(end, over, decision)
            self._damp(end, rows, decision)
        else:
            for lapse in proposed:
                self._defer(lapse, beats, decision)
        clock.last_beat = max(beats)
        return decision

    def _believe(self, lapse: LeaseTransition, beats: tuple[int, ...], decision: Decision) -> bool:
        """Tell whether beats could arrive in the second half of the lease; defer the lapse if not."""
        start = lapse.deadline - lapse.lease_ms // 2
        if self.clock.unbroken_since <= start and any(start < beat <= lapse.deadline for beat in beats):
            return True
        self._defer(lapse, beats, decision)
        return False

    def _defer(self, lapse: LeaseTransition, beats: tuple[int, ...], decision: Decision) -> None:
        after = min((beat for beat in beats if beat > lapse.deadline), default=0)
        until = after + lapse.lease_ms if after else 0
        self._put(_target(lapse), Waiting(lapse, Phase.DEFERRED, decision.end, until))
        decision.lapses["deferred"] += 1

    def _renew(self, renewal: LeaseTransition, decision: Decision) -> None:
        if renewal.fact is LeaseFact.RENEWED:
            waiting = self._forget(_target(renewal))
            if waiting is not None and waiting.lapse.generation == renewal.generation:
                if waiting.phase is Phase.DEFERRED:
                    return  # The route fold never heard of the lapse.
                if renewal.stamp <= waiting.lapse.stamp:
                    # A beat that was late: logged before the tick that ended its lease, and good news all the same.
                    renewal = replace(renewal, stamp=renewal.stamp._replace(at=waiting.lapse.stamp.at))
        elif renewal.health is Health.FAIL:
            decision.departed.append(renewal)
        decision.add(renewal)

    def _release(self, service: ServiceKey, at: int, decision: Decision) -> None:
        """End the hold of a service because an operator said so `at` a time; what was held later stays."""
        end = max(decision.end, self.clock.last_tick)
        for target in sorted(self._held.get(service, ())):
            lapse = self.waiting[target].lapse
            if lapse.stamp.at <= at:
                self._leave(target, lapse, end, decision, "released", stamp=Stamp(end, -1, 0))

    def _due_now(self, end: int, proposed: list[LeaseTransition], decision: Decision) -> list[Target]:
        """Take what is due: deferred lapses are proposed again, who left is told for the last time; return whose hold
        is over."""
        over = []
        while self._due and self._due[0][0] <= end:
            until, target = heappop(self._due)
            waiting = self.waiting.get(target)
            if waiting is None or waiting.until != until:
                continue  # An entry of the queue whose instance has moved on.
            if waiting.phase is Phase.DEFERRED:
                self._forget(target)
                proposed.append(replace(waiting.lapse, deadline=until, stamp=Stamp(end)))
            elif waiting.phase is Phase.HELD:
                over.append(target)
            elif waiting.lapse.until:
                final = replace(waiting.lapse, stamp=Stamp(end), until=0)
                decision.add(final)
                self._put(target, self._remembered(final, end))
            else:
                self._forget(target)
        return over

    def _remembered(self, final: LeaseTransition, end: int) -> Waiting:
        """Return the entry of an instance of which everything is said: a late beat must be told after it."""
        return Waiting(final, Phase.LEFT, end, end + self.brake_rules.fleet_ms)

    def _judge(self, end: int, believed: list[LeaseTransition], decision: Decision) -> None:
        """Let the lapses of this tick and those held pass, or hold them, service by service."""
        if not believed and not self._held:
            return
        held = {service: len(targets) for service, targets in self._held.items()}
        verdict = self._brake.judge(end, held, Counter(lapse.service for lapse in believed))
        for service in sorted(self._held.keys() - verdict.keys()):
            for target in sorted(self._held[service]):
                waiting = self.waiting[target]
                self._leave(target, waiting.lapse, end, decision, "passed", until=waiting.until)
        for lapse in believed:
            why, until = verdict.get(lapse.service), end + self.brake_rules.hold_of(lapse.service)
            if why is None:
                until = until if self.brake_rules.enabled else 0
                self._leave(_target(lapse), lapse, end, decision, "passed", until=until)
            else:
                self._hold(lapse, why, until, end, decision)
        for service, why in verdict.items():
            for target in self._brake.taken_back(service, why):
                waiting = self.waiting[target]
                self._hold(waiting.lapse, why, waiting.until, end, decision)

    def _hold(self, lapse: LeaseTransition, why: Hold, until: int, end: int, decision: Decision) -> None:
        told = replace(lapse, fact=LeaseFact.HELD, stamp=Stamp(end), until=until, hold=why)
        self._put(_target(lapse), Waiting(told, Phase.HELD, end, until))
        decision.add(told)
        decision.lapses["held"] += 1

    def _leave(
        self,
        target: Target,
        lapse: LeaseTransition,
        end: int,
        decision: Decision,
        word: str,
        *,
        until: int = 0,
        stamp: Stamp | None = None,
    ) -> None:
        """Tell the route fold that a lease lapsed; `until` as in `LeaseTransition`."""
        told = replace(lapse, fact=LeaseFact.LAPSED, stamp=stamp or Stamp(end), until=until, hold=None)
        decision.add(told)
        decision.departed.append(told)
        decision.lapses[word] += 1
        self._put(target, Waiting(told, Phase.LEFT, end, until) if until else self._remembered(told, end))

    def _end_holds(self, end: int, over: list[Target], decision: Decision) -> None:
        """Let those leave whose hold is over. Of a service's held instances the one that beat last is the last."""
        leaving: dict[ServiceKey, list[Target]] = {}
        for target in over:
            if target in self._held.get(target.service, ()):  # Not judged otherwise in this very tick.
                leaving.setdefault(target.service, []).append(target)
        for service, targets in leaving.items():
            held = self._held[service]
            newest = max(held, key=lambda t: (self.waiting[t].lapse.last_beat, t.instance))
            for target in sorted(targets):
                if target == newest and len(held) > 1:
                    others = max(self.waiting[t].until for t in held if t != newest)
                    waiting = self.waiting[target]
                    self._put(target, replace(waiting, until=max(others, end) + self.tick_ms))
            for target in sorted(targets):
                waiting = self.waiting[target]
                if waiting.until <= end:
                    self._leave(target, waiting.lapse, end, decision, "timed-out")

    # -- damping ---------------------------------------------------------------------------------------

    def _damp(self, end: int, rows: list[ShardTick], decision: Decision) -> None:
        """Count the departures of a tick, and end the waits that are over."""
        if not self.damping.enabled:
            return
        for departure in [*decision.departed, *(failed for row in rows for failed in row.failed)]:
            target, generation = _target(departure), departure.generation
            before = self.flaps.get(target)
            flap = departed(before, generation, end, self.damping)
            if flap.until and (before is None or before.until != flap.until):
                decision.add(_damped(target, flap, end))
            self._note_flap(target, flap)
        while self._calm and self._calm[0][0] <= end:
            at, target = heappop(self._calm)
            flap_now = self.flaps.get(target)
            if flap_now is None or self._next_look(flap_now) != at:
                continue
            if not flap_now.until:
                del self.flaps[target]
                continue
            penalty = flap_now.now(self.damping, end)
            still = end + calm_after(penalty, self.damping) if penalty > self.damping.reuse + 1 else 0
            flap = Flap(penalty, end, flap_now.generation, still)
            decision.add(_damped(target, flap, end))
            self._note_flap(target, flap)

    def _note_flap(self, target: Target, flap: Flap) -> None:
        self.flaps[target] = flap
        heappush(self._calm, (self._next_look(flap), target))

    def _next_look(self, flap: Flap) -> int:
        return flap.until or flap.at + forgotten_after(flap.penalty, self.damping)

    # -- what is waiting -------------------------------------------------------------------------------

    def _put(self, target: Target, waiting: Waiting) -> None:
        self._unindex(target)
        self.waiting[target] = waiting
        self._index(target, waiting)

    def _forget(self, target: Target) -> Waiting | None:
        self._unindex(target)
        return self.waiting.pop(target, None)

    def _index(self, target: Target, waiting: Waiting) -> None:
        if waiting.phase is not Phase.LEFT:
            self._brake.waits(target.service)
        elif waiting.lapse.until:
            self._brake.left(target, waiting.since)
        if waiting.phase is Phase.HELD:
            self._held.setdefault(target.service, set()).add(target)
        if waiting.until:
            heappush(self._due, (waiting.until, target))
        else:
            self._undated[target] = None

    def _unindex(self, target: Target) -> None:
        waiting = self.waiting.get(target)
        if waiting is None:
            return
        if waiting.phase is not Phase.LEFT:
            self._brake.waits(target.service, -1)
        elif waiting.lapse.until:
            self._brake.forget(target)
        if waiting.phase is Phase.HELD:
            held = self._held[target.service]
            held.discard(target)
            if not held:
                del self._held[target.service]
        self._undated.pop(target, None)


def _target(transition: LeaseTransition) -> Target:
    return Target(transition.service, transition.instance)


def _damped(target: Target, flap: Flap, end: int) -> LeaseTransition:
    return LeaseTransition(
        fact=LeaseFact.DAMPED,
        service=target.service,
        instance=target.instance,
        generation=flap.generation,
        stamp=Stamp(end),
        until=flap.until,
    )
