"""Reading route tables: once, or as a local copy that follows the registry and outlives it.

`RouteReader` keeps a copy of every watched table. Whatever happens to Redis, `table()` answers from the copy at once;
`stale` then says that it may be out of date. What a copy believes is decided in `waypost.client.table`, which needs no
server to be tested.

Nothing here runs by itself: the caller's loop (or thread) is `poll()` or `events()`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import redis
from redis.exceptions import RedisError

from waypost.client.acks import Acks
from waypost.client.answers import Answered, AnswerWaiter, open_answers
from waypost.client.connection import Backoff, connect, text
from waypost.client.copies import Copy, EndpointEvent, EventKind, TableView, decode_all
from waypost.client.follow import ChangeStream, Continuity, Fields
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.client.readings import READ_TOGETHER, read_tables
from waypost.client.table import Verdict
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.model.names import ServiceKey
from waypost.wire.changes import decode_change

__all__ = [
    "AnswerWaiter",
    "Answered",
    "EndpointEvent",
    "EventKind",
    "RouteReader",
    "TableView",
    "open_answers",
]

_log = logging.getLogger(__name__)

BLOCK = timedelta(milliseconds=500)
"""Longest wait inside Redis; also how late `close()` and new watches are noticed."""

TIMEOUT = timedelta(milliseconds=1_500)
"""For connecting and for each answer; must exceed BLOCK, or every quiet moment would look like a dead server."""


class RouteReader:
    """Local copies of watched tables.

    `reader_id` makes it acknowledge what it has applied (see `waypost.client.acks`). `poll` and `events` belong to one
    thread; `watch`, `table`, and `close` may be called from any.
    """

    def __init__(
        self,
        server: redis.Redis | str,
        *,
        prefix: str = DEFAULT_PREFIX,
        reader_id: str | None = None,
        backoff: Backoff | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._redis = connect(server, TIMEOUT) if isinstance(server, str) else server
        self._keys = Keys(prefix)
        self._stream = ChangeStream(self._redis, self._keys)
        self._acks = Acks(self._redis, self._keys, reader_id, now_ms) if reader_id is not None else None
        self._backoff = backoff or Backoff()
        self._now_ms = now_ms
        self._copies: dict[ServiceKey, Copy] = {}
        self._unread: set[ServiceKey] = set()
        self._accepts: Callable[[ServiceKey], bool] | None = None
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._happened: list[EndpointEvent] = []
        self._following = False
        self._lost = False
        self._complete = False
        self._retry_at = 0.0
        self._closed = threading.Event()

    # -- once ------------------------------------------------------------------------------------------

    def read(self, service: ServiceKey) -> TableView:
        """Read one table now, copy or no copy. Raises RegistryUnavailable."""
        try:
            ((_, reading),) = read_tables(self._redis, self._keys, [service])
        except (RedisError, OSError) as error:
            raise RegistryUnavailable(f"reading the table of {service}: {error}") from error
        if reading is None:
            raise RegistryUnavailable(f"the keys of {service} hold something that is no table")
        return TableView(
            service=service,
            revision=reading.revision,
            event_time=reading.event_time,
            endpoints=decode_all(service, reading.routes.items()),
            exists=reading.revision > 0,
        )

    # -- a copy ----------------------------------------------------------------------------------------

    def watch(self, *services: ServiceKey) -> None:
        """Keep a copy of these tables; the next `poll` reads them. A service need not exist yet."""
        with self._lock:
            for service in services:
                if service not in self._copies:
                    self._copies[service] = Copy(service, self._now_ms())
                    self._unread.add(service)

    def watch_all(self, accepts: Callable[[ServiceKey], bool] = lambda _: True) -> None:
        """Keep a copy of every table, present and future, whose name `accepts`. Call it before the first `poll`."""
        self._accepts = accepts

    def table(self, service: ServiceKey) -> TableView:
        """Return the copy as it is; never waits. Raises KeyError when the service is not watched."""
        return self._copies[service].view()

    @property
    def life(self) -> str:
        """The generation of the store that every table was read from at least once; "" before that.

        Also "" while the store has none: nobody has written tables to it yet, or it was wiped.
        """
        return self._stream.life if self._complete else ""

    @property
    def place(self) -> tuple[str, str]:
        """The life of the store and the entry of `changes` up to which every copy has been brought; of no use while
        the registry is lost. Belongs to the thread that polls."""
        return self._stream.life, self._stream.position

    @property
    def lost(self) -> bool:
        """Whether the registry could not be reached when it was last tried."""
        return self._lost

    def services(self) -> list[ServiceKey]:
        """Return the services of which there is a copy, in order."""
        return sorted(self._copies)

    def poll(self, timeout: timedelta) -> list[EndpointEvent]:
        """Bring the copies up to date and return what changed; wait up to `timeout` for something to change.

        Raises nothing: an unreachable registry marks the copies stale and is tried again, later each time.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        with self._polling:
            while not self._closed.is_set():
                now = time.monotonic()
                remaining = max(0.0, deadline - now)
                if now < self._retry_at:
                    self._closed.wait(min(remaining, self._retry_at - now))
                else:
                    self._try_step(remaining)
                if self._happened or time.monotonic() >= deadline:
                    break
            # Kept outside of the steps: one that fails half way has already changed copies.
            events, self._happened = self._happened, []
            return events

    def events(self) -> Iterator[EndpointEvent]:
        """Yield changes until `close()`."""
        while not self._closed.is_set():
            yield from self.poll(BLOCK)

    def close(self) -> None:
        """Stop `poll` and `events`, take back the acknowledgements, give back the connections. The copies stay.

        Waits for a `poll` under way, BLOCK at most: a connection must not be closed while another thread reads from it.
        """
        self._closed.set()
        with self._polling:
            if self._acks is not None:
                self._acks.withdraw(list(self._copies))
            self._redis.close()

    # -- one step --------------------------------------------------------------------------------------

    def _try_step(self, remaining: float) -> None:
        try:
            self._step(remaining)
        except (RedisError, OSError) as error:
            if not self._lost:
                _log.warning("the registry cannot be reached (%s): serving the tables last known", error)
            self._lost = True
            self._mark_stale()
            self._retry_at = time.monotonic() + self._backoff.next().total_seconds()
        else:
            self._lost = False
            self._complete = True
            self._backoff.reset()

    def _step(self, remaining: float) -> None:
        if not self._following or self._lost:
            self._resume()
        self._read_unread()
        if not self._happened:
            entries, continuity = self._stream.read(int(min(BLOCK.total_seconds(), remaining) * 1000))
            for fields in entries:
                self._fold(fields)
            self._mend(continuity)
            self._read_unread()
        if self._acks is not None:
            self._acks.send({s: c.table.revision for s, c in list(self._copies.items()) if c.table.exists})

    def _resume(self) -> None:
        """Start following, or go on after a lost connection; then read everything, once."""
        if not self._following:
            self._stream.seek_end()
            self._following = True
            self._discover()
        else:
            self._mend(self._stream.continuity())
        # Only a reading proves that a copy is not stale any more.
        self._read_everything()

    def _mend(self, continuity: Continuity) -> None:
        if continuity is Continuity.UNBROKEN:
            return
        _log.warning("the changes stream is %s after %s: reading all tables", continuity.value, self._stream.position)
        if continuity is Continuity.REPLACED:
            for copy in list(self._copies.values()):
                copy.table.doubt()
            self._stream.seek_end()
        self._discover()
        self._read_everything()

    def _discover(self) -> None:
        if self._accepts is not None:
            members: Any = self._redis.smembers(self._keys.services)
            self.watch(*filter(self._accepts, _service_keys(members)))

    def _fold(self, fields: Fields) -> None:
        try:
            service = ServiceKey.parse(fields.get("service", ""))
        except ValueError:
            return
        if self._accepts is not None and service not in self._copies and self._accepts(service):
            self.watch(service)
        copy = self._copies.get(service)
        if copy is None:
            return
        try:
            verdict, events = copy.offer(decode_change(fields), self._stream.life)
        except DecodeError as error:
            _log.warning("an entry of changes about %s cannot be read (%s): reading the table", service, error)
            verdict, events = Verdict.REREAD, []
        self._happened += events
        if verdict is Verdict.REREAD:
            with self._lock:
                self._unread.add(service)

    def _read_unread(self) -> None:
        while True:
            with self._lock:
                batch = sorted(self._unread)[:READ_TOGETHER]
            if not batch:
                return
            for service, reading in read_tables(self._redis, self._keys, batch):
                if reading is None:
                    _log.warning("the keys of %s hold something that is no table: keeping the copy", service)
                    self._copies[service].mark_stale(self._now_ms())
                else:
                    self._happened += self._copies[service].take(reading, self._now_ms())
            with self._lock:
                self._unread.difference_update(batch)

    def _read_everything(self) -> None:
        with self._lock:
            self._unread.update(self._copies)

    def _mark_stale(self) -> None:
        for copy in list(self._copies.values()):
            copy.mark_stale(self._now_ms())


def _service_keys(members: Iterable[Any]) -> Iterator[ServiceKey]:
    """Parse names of services; what is none of them is nobody's service."""
    for member in members:
        with contextlib.suppress(ValueError):
            yield ServiceKey.parse(text(member))
