"""What a log means, computed the slow way: the whole log in memory, sorted by stamp, told as a story.

This is the yardstick for the folds, so it shares none of their ideas: no last-writer-wins maps, no shards, no ticks
that arrive, no increments. Registrations are replayed in the order of the log; whether a lease lapsed is asked of the
log as a whole, with the sentence of the contract:

    A lapse with deadline D executes only if someone's real beat was logged in (D - lease/2, D] and no tick is missing
    there; otherwise the new deadline is the first real beat after it plus a full lease.

The three floors of tests use it: the model on generated events, the job on a mini cluster, the job on real servers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from waypost.errors import DecodeError
from waypost.model.beats import Beat
from waypost.model.brake import BrakeRules
from waypost.model.events import (
    Attributes,
    InstanceEvent,
    LeaseFact,
    LeaseTransition,
    Op,
    RouteEvent,
    SetEvent,
)
from waypost.model.health_window import Tally, WindowPlan
from waypost.model.isolation import REPAIR, Isolation, Verb
from waypost.model.lifecycle import Declared, Health, Lease, is_routable
from waypost.model.names import ServiceKey
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_beat, decode_heartbeat
from waypost.wire.isolation import decode_isolation
from waypost.wire.registry import decode_registration

WITNESS = b"_witness/"


class Record(NamedTuple):
    """One record of a topic as the broker holds it."""

    topic: str
    stamp: Stamp
    key: bytes | None
    value: bytes | None


class OracleBeat(NamedTuple):
    """One readable beat of one instance."""

    instance: str
    stamp: Stamp
    beat: Beat


@dataclass(kw_only=True)
class Known:
    """What is known of one instance. `lease` is None where the contract allows both (a deferred lapse is executed
    up to two ticks late, and the log ends within them)."""

    attributes: Attributes
    source: str
    declared: Declared
    health: Health = Health.UNKNOWN
    lease: Lease | None = Lease.LIVE
    generation: Stamp
    granted_seconds: int = 0
    """`lease_seconds` as registered; `lease_changes` are the updates of it since."""
    lease_changes: list[tuple[Stamp, int]] = field(default_factory=list)
    isolation: Isolation | None = None

    @property
    def is_routable(self) -> bool:
        assert self.lease is not None, "the log ends while this lapse may or may not be executed"
        return is_routable(self.declared, self.health, self.lease, isolated=self.isolation is not None)


class Dead(NamedTuple):
    """A record that must be on `dead-letter`."""

    topic: str
    partition: int
    offset: int
    reason: str


Services = dict[ServiceKey, dict[str, Known]]


@dataclass
class Story:
    """The registry as the log tells it, record by record."""

    registered: dict[ServiceKey, dict[str, Known]] = field(default_factory=dict)
    ever: set[tuple[ServiceKey, str]] = field(default_factory=set)
    sets: dict[ServiceKey, dict[str, SetEvent]] = field(default_factory=dict)
    dead: list[tuple[Stamp, str]] = field(default_factory=list)
    lives: list[tuple[ServiceKey, str, Stamp, Stamp | None]] = field(default_factory=list)
    """(service, instance, from, to): when an id was registered without a break."""
    isolations: list[Isolation] = field(default_factory=list)

    def tell(self, event: RouteEvent) -> None:
        if isinstance(event, Isolation):
            self.isolations.append(event)
        elif isinstance(event, SetEvent):
            self._tell_set(event)
        elif isinstance(event, LeaseTransition):
            self._tell_lease(event)
        else:
            self._tell_instance(event)

    def _tell_set(self, event: SetEvent) -> None:
        by_source = self.sets.setdefault(event.service, {})
        before = by_source.get(event.source)
        if before is not None and event.last_updated < before.last_updated:
            self.dead.append((event.stamp, "stale-last-updated"))
            return
        by_source[event.source] = event

    def _tell_lease(self, event: LeaseTransition) -> None:
        known = self.registered.get(event.service, {}).get(event.instance)
        if known is None:
            return
        if event.fact is LeaseFact.HEALTH:
            assert event.health is not None
            known.health = event.health
        elif event.generation == known.generation and event.fact is not LeaseFact.DAMPED:
            known.lease = Lease.LIVE if event.fact is LeaseFact.RENEWED else Lease.LAPSED

    def _tell_instance(self, event: InstanceEvent) -> None:
        if event.op is Op.UNPROTECT:
            return
        living = self.registered.setdefault(event.service, {})
        known = living.get(event.instance)
        if event.op is Op.REGISTER:
            assert event.attributes is not None
            assert event.declared is not None
            if known is None:
                self.lives.append((event.service, event.instance, event.stamp, None))
            self.ever.add((event.service, event.instance))
            living[event.instance] = Known(
                attributes=event.attributes,
                source=event.source,
                declared=event.declared,
                generation=event.stamp,
                granted_seconds=event.attributes.lease_seconds,
            )
        elif known is None:
            was_here = event.op is Op.DEREGISTER and (event.service, event.instance) in self.ever
            if not was_here:
                self.dead.append((event.stamp, "unknown-instance"))
        elif event.op is Op.DEREGISTER:
            del living[event.instance]
            self.lives = [
                (s, i, start, event.stamp if end is None and (s, i) == (event.service, event.instance) else end)
                for s, i, start, end in self.lives
            ]
        elif event.op is Op.UPDATE:
            known.attributes = replace(known.attributes, **event.changes)
            if "lease_seconds" in event.changes:
                known.lease_changes.append((event.stamp, event.changes["lease_seconds"]))
        elif event.op is Op.DRAIN:
            known.declared = Declared.DRAINING
        elif event.declared is not None:
            known.declared = event.declared
        elif event.health is not None:
            known.health = event.health

    def _isolation(self, service: ServiceKey, instance: str, node: str, now: int) -> Isolation | None:
        """The sentence of the contract: of two words about the same instance or node the later one counts, until it is
        over; but no repair ends or replaces what anybody else says, and theirs is stricter than a repair's."""
        about = [w for w in self.isolations if w.service in (service, None)]
        standing = []
        for words in ([w for w in about if w.instance == instance], [w for w in about if w.node and w.node == node]):
            people = [w for w in words if w.by != REPAIR][-1:]
            newest = people + words[-1:]
            standing += [w for w in newest if w.verb is Verb.ISOLATE and now < w.expires_at][:1]
        return min(standing, key=lambda w: w.by == REPAIR, default=None)

    def known(self, now: int = 0) -> Services:
        """Everything that something speaks for, as of `now` (epoch ms). A registration comes before any set that lists
        the same id."""
        result: Services = {}
        for service in self.registered.keys() | self.sets.keys():
            table: dict[str, Known] = {}
            for owned in sorted(self.sets.get(service, {}).values(), key=lambda s: (s.healthy, s.stamp)):
                for address, port in owned.endpoints:
                    table[f"{address}:{port}"] = Known(
                        attributes=Attributes(address=address, port=port),
                        source=owned.source,
                        declared=Declared.UP,
                        health=Health.PASS if owned.healthy else Health.FAIL,
                        lease=Lease.NONE,
                        generation=owned.stamp,
                    )
            table.update(self.registered.get(service, {}))
            for instance, one in table.items():
                one.isolation = self._isolation(service, instance, one.attributes.node, now)
            if table:
                result[service] = table
        return result


