"""Keeps the feed of one service in step with Kubernetes.

List, then watch from the version of the list. The server ends a watch every few minutes, and a network cuts one: it
goes on from the version reached. Where the server has no history from there (410), or ends a watch with another error,
the service is listed anew and the difference told, except to somebody who asked to go on from an old snapshot: who
wants every change has to be told that some are gone.

**An API server that was emptied or put back to an older copy is not believed when it says that a service is gone.** Its
version is lower than one already seen: then an empty list leaves the instances last known in place, marked stale, until
somebody is there again; and from then on those who are not stay for `grace`, as pods need time to be ready again. A
watch from a version that such a store has not reached is silent, so its version is asked once the watch is open. One
that is put back later is noticed when the API server ends the watch, which restoring a store asks for anyway.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from waypost.client.connection import Backoff
from waypost.client.registry.feed import Feed, ServiceSnapshot
from waypost.client.registry.instance import Instance
from waypost.client.registry.kubernetes.position import is_older, place_of, position_of, version_of
from waypost.client.registry.kubernetes.slice_api import (
    Bookmark,
    Change,
    HistoryGone,
    Listing,
    Opened,
    Part,
    SliceApi,
    SliceStream,
    WatchEnded,
)
from waypost.client.registry.kubernetes.slices import (
    SERVICE_LABEL,
    PortChoice,
    Slice,
    decode_slice,
    decode_slices,
    instances_of,
)
from waypost.client.registry.missing import Missing
from waypost.errors import DecodeError, InvalidPort, RegistryUnavailable, WatchPositionLost

_log = logging.getLogger(__name__)

GRACE = timedelta(seconds=30)
PATIENCE = timedelta(seconds=10)
"""How long `close` waits for the thread: a server that hangs may hold it longer."""


class Follower:
    """See the module; one thread and one connection per watched service, two while a watch opens. Raises
    WatchPositionLost for a position of another registry."""

    def __init__(
        self,
        api: SliceApi,
        choice: PortChoice,
        service: str,
        *,
        after: ServiceSnapshot | None = None,
        grace: timedelta = GRACE,
        backoff: Backoff | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._api = api
        self._choice = choice
        self._service = service
        self._selector = f"{SERVICE_LABEL}={service}"
        self._place = place_of(api.server, api.namespace, choice)
        self._version = version_of(self._place, service, after.position) if after is not None else ""
        self._is_strict = after is not None
        self.feed = Feed(service, seed=after)
        self._backoff = backoff or Backoff()
        self._now_ms = now_ms
        self._slices: dict[str, Slice] = {}
        self._is_listed = False
        self._is_followed = False
        self._is_unclear = False
        """Whether the slices do not say where instances listen, so that older ones are served."""
        self._stream: SliceStream | None = None
        self._keeping = threading.Lock()
        self._missing = Missing(grace, self._keeping, self._let_go)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"Kubernetes watch of {service}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Return when the thread has ended, or after `PATIENCE`."""
        self._closed.set()
        with self._keeping:
            self._missing.end_grace()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive():
            self._thread.join(PATIENCE.total_seconds())

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                if not self._is_listed:
                    self._list()
                if self._is_listed:
                    self._follow()
            except (WatchPositionLost, InvalidPort) as error:
                self.feed.fail(error)
                return
            except HistoryGone:
                if self._is_strict:
                    self.feed.fail(self._lost("Kubernetes has no history from there"))
                    return
                self._is_listed = False
                self._pause()
            except RegistryUnavailable as error:
                if self._closed.is_set():
                    return
                if self.feed.snapshot().stale_since is None:
                    _log.warning("%s: serving what was last known of %s", error, self._service)
                self.feed.mark_stale(self._now_ms())
                self._is_followed = False
                self._is_listed = self._is_listed and not isinstance(error, WatchEnded)
                self._pause()

    def _pause(self) -> None:
        self._closed.wait(self._backoff.next().total_seconds())

    def _lost(self, why: str) -> WatchPositionLost:
        return WatchPositionLost(self._service, position_of(self._place, self._version), why)

    def _list(self) -> None:
        # A snapshot has instances and no slices, so whoever goes on from one needs them as they were then.
        listing = self._api.list(self._selector, at=self._version if self._is_strict else None)
        slices = decode_slices(listing.found)
        found = self._instances(slices)
        if found is None:
            return self._pause()
        known = self.feed.snapshot().instances
        is_other = not self._is_strict and is_older(listing.version, self._version)
        if known and not found and is_other:
            _log.warning(
                "Kubernetes is emptied or older (version %s, was %s) and has nobody of %s: keeping %d instances",
                listing.version, self._version, self._service, len(known),
            )  # fmt: skip
            with self._keeping:
                self._missing.end_grace()
                self.feed.mark_stale(self._now_ms())
            return self._pause()
        with self._keeping:
            self._missing.note(found, known if is_other else None)
            self._take(listing, slices, found)
            self._missing.begin_grace()
        return None

    def _take(self, listing: Listing, slices: dict[str, Slice], found: dict[str, Instance]) -> None:
        if not self._is_strict:
            self._version = listing.version
        self._slices, self._is_listed = slices, True
        self._load(found)

    def _load(self, found: dict[str, Instance]) -> None:
        self._is_unclear = False
        stale_at = self._now_ms() if self._missing else None
        self.feed.load({**self._missing.instances, **found}, position_of(self._place, self._version), stale_at=stale_at)

    def _let_go(self, gone: list[str]) -> None:
        """Believe that those who have not come back are gone."""
        if not self._closed.is_set():
            _log.warning("%d instances of %s have not come back to Kubernetes", len(gone), self._service)
            self.feed.apply(dict.fromkeys(gone), position=position_of(self._place, self._version))
            self._confirm()

    def _follow(self) -> None:
        """Follow until the server ends the watch in good order."""
        self._stream = self._api.open_watch(self._selector, self._version)
        if self._closed.is_set():
            return
        has_told = False
        with contextlib.closing(self._stream.parts()) as parts:
            for part in parts:
                if is_older(self._api.version() if isinstance(part, Opened) else part.version, self._version):
                    if self._is_strict:
                        raise self._lost("the store was put back to an older copy since")
                    self._is_listed = self._is_followed = has_told = False
                    break
                has_told = self._fold(part) or has_told
        if not has_told and not self._closed.is_set():
            self._pause()  # or a proxy that ends every watch at once would be asked without end

    def _fold(self, part: Part) -> bool:
        """Return whether it says something new."""
        with self._keeping:
            if isinstance(part, Opened):
                self._is_followed = True
                self._confirm()
                return False
            self._backoff.reset()
            self._is_strict = False
            self._version = part.version
            if isinstance(part, Bookmark):
                self._confirm()
            else:
                self._change(part)
            return True

    def _confirm(self) -> None:
        """Note that the feed is what the server has now, if it is."""
        if self._is_followed and not self._missing and not self._is_unclear:
            self.feed.confirm(position_of(self._place, self._version))

    def _change(self, change: Change) -> None:
        try:
            piece = decode_slice(change.doc)
        except DecodeError as error:
            _log.warning("an EndpointSlice of %s cannot be read and is left as it was: %s", self._service, error)
            return
        if change.is_deleted:
            self._slices.pop(piece.name, None)
        else:
            self._slices[piece.name] = piece
        found = self._instances(self._slices)
        if found is not None:
            self._missing.note(found)
            self._load(found)

    def _instances(self, slices: dict[str, Slice]) -> dict[str, Instance] | None:
        """Return the instances; None: it cannot be told any more where they listen, so what was known stays. Raises
        InvalidPort when it never could."""
        try:
            return instances_of(self._service, slices.values(), self._choice)
        except InvalidPort as error:
            if not self.feed.is_loaded:
                raise
            _log.warning("%s: serving what was last known of %s", error, self._service)
            self._is_unclear = True
            self.feed.mark_stale(self._now_ms())
            return None
