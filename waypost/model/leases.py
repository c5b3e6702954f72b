"""The lease fold of one shard: who beats, whose lease ran out.

Input is one row per tick with all beats of the shard's instances in it, plus the registrations of these
instances. The tick row is the clock: nothing lapses between rows, and without rows nothing lapses at all.

This fold only *proposes* a lapse. Whether beats could have arrived at all is known to the gate, which sees every
shard; see `waypost.model.gate`.

    deadline = max(registration, last beat) + lease          all in append time
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from waypost.model.beats import Beat
from waypost.model.events import InstanceEvent, LeaseFact, LeaseTransition, Op, Target
from waypost.model.health_window import ShardTallies, Tally, WindowPlan
from waypost.model.lifecycle import Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import ORIGIN, Stamp

UNKNOWN_MEMORY_MS = 3600 * 1000
"""How long a beat of an unregistered id is remembered. The contract dead-letters such an id once an hour, so it has
to be remembered that long anyway; and a replay may read an hour of beats before it reads the registration."""

UNKNOWN_WAIT_MS = 90 * 1000
"""How long an unknown id waits for its registration before it is reported: one default lease."""

MAX_UNKNOWN = 10_000
"""Unknown ids remembered per shard, so that a producer inventing ids cannot fill the state; ids beyond are
reported at once, every tick."""

NEVER = 1 << 62


class TimedBeat(NamedTuple):
    """One beat of one instance with its place on the log."""

    instance: str
    stamp: Stamp
    beat: Beat
    raw: str = "{}"


@dataclass(slots=True)
class Lease:
    """The lease of one registration."""

    service: ServiceKey
    generation: Stamp
    lease_ms: int
    last_beat: int = 0
    lapsed: bool = False
    health: Health | None = None
    health_stamp: Stamp = ORIGIN
    """Of the newest beat or check that said anything of health. A beat is reported when it says another thing than
    the newest word before it, whoever said that: otherwise a check could never be overruled by steady beats."""
    packed: bytes = field(default=b"", compare=False, repr=False)
    """The codec's encoding of this lease, empty since it last changed: in a storm of registrations a shard is
    encoded every tick, and most of its leases are as before."""
    slot: int = field(default=0, compare=False, repr=False)
    """Where `LeaseShard.tallies` counts its beats."""
    is_gone: bool = field(default=False, compare=False, repr=False)
    """Whether its instance was deregistered."""

    @property
    def deadline(self) -> int:
        """When the lease ends unless a beat comes before, epoch ms of the log."""
        return max(self.generation.at, self.last_beat) + self.lease_ms


@dataclass(slots=True)
class UnknownBeat:
    """Beats under an id that nothing registered: since when, the newest one, and when that was last reported."""

    first: int
    newest: TimedBeat
    reported: int = 0

    @property
    def due(self) -> int:
        """When it is to be reported, given that a beat came since the last report."""
        return max(self.first + UNKNOWN_WAIT_MS, self.reported + UNKNOWN_MEMORY_MS if self.reported else 0)


class Reject(NamedTuple):
    """A beat that could renew nothing, and why; it belongs on `dead-letter`."""

    beat: TimedBeat
    reason: str


@dataclass(slots=True)
class TickResult:
    """What one tick row did to the shard.

    `renewals` pass whatever the gate thinks of lapses. `first_beat` and `last_beat` (append time, 0 = none) cover
    beats of registered instances only; `unknown` and `late` count the beats of ids never registered and of ids
    deregistered before.

    `counts`, `settled`, `failed` and `released` tell what happened since the row before: by how much the number of live
    leases of a service changed, which lapsed leases are no longer to be waited for (registered anew or deregistered),
    which instances a checker found failing, and which services an operator let go, with the time of that. All are in
    the order of the log, the tick's own beats last.
    """

    lapses: list[LeaseTransition] = field(default_factory=list)
    renewals: list[LeaseTransition] = field(default_factory=list)
    counts: dict[ServiceKey, int] = field(default_factory=dict)
    settled: list[Target] = field(default_factory=list)
    failed: list[LeaseTransition] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    released: dict[ServiceKey, int] = field(default_factory=dict)
    first_beat: int = 0
    last_beat: int = 0
    renewed: int = 0
    unknown: int = 0
    late: int = 0


@dataclass(slots=True)
class LeaseShard:
    """All leases of one shard, by instance id. One id may be registered in several services."""

    leases: dict[str, list[Lease]] = field(default_factory=dict)
    removed: dict[str, dict[ServiceKey, Stamp]] = field(default_factory=dict)
    updates: dict[str, dict[ServiceKey, tuple[Stamp, int]]] = field(default_factory=dict)
    """The newest update of `lease_seconds` (as ms), also of one whose registration is yet to arrive."""
    unknown: dict[str, UnknownBeat] = field(default_factory=dict)
    next_deadline: int = NEVER
    """No live lease ends before this. Beats only move deadlines away, so the bound stays true and the shard is
    searched for lapses only when it is reached."""
    next_report: int = NEVER
    """No unknown id is to be reported or forgotten before this."""
    counts: dict[ServiceKey, int] = field(default_factory=dict, compare=False)
    settled: list[Target] = field(default_factory=list, compare=False)
    failed: list[LeaseTransition] = field(default_factory=list, compare=False)
    released: dict[ServiceKey, int] = field(default_factory=dict, compare=False)
    """What the next row will tell, see `TickResult`. Not stored: the directory is saved with each row, so what came
    since is exactly what the journal brings back."""
    tallies: ShardTallies = field(default_factory=ShardTallies, compare=False, repr=False)
    """What beats said since the windows of their services began."""
    listed: list[Lease] | None = field(default=None, compare=False, repr=False)
    """All leases in directory order: made when it is needed after a lease was added or removed. Every tick writes down
    the last beats of all."""
    by_bucket: dict[int, list[tuple[str, Lease]]] | None = field(default=None, compare=False, repr=False)
    """The leases of each bucket of services, and some that were removed: those leave when a window of theirs ends. In a
    storm of registrations each tick has new ones, and none can afford to go through all."""
    unsorted: list[tuple[str, Lease]] = field(default_factory=list, compare=False, repr=False)
    """Leases that are in no bucket yet."""

    def register(self, event: InstanceEvent) -> bool:
        """Fold one registration event and tell whether the directory changed. Order does not matter."""
        if event.op is Op.REGISTER:
            assert event.attributes is not None
            return self._grant(event.instance, event.service, event.stamp, event.attributes.lease_seconds * 1000)
        if event.op is Op.DEREGISTER:
            return self._remove(event.instance, event.service, event.stamp)
        if event.op is Op.UPDATE and "lease_seconds" in event.changes:
            return self._change(event.instance, event.service, event.stamp, event.changes["lease_seconds"] * 1000)
        if event.op is Op.UNPROTECT:
            self.released[event.service] = max(self.released.get(event.service, 0), event.stamp.at)
        if event.op is Op.STATUS and event.health is not None:
            return self._check(event.instance, event.service, event.stamp, event.health)
        return False

    def _check(self, instance: str, service: ServiceKey, stamp: Stamp, health: Health) -> bool:
        lease = self._find(instance, service)
        if lease is None or stamp <= lease.generation:
            return False
        lease.packed = b""
        if stamp > lease.health_stamp:
            if health is Health.FAIL is not lease.health:
                self.failed.append(_transition(LeaseFact.HEALTH, instance, lease, stamp))
            lease.health, lease.health_stamp = health, stamp
        elif stamp < lease.health_stamp and health is not lease.health:
            # Read after the beats that overruled it. They may have been no news and so were not reported; the next is.
            lease.health = None
        else:
            return False
        return True

    def _change(self, instance: str, service: ServiceKey, stamp: Stamp, lease_ms: int) -> bool:
        lease = self._find(instance, service)
        generation = ORIGIN if lease is None else lease.generation
        newest, _ = self.updates.get(instance, {}).get(service, (ORIGIN, 0))
        if stamp <= max(newest, generation):
            return False
        self.updates.setdefault(instance, {})[service] = (stamp, lease_ms)
        if lease is not None:
            lease.lease_ms, lease.packed = lease_ms, b""
            self.next_deadline = min(self.next_deadline, lease.deadline)
        return True

    def _find(self, instance: str, service: ServiceKey) -> Lease | None:
        return next((x for x in self.leases.get(instance, ()) if x.service == service), None)

    def _grant(self, instance: str, service: ServiceKey, generation: Stamp, lease_ms: int) -> bool:
        if generation <= self.removed.get(instance, {}).get(service, ORIGIN):
            return False
        lease = self._find(instance, service)
        if lease is None:
            lease = Lease(service, generation, lease_ms, slot=self.tallies.new_slot())
            self.leases.setdefault(instance, []).append(lease)
            self.unsorted.append((instance, lease))
            self.listed = None
            self._count(service, 1)
        elif generation <= lease.generation:
            return False
        else:
            if lease.lapsed:
                self.settled.append(Target(service, instance))
                self._count(service, 1)
            lease.generation, lease.lease_ms = generation, lease_ms
            lease.lapsed, lease.health, lease.health_stamp = False, None, ORIGIN
        updated, changed_ms = self.updates.get(instance, {}).get(service, (ORIGIN, 0))
        if updated > generation:
            lease.lease_ms = changed_ms
        lease.packed = b""
        waiting = self.unknown.get(instance)
        if waiting is not None and _may_mean(waiting.newest.beat, service):
            del self.unknown[instance]
            lease.last_beat = max(lease.last_beat, waiting.newest.stamp.at)
        self.next_deadline = min(self.next_deadline, lease.deadline)
        return True

    def _remove(self, instance: str, service: ServiceKey, stamp: Stamp) -> bool:
        if stamp <= self.removed.get(instance, {}).get(service, ORIGIN):
            return False
        self.removed.setdefault(instance, {})[service] = stamp
        lease = self._find(instance, service)
        if lease is not None and lease.generation < stamp:
            if lease.lapsed:
                self.settled.append(Target(service, instance))
            else:
                self._count(service, -1)
            self.listed = None
            lease.is_gone = True
            self.leases[instance].remove(lease)
            if not self.leases[instance]:
                del self.leases[instance]
        return True

    def tick(self, end: int, beats: Iterable[TimedBeat], tick_ms: int = 1000) -> TickResult:
        """Fold one tick's beats, then find the leases that ended at or before `end`.

        `beats` may come in any order. A beat logged before the registration it would renew is too old to do so; one
        logged before the tick is late, counted as such, and folded like any other.
        """
        result = TickResult()
        start = end - tick_ms
        for timed in beats:
            self._beat(timed, start, result)
        if end >= self.next_deadline:
            self._lapse(end, result)
        if end >= self.next_report:
            self._report(end, result)
        result.counts = {service: n for service, n in self.counts.items() if n}
        result.settled, result.failed, result.released = self.settled, self.failed, self.released
        self.counts, self.settled, self.failed, self.released = {}, [], [], {}
        return result

    def _count(self, service: ServiceKey, n: int) -> None:
        self.counts[service] = self.counts.get(service, 0) + n

    def _beat(self, timed: TimedBeat, tick_start: int, result: TickResult) -> None:
        instance, stamp, beat, _ = timed
        leases = self.leases.get(instance)
        if leases is None:
            self._wait(timed, result)
            return
        if beat.service or beat.namespace:
            leases = [x for x in leases if _may_mean(beat, x.service)]
            if not leases:
                self._wait(timed, result)
                return
        if len(leases) > 1 and len({x.service.namespace for x in leases}) > 1:
            result.rejects.append(Reject(timed, "ambiguous-namespace"))
            return
        result.renewed += 1
        result.first_beat = min(result.first_beat or stamp.at, stamp.at)
        result.last_beat = max(result.last_beat, stamp.at)
        for lease in leases:
            if stamp < lease.generation:
                continue
            self.tallies.count(lease.slot, beat, stamp.at, tick_start)
            if stamp.at > lease.last_beat:  # One read again renews nothing: its lease was counted.
                lease.last_beat = stamp.at
                if lease.lapsed:
                    lease.lapsed, lease.packed = False, b""
                    self._count(lease.service, 1)
                    self.next_deadline = min(self.next_deadline, lease.deadline)
                    result.renewals.append(_transition(LeaseFact.RENEWED, instance, lease, stamp))
            if beat.health is not None and stamp > lease.health_stamp:
                lease.health_stamp = stamp
                if beat.health is not lease.health:
                    lease.health, lease.packed = beat.health, b""
                    result.renewals.append(_transition(LeaseFact.HEALTH, instance, lease, stamp))

    def _wait(self, timed: TimedBeat, result: TickResult) -> None:
        if timed.instance in self.removed:
            result.late += 1
            return
        result.unknown += 1
        waiting = self.unknown.get(timed.instance)
        if waiting is not None:
            if timed.stamp > waiting.newest.stamp:
                waiting.newest = timed
        elif len(self.unknown) < MAX_UNKNOWN:
            waiting = self.unknown[timed.instance] = UnknownBeat(timed.stamp.at, timed)
        else:
            result.rejects.append(Reject(timed, "unknown-instance"))
            return
        self.next_report = min(self.next_report, waiting.due)

    def _lapse(self, end: int, result: TickResult) -> None:
        bound = NEVER
        for instance, leases in self.leases.items():
            for lease in leases:
                if lease.lapsed:
                    continue
                deadline = lease.deadline
                if deadline <= end:
                    lease.lapsed, lease.packed = True, b""
                    self._count(lease.service, -1)
                    result.lapses.append(_transition(LeaseFact.LAPSED, instance, lease, Stamp(end)))
                elif deadline < bound:
                    bound = deadline
        self.next_deadline = bound

    def _report(self, end: int, result: TickResult) -> None:
        bound = NEVER
        for instance, waiting in list(self.unknown.items()):
            seen = waiting.newest.stamp.at
            if seen > waiting.reported and end >= waiting.due:
                waiting.reported = end
                result.rejects.append(Reject(waiting.newest, "unknown-instance"))
            if seen + UNKNOWN_MEMORY_MS <= end:
                del self.unknown[instance]
            else:
                bound = min(bound, waiting.due if seen > waiting.reported else seen + UNKNOWN_MEMORY_MS)
        self.next_report = bound

    def forget(self, before: int) -> None:
        """Drop tombstones, and updates of nothing leased, older than `before` (epoch ms of the log)."""
        for instance, updates in list(self.updates.items()):
            if instance not in self.leases and all(stamp.at < before for stamp, _ in updates.values()):
                del self.updates[instance]
        for instance, stamps in list(self.removed.items()):
            kept = {service: stamp for service, stamp in stamps.items() if stamp.at >= before}
            if kept:
                self.removed[instance] = kept
            else:
                del self.removed[instance]

    def end_windows(self, due: Iterable[int], plan: WindowPlan, end: int) -> dict[int, dict[str, dict[str, Tally]]]:
        """Take the tallies of the windows that end with the tick just folded, by bucket, service and instance.

        A lease that lived through its window without a beat is told as well, so that a service whose every instance
        fell silent has a window to say so.
        """
        if self.by_bucket is None:
            self.by_bucket = {}
            self.unsorted = [(instance, lease) for instance, leases in self.leases.items() for lease in leases]
        for instance, lease in self.unsorted:
            self.by_bucket.setdefault(plan.bucket(lease.service), []).append((instance, lease))
        self.unsorted.clear()
        partials: dict[int, dict[str, dict[str, Tally]]] = {}
        for bucket in due:
            services: dict[str, dict[str, Tally]] = {}
            here = self.by_bucket[bucket] = [entry for entry in self.by_bucket.get(bucket, ()) if not entry[1].is_gone]
            for instance, lease in here:
                tally = self.tallies.take(lease.slot, failing=lease.health is Health.FAIL)
                if tally.beats or (not lease.lapsed and lease.generation.at < end - plan.size_ms):
                    services.setdefault(str(lease.service), {})[instance] = tally
            if services:
                partials[bucket] = services
        return partials

    def arrange(self) -> None:
        """Give the tallies the order of the directory, and forget those of leases that are gone.

        Called when the directory is written anew: both are then read back in one order.
        """
        self.tallies = self.tallies.arranged(lease.slot for lease in self._all())
        for number, lease in enumerate(self._all()):
            lease.slot = self.tallies.slot(number)

    def last_beats(self) -> array[int]:
        """Return the last beat of every lease in directory order: the part of the state every tick changes."""
        return array("q", [lease.last_beat for lease in self._all()])

    def _all(self) -> list[Lease]:
        if self.listed is None:
            self.listed = [lease for leases in self.leases.values() for lease in leases]
        return self.listed


def _may_mean(beat: Beat, service: ServiceKey) -> bool:
    return (not beat.service or beat.service == service.service) and (
        not beat.namespace or beat.namespace == service.namespace
    )


def _transition(fact: LeaseFact, instance: str, lease: Lease, stamp: Stamp) -> LeaseTransition:
    return LeaseTransition(
        fact=fact,
        service=lease.service,
        instance=instance,
        generation=lease.generation,
        stamp=stamp,
        health=lease.health if fact is LeaseFact.HEALTH else None,
        deadline=lease.deadline if fact is LeaseFact.LAPSED else 0,
        last_beat=lease.last_beat,
        lease_ms=lease.lease_ms,
    )