def told(events: Iterable[RouteEvent]) -> Story:
    """Tell a whole log of one or several services in the order of its stamps."""
    story = Story()
    # Of one record and a tick that ends at the same moment the tick is first: its stamp has no partition.
    for event in sorted(without_repeats(events), key=lambda e: e.stamp):
        story.tell(event)
    return story


def without_repeats(events: Iterable[RouteEvent]) -> list[RouteEvent]:
    """Drop events that occur twice (same stamp, same content)."""
    result: list[RouteEvent] = []
    for event in events:
        if event not in result:
            result.append(event)
    return result


@dataclass
class Log:
    """A log as read: events, beats, and which ticks have a row of every shard."""

    shards: int = 1
    events: list[InstanceEvent | SetEvent] = field(default_factory=list)
    isolations: list[Isolation] = field(default_factory=list)
    beats: list[OracleBeat] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    shards_seen: dict[int, set[int]] = field(default_factory=dict)
    tick_ms: int = 1000

    @classmethod
    def of(
        cls, records: Iterable[Record], *, registry: str, shards: int, tick_ms: int = 1000, isolation: str = ""
    ) -> Log:
        """Read raw records of the registry topic, the isolation topic, and of any other (the heartbeats)."""
        log = cls(shards=shards, tick_ms=tick_ms)
        witnesses = {WITNESS + b"%d" % shard: shard for shard in range(shards)}
        for record in records:
            stamp = record.stamp
            end = stamp.at // tick_ms * tick_ms + tick_ms
            try:
                if record.topic == registry:
                    log.events.append(decode_registration(record.value, stamp))
                elif record.topic == isolation:
                    log.isolations.append(decode_isolation(record.value, stamp))
                elif record.key in witnesses and record.value is not None:
                    log.shards_seen.setdefault(end, set()).add(witnesses[record.key])
                else:
                    heartbeats = decode_heartbeat(record.key, record.value)
                    if record.value is not None and b'"beats"' not in record.value:
                        decode_beat(record.value)  # refuses a batch whose name is written with escapes
                    if heartbeats.errors:
                        reason = heartbeats.errors[0].reason
                        log.dead.append(Dead(record.topic, stamp.partition, stamp.offset, reason))
                    for instance, beat in heartbeats.beats:
                        log.beats.append(OracleBeat(instance, stamp, beat))
                        log.shards_seen.setdefault(end, set()).add(shard_of(instance, shards))
            except DecodeError as error:
                log.dead.append(Dead(record.topic, stamp.partition, stamp.offset, error.reason))
        return log

    @property
    def complete_ticks(self) -> set[int]:
        """The ends of the ticks in which every shard has a row."""
        return {end for end, seen in self.shards_seen.items() if len(seen) == self.shards}


