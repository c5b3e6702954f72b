"""Back ends that cannot be followed, only asked again: a file, environment variables, DNS.

Each watched service has a thread that asks, at the times the back end chooses. An answer that fails leaves the
instances last known in place, marked stale: a zone file with an error in it must not take a service away.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from waypost.client.registry.feed import Feed, ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance, checked_service
from waypost.client.registry.interface import Discoverer
from waypost.errors import RegistryUnavailable, UnknownService, WaypostError

_log = logging.getLogger(__name__)


class PolledDiscoverer(Discoverer):
    """What these back ends share; each says how to ask."""

    where: str

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._feeds: dict[str, Feed] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = threading.Event()

    @abstractmethod
    def ask(self, service: str) -> tuple[Mapping[str, Instance] | None, timedelta]:
        """Return the instances, None for an unknown service, and when to ask again. Raises RegistryUnavailable."""

    @property
    @abstractmethod
    def retry(self) -> timedelta:
        """When to ask again after a failure."""

    def get_service(self, service: str) -> ServiceSnapshot:
        found, _ = self.ask(checked_service(service))
        if found is None:
            raise UnknownService(service, self.where)
        return replace(self._feed(service).load(found), instances=found)

    def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> Watch:
        """As the interface says; there is no history but that of this very object."""
        feed = self._feed(checked_service(service))
        with self._lock:
            if service not in self._threads:
                thread = threading.Thread(target=self._follow, args=(feed,), name=f"asking for {service}", daemon=True)
                self._threads[service] = thread
                thread.start()
        return Watch(feed, after=after, seen=None if after is None else feed.place(after.position))

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            threads = list(self._threads.values())
        for thread in threads:
            thread.join()

    def _feed(self, service: str) -> Feed:
        with self._lock:
            return self._feeds.setdefault(service, Feed(service))

    def _follow(self, feed: Feed) -> None:
        while not self._closed.is_set():
            try:
                found, pause = self.ask(feed.service)
            except RegistryUnavailable as error:
                _log.warning("%s: keeping what was last known of %s", error, feed.service)
                feed.mark_stale(self._now_ms())
                pause = self.retry
            except WaypostError as error:  # a question that is wrong stays wrong
                feed.fail(error)
                return
            else:
                feed.load(found or {})
            self._closed.wait(pause.total_seconds())
