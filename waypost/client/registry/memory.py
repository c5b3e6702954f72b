"""The fake: a registry in this process. It passes the contract of the real ones and needs nothing, so tests use it.

It has no leases: a registration stays until it is deregistered, or until a test says `expire`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from waypost.client.registry.changes import changed, checked_changes
from waypost.client.registry.feed import KEPT, Feed, ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance, checked, checked_id, checked_service
from waypost.client.registry.interface import ServiceRegistry
from waypost.errors import RegistryUnavailable, UnknownInstance, UnknownService

WHERE = "the registry in memory"


class MemoryRegistry(ServiceRegistry):
    """See the module. `failure` makes every call raise it and marks the watches stale, as an outage does."""

    def __init__(self, *, kept: int = KEPT, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._kept = kept
        self._now_ms = now_ms
        self._lock = threading.RLock()
        self._known: dict[str, dict[str, Instance]] = {}
        self._feeds: dict[str, Feed] = {}
        self._failure: RegistryUnavailable | None = None

    @property
    def failure(self) -> RegistryUnavailable | None:
        """What every call raises now."""
        return self._failure

    @failure.setter
    def failure(self, error: RegistryUnavailable | None) -> None:
        with self._lock:
            self._failure = error
            for service, feed in self._feeds.items():
                if error is not None:
                    feed.mark_stale(self._now_ms())
                else:
                    feed.load(self._known.get(service, {}))

    def register(self, instance: Instance) -> None:
        new = replace(checked(instance), last_heartbeat=self._now_ms())
        with self._lock:
            self._reach()
            self._put(new)

    def update(self, service: str, instance: str, **changes: Any) -> None:
        checked_changes(changes)
        checked_service(service)
        with self._lock:
            self._reach()
            known = self._known.get(service, {}).get(checked_id(instance))
            if known is None:
                raise UnknownInstance(service, instance, WHERE)
            self._put(changed(known, changes))

    def deregister(self, service: str, instance: str) -> None:
        checked_service(service), checked_id(instance)
        with self._lock:
            self._reach()
            self._drop(service, instance)

    def expire(self, service: str, instance: str) -> None:
        """Lose an instance as the end of its lease would."""
        with self._lock:
            self._drop(service, instance)

    def am_i_registered(self, service: str, instance: str) -> bool:
        with self._lock:
            self._reach()
            return instance in self._known.get(service, {})

    def get_service(self, service: str) -> ServiceSnapshot:
        checked_service(service)
        with self._lock:
            self._reach()
            if service not in self._known:
                raise UnknownService(service, WHERE)
            position = self._feed(service).snapshot().position
            return ServiceSnapshot(service=service, instances=dict(self._known[service]), position=position)

    def list_services(self) -> tuple[str, ...]:
        with self._lock:
            self._reach()
            return tuple(sorted(self._known))

    def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> Watch:
        checked_service(service)
        with self._lock:
            feed = self._feed(service)
        return Watch(feed, after=after, seen=None if after is None else feed.place(after.position))

    def close(self) -> None:
        pass

    def _put(self, instance: Instance) -> None:
        self._known.setdefault(instance.name, {})[instance.id] = instance
        self._feed(instance.name).apply({instance.id: instance})

    def _drop(self, service: str, instance: str) -> None:
        if self._known.get(service, {}).pop(instance, None) is not None:
            self._feed(service).apply({instance: None})

    def _feed(self, service: str) -> Feed:
        if service not in self._feeds:
            self._feeds[service] = Feed(service, kept=self._kept)
            self._feeds[service].load(self._known.get(service, {}))
            if self._failure is not None:
                self._feeds[service].mark_stale(self._now_ms())
        return self._feeds[service]

    def _reach(self) -> None:
        if self._failure is not None:
            raise self._failure
