"""The consumer's copy of the provider's route table, kept up to date by a thread of its own.

Looking at it never waits. When Redis is away the copy stays as last known and says that it is stale; when Redis was
never there it is empty and stale, and fills by itself.
"""

from __future__ import annotations

import threading

import structlog

from waypost.client.copies import EndpointEvent, TableView
from waypost.client.routes import BLOCK, RouteReader
from waypost.model.names import ServiceKey


class KnownRoutes:
    """One watched table."""

    def __init__(self, reader: RouteReader, service: ServiceKey) -> None:
        self.service = service
        self._reader = reader
        self._reader.watch(service)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"routes of {service}", daemon=True)
        self._log = structlog.stdlib.get_logger().bind(provider=str(service))

    def table(self) -> TableView:
        """Return the copy as it is."""
        return self._reader.table(self.service)

    def start(self) -> None:
        """Begin to follow, and return at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop following; the copy stays as it is."""
        self._stopped.set()
        self._reader.close()
        self._thread.join()

    def _follow(self) -> None:
        was_stale = True
        while not self._stopped.is_set():
            events = self._reader.poll(BLOCK)
            table = self.table()
            for event in events:
                self._tell(event)
            if table.stale != was_stale:
                was_stale = table.stale
                tell = self._log.warning if was_stale else self._log.info
                tell("routes-stale" if was_stale else "routes-confirmed", endpoints=len(table.endpoints))

    def _tell(self, event: EndpointEvent) -> None:
        self._log.info(
            "route-changed",
            change=event.kind.value,
            endpoint=event.instance,
            address=event.endpoint.address,
            port=event.endpoint.port,
            revision=event.revision,
        )