def final(log: Log, complete_ticks: Collection[int] | None = None, now: int = 0) -> Services:
    """Return what is known when the whole log was read: the answer the job must agree with at `now`."""
    ticks = set(log.complete_ticks if complete_ticks is None else complete_ticks)
    story = told([*log.events, *log.isolations])
    services = story.known(now)
    real = sorted(
        b.stamp.at
        for b in log.beats
        if any(
            _speaks_of(b, s, i) and start <= b.stamp and (end is None or b.stamp < end)
            for s, i, start, end in story.lives
        )
    )
    for service, table in services.items():
        for instance, known in table.items():
            if known.lease is Lease.NONE:
                continue
            own = sorted((b for b in log.beats if _renews(b, service, instance, known, story)), key=lambda b: b.stamp)
            known.lease = _lease(known, [b.stamp.at for b in own], real, ticks, log.tick_ms)
            _health(known, service, instance, own, log.events)
    return services


def _speaks_of(beat: OracleBeat, service: ServiceKey, instance: str) -> bool:
    said = beat.beat
    return (
        beat.instance == instance
        and (not said.service or said.service == service.service)
        and (not said.namespace or said.namespace == service.namespace)
    )


def _renews(beat: OracleBeat, service: ServiceKey, instance: str, known: Known, story: Story) -> bool:
    if not _speaks_of(beat, service, instance) or beat.stamp < known.generation:
        return False
    meant = {
        s.namespace
        for s, i, start, end in story.lives
        if _speaks_of(beat, s, i) and start <= beat.stamp and (end is None or beat.stamp < end)
    }
    return len(meant) == 1


def _health(
    known: Known, service: ServiceKey, instance: str, own: list[OracleBeat], events: list[InstanceEvent | SetEvent]
) -> None:
    """The last word on health since the registration, of a beat or of a checker."""
    words = [(b.stamp, b.beat.health) for b in own if b.beat.health is not None]
    for event in events:
        if (
            isinstance(event, InstanceEvent)
            and (event.service, event.instance) == (service, instance)
            and event.health is not None
            and event.stamp > known.generation
        ):
            words.append((event.stamp, event.health))
    known.health = max(words)[1] if words else Health.UNKNOWN


def _lease(known: Known, own: list[int], real: list[int], ticks: set[int], tick_ms: int) -> Lease | None:
    last = max([known.generation.at, *own])
    lease_ms = known.granted_seconds * 1000
    for stamp, seconds in known.lease_changes:
        if stamp.at <= last:
            lease_ms = seconds * 1000
    lapses = lapse_times(last + lease_ms, lease_ms, real, ticks, tick_ms)
    for stamp, seconds in known.lease_changes:
        if stamp.at <= last:
            continue
        if any(lapse is not None and lapse <= stamp.at for lapse in lapses):
            break  # An update does not revive; a beat does.
        lease_ms = seconds * 1000
        lapses = lapse_times(max(last + lease_ms, stamp.at), lease_ms, real, ticks, tick_ms)
    log_end = max(ticks, default=0)
    if all(lapse is None or lapse > log_end for lapse in lapses):
        return Lease.LIVE
    return Lease.LAPSED if all(lapse is not None and lapse <= log_end for lapse in lapses) else None


