"""The route fold on Flink: folds what the log says of a service, and makes it visible.

The first change of a service is written at once, further ones at most once per `coalesce_ms`. While the store is away
changes gather in keyed state and are tried again; nothing is raised, nothing is lost. What was written is
also emitted, for the audit log; the write itself happens here because its answer decides what comes next.

After a start or restore, each service is first compared with the store:

    the store has nothing, we do             write a snapshot (it was wiped)
    same revision and digest                 go on
    the store is behind the log we folded    write a snapshot above the stored revision
    the store is ahead                       wait until the log has brought us there (at most `catch_up_ms`)

so no reader sees a table move back in time. From then on the audit (`jobs.operators.audit`) compares each table again
and again; a damaged one is healed by a snapshot.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedCoProcessFunction, OutputTag, RuntimeContext

from jobs.operators.aside import Aside, Record, append_time, records
from jobs.operators.audit import Audited, TableAudit
from jobs.operators.collector import spare_what_stays
from jobs.operators.keyed_state import CurrentKey, KeyedServiceStore
from jobs.operators.leased_table import LeasedTable
from jobs.operators.meters import Meters
from jobs.operators.outputs import dead_letter
from jobs.operators.slices import SLICE_MS, Slices, WakeUp
from schemas.flink_types import DECIDED, ISOLATIONS, LEASES, REGISTRATIONS, WINDOW
from waypost.errors import DecodeError, FencedError, PublicationRefused, StoreUnavailable
from waypost.metrics import (
    AUDIT_PARTS,
    AUDIT_TIME,
    CHANGED,
    DEAD_LETTERS,
    DIRTY,
    HEALS,
    ISOLATIONS_IN_FORCE,
    LATENCY,
    PASSIVE,
    PROTECTED,
    PUBLICATIONS,
    REFUSED,
    SERVICES,
    SPARED,
)
from waypost.metrics import REGISTRATIONS as REGISTRATIONS_READ
from waypost.model.events import InstanceEvent, LeaseFact, LeaseTransition
from waypost.model.fencing import (
    NOBODY,
    Fenced,
    NeedSnapshot,
    NotOpen,
    Opened,
    RouteStore,
    Sight,
    StoredMeta,
    WriterId,
    Written,
)
from waypost.model.health_window import ServiceWindow, WindowStats
from waypost.model.isolation import Isolation
from waypost.model.names import ServiceKey
from waypost.model.route_table import Publication, format_digest
from waypost.model.service import ServiceFold
from waypost.model.service_state import Position
from waypost.model.stamp import Cause, Stamp
from waypost.settings import Routes
from waypost.wire.endpoint import JsonRenderer
from waypost.wire.glue import ENTRY
from waypost.wire.health_window import decode_window
from waypost.wire.isolation import decode_isolation
from waypost.wire.registry import RegistrationEvent, decode_registration
from waypost.wire.route_changes import encode_restart, encode_route_changes
from waypost.wire.transitions import decode_transitions

log = logging.getLogger(__name__)

_LOOK_MS = 100
"""How often the store is looked at, at most, for a wipe or another owner; one look for all services of the subtask."""

_SILENT_OWNERS = 6
"""After so many of our own looks (one per `audit_ms`, as the owner's) without a sign of another job's life the tables
are ours again. Longer than a short trouble of the owner's network; if it lives after all, it is the passive one."""

_ANSWER_MS = 60_000
"""Records older than this are not answered: whoever asked has given up long ago."""

_MAX_REFUSAL_MS = 60_000
"""Longest pause before a publication that the store refused is tried again."""

_PURGE_MS = 3_600_000
"""How often each service's tombstones are looked through; they live for a day."""

_MAX_LAG_MS = 1_000
"""Longest time writes of a service are gathered when the job lags behind the log."""

_AUDITS_SKIPPED = 12
"""So many audits of a service are left out in a row while there is more to fold than passes at once."""

_AUDIT_JITTER = (0.8, 1.0)
"""Which part of `audit_ms` passes between two audits of a service."""

_WHY: dict[type, str] = {NeedSnapshot: "need-snapshot", NotOpen: "not-open", Fenced: "fenced"}
"""How refusals are counted."""

_AT_ONCE = 16
"""Records or leases of a service folded as they come: about a millisecond. More of them at a time are put aside."""

_MAX_ASIDE = 64 * 1024 * 1024
"""Bytes put aside in a subtask, twice in memory and once in each checkpoint. Beyond that rows wait for slices, and the
log with them."""

_MAX_SNAPSHOTS = 3
"""Snapshots tried in one go when somebody else keeps writing the same service."""


@dataclass(slots=True)
class _Live:
    """What this task knows of a service besides its state: gone with the task, and rightly so."""

    key: Any
    """The service as Flink's key, for a turn that Flink has not given it."""
    wrote: int
    leased: LeasedTable
    epoch: int = 0
    in_sync: bool = False
    not_before: int = 0
    refusals: int = 0
    timer: int = 0
    decided: int = 0
    """Until when the gate has decided everything, by its own word; 0: it has not said so since the task began."""
    caught_up: Position | None = None
    give_up: int = 0
    settled: int = 0
    next_audit: int = 0
    skipped: int = 0
    """Audits that were left out since the last."""
    next_purge: int = 0
    audited: Audited = field(default_factory=Audited)
    lag: int = 0
    """How far behind the log the newest record was when it was read. Not how old it is now: a change that waits would
    fall behind by its own waiting."""
    explicit: bool = False
    """Whether an explicit change may wait to be written."""
    isolated_until: int = 0
    """When the next isolation is over; a timer is set. 0: there is none."""
    oldest: int = 0
    """Append time of the oldest registration record that is not published yet."""

    def is_due(self, now: int) -> bool:
        """Tell whether a timer has anything to do. (Some were set for what has been done since, or for slices.)"""
        times = self.timer, self.next_audit, self.audited.slot, self.isolated_until
        return any(0 < at <= now for at in times)


class RouteFold(KeyedCoProcessFunction):
    """Inputs: ROUTE_INPUT rows, from SQL and from Python, keyed by service. Output: records of the audit log; dead
    letters on the side."""

    def __init__(
        self,
        registry: str,
        heartbeat: str,
        isolation: str,
        routes: Routes,
        connect: Callable[[], RouteStore],
        stopwatch: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._heartbeat = heartbeat
        self._isolation = isolation
        self._routes = routes
        self._connect = connect
        self._stopwatch = stopwatch
        self._clock = clock

    def open(self, runtime_context: RuntimeContext) -> None:
        spare_what_stays()
        self._state = KeyedServiceStore(runtime_context)
        self._writer = _writer(runtime_context)
        self._store = self._connect()
        self._renderer = JsonRenderer()
        self._opened: Opened | None = None
        self._announced = 0
        self._passive = False
        self._owner: tuple[Sight, int] | None = None
        """While passive: the newest sign of the owner's life, and when it was new."""
        self._looked = 0
        self._away_until = 0
        self._live: dict[str, _Live] = {}
        self._dirty: set[str] = set()
        self._protected: set[str] = set()
        self._isolations: dict[str, int] = {}
        """How many are in force, of the services that have any."""
        self._meters = Meters(
            runtime_context,
            AUDIT_PARTS,
            AUDIT_TIME,
            CHANGED,
            DIRTY,
            HEALS,
            ISOLATIONS_IN_FORCE,
            LATENCY,
            PASSIVE,
            PROTECTED,
            PUBLICATIONS,
            REFUSED,
            REGISTRATIONS_READ,
            SERVICES,
            SPARED,
        )
        self._read: Counter[str] = Counter()
        """What was folded in this turn, by op."""
        self._keys = CurrentKey(runtime_context)
        self._slices = Slices(self._clock)
        self._wake_up = WakeUp(self._clock)
        self._aside: dict[str, Aside] = {}
        """Of the services that have put anything aside."""
        self._aside_bytes = 0
        self._table_audit = TableAudit(self._routes.audit_percent, self._stopwatch, self._note_audit)

    # -- input -----------------------------------------------------------------------------------------

    def process_element1(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        yield from self._in_time(self._register(value[0], value[1], ctx), True, ctx)

    def process_element2(self, value: Row, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        explicit = value[1] in (REGISTRATIONS, ISOLATIONS)
        yield from self._in_time(self._process(value[0], value[1], bytes(value[2]), ctx), explicit, ctx)

    def _in_time(self, work: Iterator[Any], explicit: bool, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        """Do what a row asks for, note how long it takes, and see to it that slices have their turn."""
        self._slices.begin_row()
        yield from work
        self._slices.end_row(explicit=explicit)
        while self._aside_bytes > _MAX_ASIDE:
            yield from self._slice(ctx, ctx.timer_service().current_processing_time())
        if self._slices and self._wake_up.is_overdue():
            self._wake(ctx, ctx.timer_service().current_processing_time(), 1)

    def _process(self, service: str, kind: int, body: bytes, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        if kind == REGISTRATIONS:
            yield from self._register(service, body.decode(), ctx)
            return
        if kind == DECIDED:
            yield from self._note_decided(service, int(body), ctx)
            return
        if kind == ISOLATIONS:
            yield from self._isolate(service, body.decode(), ctx)
            return
        now = ctx.timer_service().current_processing_time()
        if kind == LEASES:
            transitions = decode_transitions(body)
            if self._has_to_wait(service, len(transitions), explicit=False):
                self._put_aside(service, body, len(transitions), False, ctx, now)
                return
            fold, live = self._turn(service, ctx)
            self._fold_leases(fold, transitions)
            yield from self._conclude(service, fold, live, ctx, now)
        else:
            assert kind == WINDOW
            fold, live = self._turn(service, ctx)
            stats = self._end_window(fold, live, decode_window(body))
            yield from self._conclude(service, fold, live, ctx, now)
            self._refresh(fold.service, stats, ctx, now)
        self._save(service)

    def _note_decided(self, service: str, until: int, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        """Note how far the gate has decided. Only a service that is being compared with the store waits for that."""
        known = self._live.get(service)
        if known is not None and known.in_sync:
            known.decided = until
            return
        fold, live = self._turn(service, ctx)
        live.decided = until
        yield from self._conclude(service, fold, live, ctx, ctx.timer_service().current_processing_time())
        self._save(service)

    def _register(self, service: str, column: str, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        now = ctx.timer_service().current_processing_time()
        count = column.count(ENTRY) + 1
        is_late = now - append_time(column) > _MAX_LAG_MS and self._aside_bytes < _MAX_ASIDE // 2
        # Behind a late one are more, and to read them is cheaper than to fold it.
        are_many = is_late and self._slices.note_backlog()
        if (are_many or self._has_to_wait(service, count, explicit=True)) and (
            service in self._live or any(self._readable(service, [r])[0] for r in records(column))
        ):
            self._put_aside(service, column.encode(), count, True, ctx, now)
            return
        readable, refusals = self._readable(service, records(column))
        yield from refusals
        if readable:  # A service is known by what can be read of it.
            fold, live = self._turn(service, ctx)
            yield from self._fold(fold, live, readable, now)
            yield from self._conclude(service, fold, live, ctx, now)
            self._save(service)

    def _isolate(self, service: str, column: str, ctx: KeyedCoProcessFunction.Context) -> Iterator[Any]:
        """Fold isolations. They need not wait for registrations that were put aside: neither needs the other first."""
        now = ctx.timer_service().current_processing_time()
        fold, live = self._turn(service, ctx)
        for record in records(column):
            try:
                word = _decode_isolation(record, fold.service)
            except DecodeError as error:
                yield self._refuse(record, error, self._isolation)
                continue
            at, partition, offset = word.stamp
            recent = now - at < _ANSWER_MS
            live.explicit = True
            fold.apply(word, Cause(self._isolation, partition, offset), answer=recent, now=now)
        self._await_end(live, ctx)
        yield from self._conclude(service, fold, live, ctx, now)
        self._save(service)

    def _turn(self, service: str, ctx: KeyedCoProcessFunction.Context) -> tuple[ServiceFold, _Live]:
        self._state.turn_to(service)
        fold = ServiceFold(ServiceKey.parse(service), self._state, self._renderer)
        live = self._touch(service, fold, ctx)
        if self._state.isolations:
            fold.end_isolations(ctx.timer_service().current_processing_time(), self._isolation)
            self._await_end(live, ctx)
        return fold, live

    def _await_end(self, live: _Live, ctx: KeyedCoProcessFunction.Context) -> None:
        """Come back when the next isolation is over, whatever else happens until then."""
        end = self._state.isolations.next_end or 0
        if end and end != live.isolated_until:
            ctx.timer_service().register_processing_time_timer(end)
        live.isolated_until = end

    def _conclude(
        self, service: str, fold: ServiceFold, live: _Live, ctx: KeyedCoProcessFunction.Context, now: int
    ) -> Iterator[Any]:
        self._note_folded(live, now)
        yield from self._publish(service, fold, ctx, now)

    def _note_folded(self, live: _Live, now: int) -> None:
        for op, n in self._read.items():  # Each call of Java may have to wait for other threads of Python.
            self._meters.count(REGISTRATIONS_READ, op, n)
        self._read.clear()
        live.lag = max(0, min(now - self._state.header.event_time, _MAX_LAG_MS))

    def _readable(
        self, service: str, some: list[Record]
    ) -> tuple[list[tuple[RegistrationEvent, Record]], Iterator[Any]]:
        """Return what can be read, and the dead letters of the rest; they count when they are taken."""
        events, refused = [], []
        for record in some:
            try:
                events.append((_decode(record, service), record))
            except DecodeError as error:
                refused.append((record, error))
        return events, (self._refuse(record, error) for record, error in refused)

    def _fold(
        self, fold: ServiceFold, live: _Live, events: list[tuple[RegistrationEvent, Record]], now: int
    ) -> Iterator[Any]:
        for event, record in events:
            self._read[event.op.value if isinstance(event, InstanceEvent) else "set"] += 1
            at, partition, offset = event.stamp
            recent = now - at < _ANSWER_MS
            verdict = fold.apply(event, Cause(self._registry, partition, offset), answer=recent)
            live.explicit = True
            if recent and verdict.applied:
                live.oldest = min(live.oldest or at, at)
            if verdict.dead:
                yield self._refuse(record, DecodeError(verdict.reason))

    def _fold_leases(self, fold: ServiceFold, transitions: list[LeaseTransition]) -> None:
        for transition in transitions:
            fold.apply(transition, self._cause(transition))

    def _has_to_wait(self, service: str, count: int, *, explicit: bool) -> bool:
        """Tell whether so many records or leases of a service are put aside.

        That is also so when something about the service waits, which what comes later must not overtake: of an instance
        that is not registered yet there is nothing to update, and a table's position covers all leases until then.
        """
        if count > _AT_ONCE or not self._slices.has_room(explicit=explicit):
            return True
        if service in self._live:
            return service in self._aside
        return bool(list(self._state.journal.get() or ()))

    def _put_aside(
        self, service: str, row: bytes, count: int, explicit: bool, ctx: KeyedCoProcessFunction.Context, now: int
    ) -> None:
        """Keep what a row carries, so many records or leases, for slices of its own."""
        if service not in self._live:
            self._turn(service, ctx)
        self._state.journal.add(row)
        if service not in self._aside:
            self._aside[service] = Aside()
        self._aside[service].add(row)
        self._aside_bytes += len(row)
        self._slices.add(service, count, explicit=explicit)
        self._wake(ctx, now, 1)

    def _take_up(self, service: str, ctx: KeyedCoProcessFunction.Context, now: int) -> None:
        """Go on with what a former task has put aside."""
        rows = [bytes(row) for row in self._state.journal.get() or ()]
        if rows:
            aside = self._aside[service] = Aside(rows)
            self._aside_bytes += aside.size
            self._slices.add(service, aside.count(), explicit=aside.explicit)
            self._wake(ctx, now, 1)

    def _wake(self, ctx: KeyedCoProcessFunction.Context, now: int, wait_ms: int) -> None:
        """Have the next slice begin after so long, unless a timer is set."""
        if self._wake_up.is_overdue():
            ctx.timer_service().register_processing_time_timer(self._wake_up.set(now, wait_ms))

    def _slice(self, ctx: KeyedCoProcessFunction.Context, now: int) -> Iterator[Any]:
        """Do what was put aside by those whose turn it is. The current key is that of the last one afterwards."""
        self._slices.begin()
        while True:
            service = self._slices.next()
            self._keys.turn_to(self._live[service].key)
            fold, live = self._turn(service, ctx)
            if service in self._aside:
                yield from self._fold_aside(service, fold, live, now)
            yield from self._come_back(service, fold, live, ctx, now)
            self._slices.end_turn(service)
            if not self._slices or self._slices.is_over():
                break
        self._slices.end()

    def _fold_aside(self, service: str, fold: ServiceFold, live: _Live, now: int) -> Iterator[Any]:
        """Fold some of what a service has put aside."""
        aside = self._aside[service]
        folded, size = 0, aside.size
        while aside and not (folded and self._slices.is_over()):
            some = aside.take(_AT_ONCE)
            readable, refusals = self._readable(service, [item for item in some if isinstance(item, Record)])
            yield from refusals
            yield from self._fold(fold, live, readable, now)
            self._fold_leases(fold, [item for item in some if isinstance(item, LeaseTransition)])
            folded += len(some)
        self._aside_bytes -= size - aside.size
        if aside:
            self._slices.add(service, -folded, explicit=aside.explicit)
            left = aside.shorter_journal()
            if left:
                self._state.journal.update(left)
        else:
            self._state.journal.clear()
            del self._aside[service]
        self._note_folded(live, now)

    def _refuse(self, record: Record, why: DecodeError, topic: str = "") -> tuple[OutputTag, Row]:
        self._meters.count(DEAD_LETTERS, why.reason)
        _, partition, offset = record.stamp
        topic = topic or self._registry
        return dead_letter(topic, partition, offset, why.reason, record.key, record.body, why.detail)

    def _end_window(self, fold: ServiceFold, live: _Live, window: ServiceWindow) -> WindowStats:
        """Fold a window: weights that follow the load are pending afterwards. Return what readers are told of it."""
        leased = live.leased.read_on()
        if leased is None:
            return WindowStats.of(window, drift=None)
        fold.end_window(window, leased)
        return WindowStats.of(window, drift=fold.drift(window, leased))

    def _cause(self, transition: LeaseTransition) -> Cause:
        """Return the beat behind a renewal or reported health; for what the gate decides, which no record caused, the
        registration."""
        if transition.fact in (LeaseFact.RENEWED, LeaseFact.HEALTH):
            return Cause(self._heartbeat, transition.stamp.partition, transition.stamp.offset)
        return Cause(self._registry, transition.generation.partition, transition.generation.offset)

    def on_timer(self, timestamp: int, ctx: KeyedCoProcessFunction.OnTimerContext) -> Iterator[Any]:
        service = ctx.get_current_key()
        # A clock that was set back must not make a timer that has fired look like one that is still to come.
        now = max(timestamp, ctx.timer_service().current_processing_time())
        known = self._live.get(service)
        if known is not None:
            self._skip_audit(known, ctx, now)
        if known is None or known.is_due(now):
            explicit = known is not None and (known.explicit or 0 < known.isolated_until <= now)
            if known is None or self._slices.has_room(explicit=explicit):
                self._slices.begin_row()
                fold, live = self._turn(service, ctx)
                yield from self._come_back(service, fold, live, ctx, now)
                self._slices.end_row(explicit=explicit)
            else:
                # The slice may come at an earlier time, if the clock was set back.
                known.timer = 0 if known.timer <= now else known.timer
                self._slices.add(service, 1, explicit=explicit)
                self._wake(ctx, now, 1)
        if self._wake_up.fires(now):
            wait_ms = self._slices.wait_ms() if self._slices else 0
            if self._slices and not wait_ms:
                yield from self._slice(ctx, now)
            if self._slices:
                # Not for all of a long wait: what it depends on may be over sooner.
                wait_ms = max(1, min(wait_ms, SLICE_MS))
                self._wake(ctx, max(now, ctx.timer_service().current_processing_time()), wait_ms)

    def _come_back(
        self, service: str, fold: ServiceFold, live: _Live, ctx: KeyedCoProcessFunction.Context, now: int
    ) -> Iterator[Any]:
        """Do whatever is due of a service by now."""
        if live.timer <= now:
            live.timer = 0
        self._skip_audit(live, ctx, now)
        if now >= live.next_audit:
            self._await_audit(live, ctx, now)
            live.skipped = 0
            live.leased.read_on()
            self._table_audit.begin(live.audited, now)
            if now >= live.next_purge:
                live.next_purge = now + _PURGE_MS
                fold.purge(self._state.header.event_time)
        self._audit(fold, live, ctx, now)
        yield from self._publish(service, fold, ctx, now)
        self._save(service)

    def _skip_audit(self, live: _Live, ctx: KeyedCoProcessFunction.Context, now: int) -> None:
        """Leave an audit out if there is more to do than passes at once: a few in a row, and none of a table that may
        have to be written anew."""
        is_ours = self._opened is not None and live.in_sync and live.epoch == self._opened.epoch
        skips = (is_ours or self._passive) and live.skipped < _AUDITS_SKIPPED
        if now >= live.next_audit and self._slices and skips:
            live.skipped += 1
            self._await_audit(live, ctx, now)

    def _await_audit(self, live: _Live, ctx: KeyedCoProcessFunction.Context, now: int) -> None:
        # Never quite the same, so that services that came together do not stay together.
        live.next_audit = now + int(self._routes.audit_ms * random.uniform(*_AUDIT_JITTER))
        ctx.timer_service().register_processing_time_timer(live.next_audit)
        self._look(ctx, now)

    def _save(self, service: str) -> None:
        if bool(self._state.pending) != (service in self._dirty):
            (self._dirty.add if self._state.pending else self._dirty.discard)(service)
            self._meters.set(DIRTY, len(self._dirty))
        is_protected = self._state.header.marks.protected
        if is_protected != (service in self._protected):
            (self._protected.add if is_protected else self._protected.discard)(service)
            self._meters.set(PROTECTED, len(self._protected))
        in_force = len(self._state.isolations.in_force) if self._state.isolations else 0
        if in_force != self._isolations.get(service, 0):
            self._isolations[service] = in_force
            self._meters.set(ISOLATIONS_IN_FORCE, sum(self._isolations.values()))
        self._state.save()

    def _touch(self, service: str, fold: ServiceFold, ctx: KeyedCoProcessFunction.Context) -> _Live:
        live = self._live.get(service)
        if live is None:
            now = ctx.timer_service().current_processing_time()
            live = self._live[service] = _Live(
                self._keys.get(), now - max(self._routes.coalesce_ms, _MAX_LAG_MS), LeasedTable(fold.leased_routes())
            )
            if not self._state.header.revision:
                live.leased.read_on()  # Nothing was published yet, so nothing takes long.
            # Spread over the period, so that many services do not ask at the same moment.
            live.next_audit = now + 1 + hash(service) % self._routes.audit_ms
            live.next_purge = now + 1 + hash(service) % _PURGE_MS
            ctx.timer_service().register_processing_time_timer(live.next_audit)
            self._meters.set(SERVICES, len(self._live))
            self._take_up(service, ctx, now)
        return live

    # -- output ----------------------------------------------------------------------------------------

    def _publish(self, service: str, fold: ServiceFold, ctx: KeyedCoProcessFunction.Context, now: int) -> Iterator[Any]:
        live = self._touch(service, fold, ctx)
        if self._passive:
            return
        if now < max(self._away_until, live.not_before):
            self._later(ctx, live, now, max(self._away_until, live.not_before))
            return
        try:
            if self._opened is None:
                self._take_over(now)
                if self._passive:
                    return
            assert self._opened is not None
            yield from self._announce(now)
            if live.epoch != self._opened.epoch:
                live.in_sync, live.epoch = False, self._opened.epoch
                live.audited.stored = None
            if not live.in_sync and service in self._aside:
                return  # A slice of its own comes back to it.
            if not live.in_sync and not self._compare(fold, live, now):
                live.not_before = now + self._routes.settle_ms
                self._later(ctx, live, now, live.not_before)
                return
            if not self._state.pending:
                live.explicit = False
                return
            # Who is a second behind the log gains nothing by writing each record at once, and catches up sooner by
            # writing each service less often.
            live.wrote = min(live.wrote, now)  # The clock may have been set back.
            ready = live.wrote + max(self._routes.coalesce_ms, live.lag)
            if now < ready:
                self._later(ctx, live, now, ready)
                return
            yield from self._write(fold, live, ctx, now)
            live.refusals = 0
            live.explicit = live.explicit and bool(self._state.pending)
        except StoreUnavailable as error:
            self._is_away(ctx, error)
            self._later(ctx, live, now, self._away_until)
        except (PublicationRefused, ValueError) as error:
            live.refusals += 1
            self._meters.count(REFUSED, "refused")
            live.not_before = now + min(self._routes.retry_ms << min(live.refusals, 10), _MAX_REFUSAL_MS)
            log.error("service=%s cannot be published, its changes wait in state: %s", service, error)
            self._later(ctx, live, now, live.not_before)

    def _write(self, fold: ServiceFold, live: _Live, ctx: KeyedCoProcessFunction.Context, now: int) -> Iterator[Any]:
        assert self._opened is not None
        plan = fold.plan()
        for _ in range(_MAX_SNAPSHOTS):
            if plan is None:
                return
            epoch = self._opened.epoch
            # Until the answer is here nobody knows what the store holds.
            stored, live.audited.stored = live.audited.stored, None
            outcome = self._store.publish(plan.publication, epoch, now)
            if isinstance(outcome, Written):
                fold.done(plan)
                live.audited.stored = stored
                live.audited.wrote(plan.publication, epoch)
                live.leased.note(plan)
                self._note_written(plan.publication, live, ctx)
                if plan.spared:
                    self._meters.count(SPARED, n=plan.spared)
                live.wrote = now
                key = str(plan.publication.service).encode()
                for record in encode_route_changes(plan.publication, epoch):
                    yield Row(key, record)
                return
            self._meters.count(REFUSED, _WHY[type(outcome)])
            if isinstance(outcome, NeedSnapshot):
                plan = fold.plan(above=max(outcome.stored_revision, 1))
            elif (
                isinstance(outcome, NotOpen)
                or outcome.epoch < epoch
                or outcome.owner == self._writer
                or outcome.owner == NOBODY
            ):
                # Wiped, or back from an older copy that remembers an earlier writer, or another subtask of ours found
                # that first, or somebody wrote a higher epoch into this table: it is ours to take again, and every
                # service has to be compared with it.
                scribbled = isinstance(outcome, Fenced) and outcome.owner == NOBODY
                self._take_over(now, above=outcome.epoch if scribbled else 0)
                if self._passive:
                    return
                yield from self._announce(now)
                live.epoch = self._opened.epoch
                self._state.pending.snapshot = True
                plan = fold.plan()
            else:
                self._refused(outcome)
                return
        raise StoreUnavailable("somebody else writes this service; trying again later")

    def _refresh(self, service: ServiceKey, stats: WindowStats, ctx: KeyedCoProcessFunction.Context, now: int) -> None:
        """Write a window down if that can be done now; if not, the next one is newer anyway."""
        live = self._live[str(service)]
        if self._passive or self._opened is None or not live.in_sync or now < max(self._away_until, live.not_before):
            return
        try:
            self._store.refresh(service, stats, self._opened.epoch)  # A refusal is dealt with by the next change.
        except StoreUnavailable as error:
            self._is_away(ctx, error)
        except PublicationRefused as error:
            log.error("service=%s: its window cannot be written: %s", service, error)

    def _note_written(self, publication: Publication, live: _Live, ctx: KeyedCoProcessFunction.Context) -> None:
        self._meters.count(PUBLICATIONS, publication.op.value)
        if publication.routes:
            self._meters.count(CHANGED, n=len(publication.routes))
        if live.oldest:
            self._meters.observe(LATENCY, max(0, ctx.timer_service().current_processing_time() - live.oldest))
            live.oldest = 0

    def _note_audit(self, seconds: float) -> None:
        self._meters.count(AUDIT_PARTS)
        self._meters.count(AUDIT_TIME, n=int(seconds * 1_000_000))

    def _announce(self, now: int) -> Iterator[Row]:
        """Tell the audit log, before the first record of an epoch, who writes from here on."""
        assert self._opened is not None
        if self._announced != self._opened.epoch:
            self._announced = self._opened.epoch
            yield Row(b"_restart", encode_restart(self._writer, self._opened.epoch, now))

    def _take_over(self, now: int, above: int = 0) -> None:
        opened = self._store.open(self._writer, now, above)
        if isinstance(opened, Fenced):
            self._refused(opened)
            return
        self._opened = opened
        self._looked = now
        log.info("writing route tables, epoch=%d generation=%s", opened.epoch, opened.generation)

    def _refused(self, refusal: Fenced) -> None:
        """Stop this task when a later attempt of our job writes; fall silent when another job does."""
        if refusal.owner.job_id == self._writer.job_id:
            raise FencedError(
                f"attempt {refusal.owner.attempt} of this job writes the tables now (epoch {refusal.epoch}), "
                f"this is attempt {self._writer.attempt}: stopping"
            )
        self._passive, self._owner = True, None
        self._meters.set(PASSIVE, 1)
        log.error(
            "job %s took over the tables (epoch %d); this job (%s) is passive while that lives: stop one of the two",
            refusal.owner.job_id,
            refusal.epoch,
            self._writer.job_id,
        )

    # -- comparing with the store ----------------------------------------------------------------------

    def _compare(self, fold: ServiceFold, live: _Live, now: int) -> bool:
        """Compare state and store after a start, and tell whether this service may be published."""
        header, pending = self._state.header, self._state.pending
        stored = self._store.meta(fold.service)
        if stored is None:
            pending.snapshot = pending.snapshot or header.revision > 0
        elif stored.revision != header.revision or stored.digest != format_digest(header.digest):
            if not self._caught_up(fold, live, stored, now):
                return False
            pending.snapshot = True
        elif stored is not None:
            live.audited.stored = replace(stored, endpoints=header.endpoints)
        live.in_sync = True
        live.caught_up, live.give_up, live.settled = None, 0, 0
        return True

    def _caught_up(self, fold: ServiceFold, live: _Live, stored: StoredMeta, now: int) -> bool:
        """Tell whether the log has brought us to what the store shows, or nothing more is to be expected of it."""
        position, goal = self._state.header.position.decided(live.decided), _position(stored)
        if not position.reaches(goal):
            way = position.on_the_way_to(goal)
            if way != live.caught_up:
                live.caught_up, live.give_up = way, now + self._routes.catch_up_ms
            live.settled = 0
            if now < live.give_up:
                return False
            log.error(
                "service=%s: the log stops at %s, the store shows %s; publishing what the log says",
                fold.service,
                position,
                stored.position,
            )
            return True
        # Reached, but records of other partitions with the same time may still be on their way.
        live.settled = live.settled or now + self._routes.settle_ms
        return now >= live.settled

    def _audit(self, fold: ServiceFold, live: _Live, ctx: KeyedCoProcessFunction.Context, now: int) -> None:
        """Compare a part of the table with what was written, when its turn has come; ask for a snapshot if it differs.

        The cause named is the newest registration record: the table that is restored is the one it made.
        """
        if self._opened is None or self._passive or now < max(self._away_until, live.not_before):
            return
        try:
            found = self._table_audit.step(self._store, fold.service, live.audited, now)
        except StoreUnavailable as error:
            self._is_away(ctx, error)
            return
        if live.audited.slot:
            ctx.timer_service().register_processing_time_timer(live.audited.slot)
        if found:
            self._meters.count(HEALS, found)
            log.warning("service=%s is damaged in the store (%s): writing it again", fold.service, found)
            fold.ask_for_snapshot(Cause(self._registry, *self._state.header.position.registry[1:]))

    def _look(self, ctx: KeyedCoProcessFunction.Context, now: int) -> None:
        """Notice a wiped store, by its generation, which is another one or none; show that we live, or, as the passive
        one, notice that the owner does not."""
        if now < max(self._looked + _LOOK_MS, self._away_until) or not (self._opened or self._passive):
            return
        self._looked = now
        try:
            if self._passive:
                self._look_for_owner(self._store.look(), now)
            elif self._opened and self._store.look(self._opened.epoch).generation != self._opened.generation:
                log.warning("the store was wiped: writing every table again")
                self._opened = None
        except StoreUnavailable as error:
            self._is_away(ctx, error)

    def _look_for_owner(self, sight: Sight, now: int) -> None:
        if self._owner is None or sight != self._owner[0]:
            self._owner = sight, now
        elif now - self._owner[1] > _SILENT_OWNERS * self._routes.audit_ms:
            log.warning("the job that owned the tables (epoch %d) shows no sign of life: taking over", sight.epoch)
            self._passive, self._opened = False, None
            self._meters.set(PASSIVE, 0)

    def _is_away(self, ctx: KeyedCoProcessFunction.Context, error: StoreUnavailable) -> None:
        """Leave the store alone for a while: one that does not even refuse costs a time-out per question, and who
        found out asked for all services."""
        self._away_until = ctx.timer_service().current_processing_time() + self._routes.retry_ms
        self._meters.count(REFUSED, "unavailable")
        log.warning("store away, changes wait in state: %s", error)

    def _later(self, ctx: KeyedCoProcessFunction.Context, live: _Live, now: int, at: int) -> None:
        """Come back at `at`. An earlier timer that is already set will look at the clock again and do."""
        if not now < live.timer <= at:
            live.timer = at
            ctx.timer_service().register_processing_time_timer(at)


def _position(stored: StoredMeta) -> Position:
    try:
        return Position.parse(stored.position)
    except ValueError:
        return Position(Stamp(stored.event_time))


def _writer(context: RuntimeContext) -> WriterId:
    """Return which attempt of which job this is.

    In thread mode PyFlink 2.3's own accessors raise AttributeError; the wrapped Java context has them.
    """
    java: Any = context._runtime_context  # type: ignore[attr-defined]
    return WriterId(str(java.getJobInfo().getJobId()), int(java.getTaskInfo().getAttemptNumber()))


def _decode_isolation(record: Record, service: ServiceKey) -> Isolation:
    """Read a record about `service`, or about a node on which it has instances."""
    word = decode_isolation(record.body, record.stamp)
    if word.service not in (None, service):
        raise DecodeError("ambiguous-service", "it was sent to another service than it is about")
    return replace(word, service=service)


def _decode(record: Record, service: str) -> RegistrationEvent:
    """Read a record that was sent to `service`."""
    event = decode_registration(record.body, record.stamp)
    if str(event.service) != service:
        raise DecodeError("ambiguous-service", "a name that is there twice; another reader would take the other one")
    return event
