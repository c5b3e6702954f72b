"""Many symptoms with one cause on Flink: one key that sees every alert and every table.

It stands before the decisions, so a target hears of an alert first, and then that it is part of something larger; what
that is comes as an alert of its own. The tables are kept here once more than in the budget: it has to know those who
have just left, and of what version they were.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import orjson
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext

from jobs.operators.kept import Kept
from jobs.operators.keyed_state import StateMap
from jobs.operators.meters import Meters
from jobs.operators.one_timer import OneTimer
from schemas.repair_types import ALERT, PART, carried, received
from waypost.errors import DecodeError
from waypost.metrics import DEAD_LETTERS, REPAIR_INCIDENTS
from waypost.model.census import Census, InstanceId, Known
from waypost.model.events import LeaseFact
from waypost.model.impact import Place
from waypost.model.incident import Symptom
from waypost.model.incident_fold import GATHER_MS, IncidentFold, Open, Part, Told
from waypost.model.live_tables import LiveTables
from waypost.model.names import ServiceKey
from waypost.wire.alerts import alert_key, decode_alert, encode_alert
from waypost.wire.incidents import decode_open, decode_symptom, encode_open, encode_symptom
from waypost.wire.live_tables import decode_table, encode_table, places
from waypost.wire.route_changes import ChunkJoiner, RestartMarker, RouteRecord, decode_route_change

log = logging.getLogger(__name__)

LEASE_ENDED = f"lease-{LeaseFact.LAPSED.value}"
"""The rule of a change that takes out whoever's lease has ended. Publications of one service within 50 ms are one, and
say the last rule: a deregistration among them counts as a symptom, or a lapse does not."""

RECENT_MS = 60_000
"""An end of a lease that is read later than this is history: the tables are being read again."""

_Stored = tuple[int, dict[str, Place] | None]


class IncidentStage(KeyedProcessFunction):
    """Input: REPAIR_INPUT rows of kind ALERT and CHANGE. Output: ALERT rows, those that came and those about causes,
    and PART rows."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._stored: StateMap[_Stored] = StateMap(
            runtime_context, "tables", lambda stored: encode_table(*stored), decode_table
        )
        self._symptoms: StateMap[Symptom] = StateMap(runtime_context, "symptoms", encode_symptom, decode_symptom)
        self._open: StateMap[Open] = StateMap(runtime_context, "open", encode_open, decode_open)
        self._timer = OneTimer(runtime_context)
        self._meters = Meters(runtime_context, REPAIR_INCIDENTS)
        self._joiner = ChunkJoiner()
        self._live: LiveTables | None = None
        self._gathers = False

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        now = ctx.timer_service().current_processing_time()
        live = self._load()
        if value[1] != ALERT:
            yield from self._rows(self._change(live, received(value[2]), now), now, ctx)
            return
        yield value
        yield from self._rows(self._fold.on_alert(decode_alert(received(value[2])), now), now, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        if not self._timer.fires(timestamp):
            return
        self._load()
        self._gathers = False
        now = max(timestamp, ctx.timer_service().current_processing_time())
        open_ones = self._fold.open
        before = set(open_ones)
        told = self._fold.on_time(now)
        for name in set(open_ones) - before:
            incident = open_ones[name].incident
            self._meters.count(REPAIR_INCIDENTS, incident.about.value)
            log.warning("incident %s: %s %s, %d symptoms", name, incident.about.value, incident.name,
                        len(incident.members))  # fmt: skip
        self._timer.set(self._fold.next_at(), ctx)
        yield from self._rows(told, now, ctx)

    def _rows(self, told: list[Told], now: int, ctx: Any) -> Iterator[Any]:
        for one in told:
            if isinstance(one, Part):
                yield Row(str(one.target), PART, carried(orjson.dumps((one.incident, one.fingerprints))))
                continue
            told_of = encode_alert(one)
            try:
                decode_alert(told_of)
            except DecodeError as error:
                # Made of words in registrations. Whoever decides would fail on it, again after each restart.
                log.error("an incident that cannot be told: %s", error)
                self._meters.count(DEAD_LETTERS, error.reason)
                continue
            yield Row(alert_key(one).decode(), ALERT, carried(told_of))
        if self._fold.unjudged_since and not self._gathers:
            self._gathers = True
            self._timer.set(now + GATHER_MS, ctx)

    # --- the tables ---------------------------------------------------------------------------

    def _change(self, live: LiveTables, value: bytes, now: int) -> list[Told]:
        try:
            read = decode_route_change(value)
            record = None if isinstance(read, RestartMarker) else self._joiner.add(read)
            into = places(record) if record is not None else {}
        except DecodeError as error:
            self._meters.count(DEAD_LETTERS, error.reason)
            return []
        if record is None:
            return []
        before = dict(live.tables.get(record.service, {}))
        if not live.fold(record.service, record.op, record.revision, record.base, into, record.delta.delete):
            return []
        after = live.tables.get(record.service)
        self._stored[str(record.service)] = record.revision, after
        self._stored.forget()
        return self._moved(record, before, after or {}, now)

    def _moved(self, record: RouteRecord, before: dict[str, Place], after: dict[str, Place], now: int) -> list[Told]:
        """Count who came and who left, and fold what that says."""
        told: list[Told] = []
        ended = record.rule == LEASE_ENDED and now - record.event_time <= RECENT_MS
        for name in before.keys() - after.keys():
            subject = InstanceId(record.service, name)
            if ended and name in record.delta.delete:
                self._census.lapse(subject, record.event_time)
                self._fold.on_lapse(subject, min(record.event_time, now))
            else:
                self._census.leave(subject)
        for name, place in after.items():
            if before.get(name) != place:
                subject = InstanceId(record.service, name)
                self._census.join(subject, _known(place))
                if name not in before:
                    told += self._fold.on_return(subject)
        return told

    def _load(self) -> LiveTables:
        if self._live is None:
            self._live, self._census = LiveTables(), Census()
            for name in self._stored:
                service = ServiceKey.parse(name)
                self._live.load(service, *self._stored[name])
                for instance, place in self._live.tables.get(service, {}).items():
                    self._census.join(InstanceId(service, instance), _known(place))
            self._stored.forget()
            self._fold = IncidentFold(self._census, Kept(self._symptoms), Kept(self._open))
        return self._live


def _known(place: Place) -> Known:
    return Known(place.node, place.zone, place.version, place.pod)
