"""Local lookups that outlive the registry: what was last known, and whether it may be out of date.

A thread per service follows the registry and replaces one immutable table; a lookup is one read of a dictionary and
never waits, fails or sees half of a change. With a `file`, tables survive a restart of the program too: they are served
from the file, marked stale, until the registry speaks.

**An empty table is only believed from a registry that was followed all the way there.** A registry that knows nothing
of what was last known - emptied, put back to an older copy, or not the same one - is not believed when it says that
nobody is left; the table stays, marked stale, until somebody is there again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from waypost.client.connection import Backoff
from waypost.client.registry.feed import POLL, ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance, checked_service
from waypost.client.registry.interface import Discoverer
from waypost.client.snapshot_file import read_snapshots, write_snapshots
from waypost.errors import RegistryUnavailable, UnknownService, WatchPositionLost, WaypostError

_log = logging.getLogger(__name__)

SAVE = timedelta(seconds=1)
"""How long a change may be missing in the file; a rolling deployment must not write it a thousand times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The callable instances of a service, in order of their ids. Never modified.

    `stale_since` (epoch ms) is when the registry last confirmed it, for one from a file when that was written; None: it
    confirms it now.
    """

    service: str
    instances: tuple[Instance, ...]
    stale_since: int | None

    @property
    def is_stale(self) -> bool:
        """Whether it may be out of date."""
        return self.stale_since is not None

    def age(self, now_ms: int) -> timedelta:
        """Return for how long nothing has confirmed it; zero for one that is not stale."""
        return timedelta(0) if self.stale_since is None else timedelta(milliseconds=max(0, now_ms - self.stale_since))


class ServiceCache:
    """See the module. Safe to share between threads. Does not own the discoverer."""

    def __init__(
        self,
        discoverer: Discoverer,
        *,
        file: Path | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._discoverer = discoverer
        self._file = file
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._tables: dict[str, Table] = {}
        self._followers: dict[str, _Follower] = {}
        self._is_dirty = threading.Event()
        self._closed = threading.Event()
        self._saved = read_snapshots(file) if file is not None else {}
        self._saver = threading.Thread(target=self._save, name="saving tables", daemon=True)
        if file is not None:
            self._saver.start()

    def follow(self, *services: str, wait: timedelta = timedelta(0)) -> None:
        """Keep tables of these services; wait up to `wait` until each has been confirmed once. Raises nothing for a
        registry that is away."""
        deadline = time.monotonic() + wait.total_seconds()
        for service in services:
            checked_service(service)
            with self._lock:
                if service not in self._followers:
                    follower = _Follower(self, self._discoverer, service, self._saved.get(service), self._now_ms)
                    self._tables[service] = follower.table()
                    self._followers[service] = follower
                    follower.start()
        for service in services:
            self._followers[service].confirmed.wait(max(0.0, deadline - time.monotonic()))

    def lookup(self, service: str) -> Table:
        """Return the table as last known; never waits. Raises UnknownService for one that is not followed."""
        table = self._tables.get(service)
        if table is None:
            raise UnknownService(service, "the cache (call follow first): it")
        return table

    def close(self) -> None:
        """Stop following; save a last time. Lookups go on."""
        self._closed.set()
        self._is_dirty.set()
        with self._lock:
            followers = list(self._followers.values())
        for follower in followers:
            follower.close()
        if self._saver.is_alive():
            self._saver.join()
        self._write()

    def publish(self, table: Table, *, is_new: bool) -> None:
        """Replace a table; for followers."""
        self._tables[table.service] = table
        if is_new:
            self._is_dirty.set()

    def _save(self) -> None:
        while not self._closed.is_set():
            self._is_dirty.wait()
            self._closed.wait(SAVE.total_seconds())
            self._is_dirty.clear()
            self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        with self._lock:
            known = {service: follower.snapshot for service, follower in self._followers.items()}
        with self._saving:
            try:
                write_snapshots(self._file, {**self._saved, **known}, self._now_ms())
            except OSError as error:
                _log.warning("tables are not saved to %s: %s", self._file, error)


class _Follower:
    """Follows one service for the cache."""

    def __init__(
        self,
        cache: ServiceCache,
        discoverer: Discoverer,
        service: str,
        saved: ServiceSnapshot | None,
        now_ms: Callable[[], int],
    ) -> None:
        self.snapshot = saved or ServiceSnapshot(service=service, instances={}, position="")
        self.confirmed = threading.Event()
        self._cache = cache
        self._discoverer = discoverer
        self._service = service
        self._now_ms = now_ms
        self._backoff = Backoff()
        self._stale_since: int | None = self.snapshot.stale_since or now_ms()
        self._closed = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name=f"caching {service}", daemon=True)

    def table(self) -> Table:
        instances = tuple(instance for _, instance in sorted(self.snapshot.callable.items()))
        return Table(service=self._service, instances=instances, stale_since=self._stale_since)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._watch is not None:
            self._watch.close()
        self._thread.join()

    def _run(self) -> None:
        after = self.snapshot if self.snapshot.position else None
        while not self._closed.is_set():
            try:
                with self._discoverer.watch(self._service, after=after) as self._watch:
                    self._follow(self._watch, is_continued=after is not None or not self.snapshot.instances)
            except WatchPositionLost as error:
                _log.info("%s: following %s anew", error, self._service)
                self._mark_stale(self._now_ms())
                after = None
            except WaypostError as error:
                if not isinstance(error, RegistryUnavailable) or not self._backoff.failures:
                    _log.warning("%s is not followed, trying again: %s", self._service, error)
                self._mark_stale(self._now_ms())
                self._closed.wait(self._backoff.next().total_seconds())

    def _follow(self, watch: Watch, *, is_continued: bool) -> None:
        is_first = True
        while not self._closed.is_set():
            # The first poll only fetches what is there.
            events = watch.poll(timedelta(0) if is_first else POLL)
            is_first = False
            stale_since = watch.stale_since
            # A watch that has not heard of the registry yet has nothing to say, not even that it is stale.
            if not watch.is_loaded:
                self._mark_stale(stale_since or self._now_ms())
                continue
            if not is_continued and not watch.snapshot.instances:
                self._mark_stale(self._now_ms())
                continue
            is_continued = True
            is_new = bool(events) or watch.snapshot.position != self.snapshot.position
            has_changed = watch.snapshot.instances != self.snapshot.instances or self._stale_since != stale_since
            self.snapshot, self._stale_since = watch.snapshot, stale_since
            if has_changed:
                self._cache.publish(self.table(), is_new=is_new)
            if stale_since is None:
                self._backoff.reset()
                self.confirmed.set()

    def _mark_stale(self, since: int) -> None:
        if self._stale_since is None:
            self._stale_since = since
            self._cache.publish(self.table(), is_new=False)
