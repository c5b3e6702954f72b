"""What a reader shows of its copies: decoded endpoints, events, and whether the copy may be out of date."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from waypost.client.table import LocalTable, Reading, Verdict
from waypost.errors import DecodeError
from waypost.model.names import ServiceKey
from waypost.model.route_table import RouteTable, diff
from waypost.wire.changes import RouteChange
from waypost.wire.endpoint import Endpoint, decode_endpoint

_log = logging.getLogger(__name__)


class EventKind(str, Enum):
    """What happened to an endpoint of a watched table."""

    ADD = "add"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointEvent:
    """One endpoint came, changed or went. For DELETE, `endpoint` is what it was."""

    kind: EventKind
    service: ServiceKey
    instance: str
    endpoint: Endpoint
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """A table as last known. `revision` is 0 when the service was never seen. `stale_since` is in epoch ms."""

    service: ServiceKey
    revision: int
    event_time: int
    endpoints: Mapping[str, Endpoint]
    exists: bool
    stale: bool = False
    stale_since: int | None = None


class Copy:
    """A `LocalTable` with its endpoints decoded. Stale until something confirms it."""

    def __init__(self, service: ServiceKey, now_ms: int) -> None:
        self.table = LocalTable(service)
        self._endpoints: Mapping[str, Endpoint] = {}
        self._stale_since: int | None = now_ms

    def offer(self, change: RouteChange, life: str) -> tuple[Verdict, list[EndpointEvent]]:
        """Fold one entry of the stream. REREAD asks the caller for `take`."""
        before = self.table.routes
        verdict = self.table.offer(change, life)
        if verdict is Verdict.APPLIED:
            return verdict, self._settle(before)
        if verdict is Verdict.IGNORED and self._stale_since is not None and change.revision == self.table.revision:
            return Verdict.REREAD, []  # the registry has caught up with a copy it was behind of
        return verdict, []

    def take(self, reading: Reading, now_ms: int) -> list[EndpointEvent]:
        """Fold what was read from the store."""
        before, service = self.table.routes, self.table.service
        verdict = self.table.take(reading)
        if verdict is Verdict.REFUSED:
            _log.warning(
                "the registry has %s at revision %d with %d endpoints, this copy is at %d with %d: keeping the copy",
                service, reading.revision, len(reading.routes), self.table.revision, len(before),
            )  # fmt: skip
            self.mark_stale(now_ms)
            return []
        return self._settle(before)

    def mark_stale(self, now_ms: int) -> None:
        """Note that nothing confirms this copy any more."""
        if self._stale_since is None:
            self._stale_since = now_ms

    def view(self) -> TableView:
        """Return the copy as it is."""
        table = self.table
        return TableView(
            service=table.service,
            revision=table.revision,
            event_time=table.event_time,
            endpoints=self._endpoints,
            exists=table.exists,
            stale=self._stale_since is not None,
            stale_since=self._stale_since,
        )

    def _settle(self, before: RouteTable) -> list[EndpointEvent]:
        self._stale_since = None
        delta = diff(before, self.table.routes)
        if not delta:
            return []
        was = self._endpoints
        now = {instance: endpoint for instance, endpoint in was.items() if instance not in delta.delete}
        changed = decode_all(self.table.service, delta.set.items())
        now.update(changed)
        for unreadable in delta.set.keys() - changed.keys():
            now.pop(unreadable, None)
        self._endpoints = now
        return list(self._events(was, now, {*delta.set, *delta.delete}))

    def _events(
        self, was: Mapping[str, Endpoint], now: Mapping[str, Endpoint], touched: set[str]
    ) -> Iterable[EndpointEvent]:
        for instance in sorted(touched):
            old, new = was.get(instance), now.get(instance)
            if new is not None:
                kind, endpoint = (EventKind.ADD if old is None else EventKind.UPDATE), new
            elif old is not None:
                kind, endpoint = EventKind.DELETE, old
            else:
                continue
            yield EndpointEvent(
                kind=kind,
                service=self.table.service,
                instance=instance,
                endpoint=endpoint,
                revision=self.table.revision,
            )


def decode_all(service: ServiceKey, entries: Iterable[tuple[str, str]]) -> dict[str, Endpoint]:
    """Decode route entries. One that cannot be read is left out and logged: no caller could use it."""
    endpoints: dict[str, Endpoint] = {}
    for instance, entry in entries:
        try:
            endpoints[instance] = decode_endpoint(entry)
        except DecodeError as error:
            _log.warning("endpoint %s of %s cannot be read: %s", instance, service, error)
    return endpoints
