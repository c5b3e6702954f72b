"""Feeds from Waypost's route tables: one `RouteReader` and one thread for all watches of a program.

The reader follows `changes`, reads a table anew when its history is trimmed, and keeps the last known good one while
Redis is away or was emptied; see `waypost.client.routes`. Here its events become those of a registry.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

import redis

from waypost.client.connection import connect
from waypost.client.copies import EndpointEvent, EventKind, TableView
from waypost.client.follow import ChangeStream, Continuity
from waypost.client.keys import Keys
from waypost.client.registry.feed import Feed, ServiceSnapshot
from waypost.client.registry.instance import Instance
from waypost.client.routes import BLOCK, TIMEOUT, RouteReader
from waypost.errors import RegistryUnavailable, WatchPositionLost
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import Endpoint

_POSITION = re.compile(r"([^/]+)/([0-9]{1,20}-[0-9]{1,20})\Z")


def position_of(life: str, entry: str) -> str:
    """Write a place in `changes`: entries of one life of the store mean nothing in another."""
    return f"{life}/{entry}"


def instance_of(service: ServiceKey, id: str, endpoint: Endpoint) -> Instance:
    """Return a routable endpoint as an instance; the tables do not say when it last beat."""
    return Instance(
        id=id,
        name=service.service,
        address=endpoint.address,
        port=endpoint.port,
        metadata=dict(endpoint.metadata),
        weight=endpoint.weight,
        zone=endpoint.zone,
    )


def check_position(url: str, keys: Keys, after: ServiceSnapshot) -> None:
    """Return if `changes` still has everything since. Raises WatchPositionLost, RegistryUnavailable."""
    match = _POSITION.match(after.position)
    if match is None:
        raise WatchPositionLost(after.service, after.position, "it is no position of Waypost's changes")
    client = connect(url, TIMEOUT)
    try:
        stream = ChangeStream(client, keys)
        stream.life, stream.position = match.groups()
        continuity = stream.continuity()
    except (redis.RedisError, OSError) as error:
        raise RegistryUnavailable(f"looking for {after.position} in {keys.changes}: {error}") from error
    finally:
        client.close()
    if continuity is Continuity.TRIMMED:
        raise WatchPositionLost(after.service, after.position, "what came next is trimmed")
    if continuity is Continuity.REPLACED:
        raise WatchPositionLost(after.service, after.position, "the store was emptied or replaced since")


class TableFeeds:
    """See the module. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        reader_id: str | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._reader = RouteReader(url, prefix=prefix, reader_id=reader_id, now_ms=now_ms)
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._feeds: dict[ServiceKey, Feed] = {}
        self._loaded: set[ServiceKey] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def feed(self, service: ServiceKey) -> Feed:
        """Return the feed of a service; it is loaded soon."""
        with self._lock:
            if service not in self._feeds:
                self._feeds[service] = Feed(service.service)
                self._reader.watch(service)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="following route tables", daemon=True)
                self._thread.start()
            return self._feeds[service]

    def close(self) -> None:
        """Return when the thread has ended and the acknowledgements are taken back."""
        self._closed.set()
        self._reader.close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                everybody_has_been_read = len(self._loaded) == len(self._feeds)
            # A service that is new here is read by the next poll, which must not wait for anything to change first.
            events = self._reader.poll(BLOCK if everybody_has_been_read else timedelta(milliseconds=1))
            if not self._closed.is_set():
                self._fold(events)

    def _fold(self, events: Iterable[EndpointEvent]) -> None:
        position = position_of(*self._reader.place)
        with self._lock:
            feeds = dict(self._feeds)
        happened: dict[ServiceKey, list[dict[str, Instance | None]]] = {}
        for event in events:
            is_gone = event.kind is EventKind.DELETE
            instance = None if is_gone else instance_of(event.service, event.instance, event.endpoint)
            happened.setdefault(event.service, []).append({event.instance: instance})
        for service, feed in feeds.items():
            view = self._reader.table(service)
            if service not in self._loaded:
                if not view.stale:
                    feed.load(_instances(service, view), position)
                    self._loaded.add(service)
                elif self._reader.lost:
                    feed.mark_stale(self._now_ms())
                continue
            if service in happened:
                feed.apply(*happened[service], position=position)
            if view.stale:
                feed.mark_stale(view.stale_since or self._now_ms())
            else:
                feed.confirm(position)


def _instances(service: ServiceKey, view: TableView) -> dict[str, Instance]:
    return {id: instance_of(service, id, endpoint) for id, endpoint in view.endpoints.items()}