def lapse_times(deadline: int, lease_ms: int, real: list[int], ticks: set[int], tick_ms: int) -> set[int | None]:
    """Return the ends of the ticks that may execute the lapse, None among them when the log may never allow it.

    There is more than one answer only after a deferral: of the first tick with a beat after the deadline the job may
    take the first beat or the last.
    """
    log_end = max(ticks, default=0)
    if deadline > log_end:
        return {None}
    start = deadline - lease_ms // 2
    first_tick = start // tick_ms * tick_ms + tick_ms
    last_tick = -(-deadline // tick_ms) * tick_ms
    nothing_missing = all(end in ticks for end in range(first_tick, last_tick + 1, tick_ms))
    if nothing_missing and any(start < at <= deadline for at in real):
        return {last_tick}
    after = [at for at in real if at > deadline]
    if not after:
        return {None}
    same_tick = [at for at in after if at // tick_ms == after[0] // tick_ms]
    return {
        lapse
        for at in {same_tick[0], same_tick[-1]}
        for lapse in lapse_times(at + lease_ms, lease_ms, real, ticks, tick_ms)
    }


Id = tuple[ServiceKey, str]


@dataclass
class Braked:
    """Who is held, who left and may be taken back, and who is out for good; since when, and until when."""

    held: dict[Id, tuple[int, int]] = field(default_factory=dict)
    left: dict[Id, tuple[int, int]] = field(default_factory=dict)
    out: set[Id] = field(default_factory=set)


def braked(log: Log, rules: BrakeRules, now: int) -> Braked:
    """Return what the brake made of the lapses until the tick that ends at `now`, tick by tick from the first.

    For logs in which somebody always beats (no lapse is deferred), no lease is updated and no id is in two namespaces.
    The sentences are those of the contract:

        If lapses within 30 s would take more than 50 % and at least 3 of a service's endpoints, or within 60 s more
        than 15 % and at least 10 of the fleet, the whole batch is held. Held ones leave when those still silent no
        longer exceed the limits, or when the hold time is over, then the one that beat last after all others.
    """
    ticks = {end for end in log.complete_ticks if end <= now}
    story = told(log.events)
    silences = {(s, i): _silences(log, ticks, s, i) for s, i, _, _ in story.lives}
    found = Braked()
    for end in sorted(ticks):
        silent = {who for who, spans in silences.items() if any(a <= end < b for a, b in spans)}
        for known in (found.held, found.left):
            for who in known.keys() - silent:
                del known[who]
        found.out = (found.out & silent) | {who for who, (_, until) in found.left.items() if until <= end}
        found.left = {who: span for who, span in found.left.items() if who not in found.out}
        leased = {(s, i) for s, i, start, stop in story.lives if start.at < end and (stop is None or stop.at >= end)}
        _brake_tick(log, rules, end, silent, leased, found)
    return found


def _brake_tick(log: Log, rules: BrakeRules, end: int, silent: set[Id], leased: set[Id], found: Braked) -> None:
    pending, left = silent - found.left.keys() - found.out, dict(found.left)

    def batch(members: set[Id], window: int) -> set[Id]:
        return (pending & members) | {who for who in left if who in members and left[who][0] > end - window}

    def exceeds(members: set[Id], window: int, percent: int, least: int) -> bool:
        taken = batch(members, window)
        return len(taken) >= least and 100 * len(taken) > percent * len(members - found.out - (left.keys() - taken))

    of_fleet = exceeds(leased, rules.fleet_ms, rules.fleet_percent, rules.fleet_min)
    for service in {service for service, _ in batch(leased, rules.fleet_ms)}:
        members = {who for who in leased if who[0] == service}
        of_service = exceeds(members, rules.service_ms, rules.service_percent, rules.service_min)
        if of_fleet or (of_service and pending & members):
            for who in batch(members, rules.fleet_ms if of_fleet else rules.service_ms) - found.held.keys():
                _, until = found.left.pop(who, (0, end + rules.hold_of(service)))
                found.held[who] = end, until
        else:
            for who in pending & members:
                _, until = found.held.pop(who, (0, end + rules.hold_of(service)))
                found.left[who] = end, until
    for service in {service for service, _ in found.held}:
        held = {who: until for who, (_, until) in found.held.items() if who[0] == service}
        over = {who for who, until in held.items() if until <= end}
        newest = max(held, key=lambda who: (_last_beat(log, who, end), who[1]))
        if newest in over and len(held) > 1:
            others = max(until for who, until in held.items() if who != newest)
            found.held[newest] = end, max(end, others) + log.tick_ms
            over.discard(newest)
        for who in over:
            del found.held[who]
            found.out.add(who)


def _last_beat(log: Log, who: Id, end: int) -> int:
    return max((b.stamp.at for b in log.beats if b.instance == who[1] and b.stamp.at < end), default=0)


def _silences(log: Log, ticks: set[int], service: ServiceKey, instance: str) -> list[tuple[int, int]]:
    """Return from which tick to before which tick the instance's lease was lapsed."""
    signs: list[tuple[int, int]] = []  # (when, lease; 0: deregistered)
    for event in log.events:
        if isinstance(event, InstanceEvent) and (event.service, event.instance) == (service, instance):
            if event.op is Op.REGISTER and event.attributes is not None:
                signs.append((event.stamp.at, event.attributes.lease_seconds * 1000))
            elif event.op is Op.DEREGISTER:
                signs.append((event.stamp.at, 0))
    signs += [(b.stamp.at, -1) for b in log.beats if _speaks_of(b, service, instance)]
    real, spans, lease_ms = sorted(b.stamp.at for b in log.beats), [], 0
    signs.sort()
    for n, (at, word) in enumerate(signs):
        lease_ms = word if word >= 0 else lease_ms
        if not lease_ms:
            continue
        following = signs[n + 1][0] // log.tick_ms * log.tick_ms + log.tick_ms if n + 1 < len(signs) else 1 << 62
        (lapse,) = lapse_times(at + lease_ms, lease_ms, real, ticks, log.tick_ms)
        if lapse is not None and lapse < following:
            spans.append((lapse, following))
    return spans


Windows = dict[tuple[ServiceKey, int], dict[str, Tally]]
"""(Service, end of the window) → what its instances said in it, those that beat."""


def windows(log: Log, plan: WindowPlan, until: int) -> Windows:
    """Return every window that ends at or before `until`, beat by beat.

    A beat counts for an instance that is registered when its tick ends, by a registration that is not newer than the
    beat, and still registered when the window ends. A window in whose last tick the shard has no row runs into the
    next one. Whether the newest word on an instance's health is fail is left out.
    """

    def window_end(service: ServiceKey, instance: str, tick_end: int) -> int:
        phase = plan.phase(plan.bucket(service))
        end = -(-(tick_end - phase) // plan.size_ms) * plan.size_ms + phase
        while end <= until and shard_of(instance, log.shards) not in log.shards_seen.get(end, ()):
            end += plan.size_ms
        return end

    story = told(log.events)
    renewed = [e for e in log.events if isinstance(e, InstanceEvent) and e.op is Op.REGISTER]
    found: Windows = {}
    for beat in log.beats:
        tick_end = beat.stamp.at // plan.tick_ms * plan.tick_ms + plan.tick_ms
        meant = [
            (service, instance)
            for service, instance, start, end in story.lives
            if _speaks_of(beat, service, instance)
            and start.at < tick_end
            and (end is None or end.at >= window_end(service, instance, tick_end))
            and all(
                e.stamp <= beat.stamp or e.stamp.at >= tick_end
                for e in renewed
                if (e.service, e.instance) == (service, instance) and e.stamp >= start
            )
        ]
        if len({service.namespace for service, _ in meant}) > 1:
            continue
        for service, instance in meant:
            end_of_window = window_end(service, instance, tick_end)
            if end_of_window <= until:
                window = found.setdefault((service, end_of_window), {})
                window[instance] = _with(window.get(instance, Tally()), beat)
    return found


def _with(tally: Tally, beat: OracleBeat) -> Tally:
    said = beat.beat
    milli = None if said.cpu is None else round(said.cpu * 1000)
    lag = None if said.ts is None else max(0, beat.stamp.at - said.ts)
    return Tally(
        beats=tally.beats + 1,
        cpu_beats=tally.cpu_beats + (milli is not None),
        cpu_sum=tally.cpu_sum + (milli or 0),
        cpu_max=max(tally.cpu_max, milli or 0),
        timed_beats=tally.timed_beats + (lag is not None),
        lag_max=max(tally.lag_max, lag or 0),
    )
