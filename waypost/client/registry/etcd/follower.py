"""Keeps the feed of one service in step with etcd.

List, then watch from the revision of the list. A watch that is cut goes on from the revision it had reached; where etcd
has compacted that away meanwhile, the service is listed anew and the difference told, except to somebody who asked to
go on from an old snapshot: who wants every change has to be told that some are gone.

**An etcd that was emptied or put back to an older copy is not believed when it says that a service is gone.** Its
revision is lower than one already seen, or its cluster another: then an empty list leaves the instances last known in
place, marked stale, until somebody is registered there again; and from then on those who are not stay for `grace`, as
long as it takes them to notice that they have to register anew. Otherwise the first one back would get all calls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import groupby

from waypost.client.connection import Backoff
from waypost.client.registry.etcd.gateway import Compacted, EtcdGateway, EtcdStream, KeyValue, Listing, WatchPart
from waypost.client.registry.etcd.layouts import UNREADABLE, Layout
from waypost.client.registry.feed import Feed, ServiceSnapshot
from waypost.client.registry.instance import Instance
from waypost.client.registry.missing import Missing
from waypost.errors import RegistryUnavailable, WatchPositionLost

_log = logging.getLogger(__name__)


def position_of(cluster: str, revision: int) -> str:
    """Write a place in etcd's history: revisions of one cluster mean nothing in another."""
    return f"{cluster}.{revision}"


def decode_all(layout: Layout, service: str, found: Iterable[KeyValue]) -> dict[str, Instance | None]:
    """Return id → instance, None for one that is deleted or cannot be read. Keys below an instance are nobody's."""
    instances: dict[str, Instance | None] = {}
    for item in found:
        if "/" in item.key.removeprefix(f"{layout.prefix}{service}/"):
            continue
        id = layout.id_of(item.key)
        instances[id] = None
        if item.value is None:
            continue
        try:
            instances[id] = layout.decode(service, item.key, item.value)
        except UNREADABLE as error:
            _log.warning("%r in etcd cannot be read and is left out: %s", item.key, error)
    return instances


class Follower:
    """See the module; one thread and one connection per watched service."""

    def __init__(
        self,
        gateway: EtcdGateway,
        layout: Layout,
        service: str,
        *,
        after: ServiceSnapshot | None = None,
        grace: timedelta = timedelta(seconds=30),
        backoff: Backoff | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.feed = Feed(service, seed=after)
        self._gateway = gateway
        self._layout = layout
        self._service = service
        self._prefix = f"{layout.prefix}{service}/"
        self._backoff = backoff or Backoff()
        self._now_ms = now_ms
        self._cluster, self._revision = _parsed(service, after.position) if after is not None else ("", 0)
        self._is_strict = after is not None
        self._is_listed = after is not None
        self._is_same_store = False
        self._has_begun = False
        self._stream: EtcdStream | None = None
        self._keeping = threading.Lock()
        self._missing = Missing(grace, self._keeping, self._let_go)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"etcd watch of {service}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Return when the thread has ended."""
        self._closed.set()
        with self._keeping:
            self._missing.end_grace()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if self._is_listed and not self._is_same_store:
                    self._check_store()
                if not self._is_listed:
                    self._list()
                if self._is_listed:
                    self._follow()
            except WatchPositionLost as error:
                self.feed.fail(error)
                return
            except RegistryUnavailable as error:
                if self._closed.is_set():
                    return
                if not self._backoff.failures:
                    _log.warning("%s: serving what was last known of %s", error, self._service)
                self.feed.mark_stale(self._now_ms())
                self._is_same_store = False
                # etcd says right at the beginning that history is gone; who got past it needs it from now on only.
                self._is_strict = self._is_strict and not self._has_begun
                self._closed.wait(self._backoff.next().total_seconds())

    def _check_store(self) -> None:
        """After a cut, and before going on from an old snapshot: is the revision reached one of this etcd?"""
        listing = self._gateway.list(self._prefix, keys_only=True)
        self._is_same_store = self._is_listed = not self._is_older(listing)
        if self._is_strict and not self._is_listed:
            position = position_of(self._cluster, self._revision)
            raise WatchPositionLost(self._service, position, "it is of another etcd, or of a copy put back since")

    def _list(self) -> None:
        listing = self._gateway.list(self._prefix)
        found = {i: n for i, n in decode_all(self._layout, self._service, listing.found).items() if n is not None}
        known = self.feed.snapshot().instances
        if known and not found and self._is_older(listing):
            _log.warning(
                "etcd is emptied or older (revision %d, was %d) and has nobody of %s: keeping %d instances",
                listing.revision, self._revision, self._service, len(known),
            )  # fmt: skip
            with self._keeping:
                self._missing.end_grace()
                self.feed.mark_stale(self._now_ms())
            self._closed.wait(self._backoff.next().total_seconds())
            return
        with self._keeping:
            self._missing.note(found, known if self._is_older(listing) else None)
            self._cluster, self._revision = listing.cluster, listing.revision
            stale_at = self._now_ms() if self._missing else None
            position = position_of(listing.cluster, listing.revision)
            self.feed.load({**self._missing.instances, **found}, position, stale_at=stale_at)
            self._is_listed = self._is_same_store = True
            self._missing.begin_grace()

    def _let_go(self, gone: list[str]) -> None:
        """Believe that those who have not come back are gone."""
        if not self._closed.is_set():
            _log.warning("%d instances of %s have not come back to etcd", len(gone), self._service)
            self.feed.apply(dict.fromkeys(gone), position=position_of(self._cluster, self._revision))
            if self._is_same_store:
                self.feed.mark_fresh()

    def _is_older(self, listing: Listing) -> bool:
        return listing.cluster != self._cluster or listing.revision < self._revision

    def _follow(self) -> None:
        self._stream = self._gateway.open_watch(self._prefix, self._revision + 1)
        if self._closed.is_set():
            return
        for part in self._stream.parts():
            if isinstance(part, Compacted):
                if self._is_strict:
                    position = position_of(self._cluster, self._revision)
                    raise WatchPositionLost(
                        self._service, position, f"etcd has compacted everything before revision {part.revision}"
                    )
                self._is_listed = False
                return
            self._fold(part)
        if not self._closed.is_set():
            raise RegistryUnavailable("a watch of etcd ended")

    def _fold(self, part: WatchPart) -> None:
        self._backoff.reset()
        self._has_begun = True
        self._is_strict = self._is_strict and not part.changes
        # One revision at a time: a position must not lie in the middle of a transaction.
        with self._keeping:
            for revision, changes in groupby(part.changes, key=lambda change: change.revision):
                self._revision = revision
                found = decode_all(self._layout, self._service, changes)
                self._missing.note(found)
                self.feed.apply(found, position=position_of(self._cluster, revision))
            if not self._missing:
                self.feed.mark_fresh()


def _parsed(service: str, position: str) -> tuple[str, int]:
    cluster, _, revision = position.rpartition(".")
    if not cluster or not revision.isdecimal():
        raise WatchPositionLost(service, position, "it is no position of etcd")
    return cluster, int(revision)
