"""What gateways are told, kept up to date by one thread: the last known good tables of all services.

    Redis ── RouteReader ──► tables ─┐
         └── instances hash ─────────┴─► pools ──► `tables()`, and a call for everybody who waits for news

Once there were tables there are always tables. Redis may be away, wiped, or older than what was read: the reader keeps
what it had, and so does this. Before there were any there is nothing, and nobody is told "no services" by somebody who
does not know.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import redis
from redis.exceptions import RedisError

from waypost.client.connection import text
from waypost.client.keys import Keys
from waypost.client.routes import RouteReader
from waypost.gateway.draining import read_draining
from waypost.gateway.pool import Pool, make_pool
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import KnownInstance

_log = logging.getLogger(__name__)

LOOK = timedelta(milliseconds=250)
"""How late something is noticed that changed no endpoint of a table: an empty new service, the end of a drain."""
SETTLE = timedelta(seconds=5)
"""How old the writer's claim on the store must be before tables are believed by somebody who never had any.

After a wipe the job takes a new claim and then writes one table after the other. A feed that happens to start in
between would tell gateways of the first few services only, and they would forget the others."""
_AFTER_FAILURE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The pools of all services at one moment. `number` grows with every change."""

    number: int = 0
    pools: Mapping[ServiceKey, Pool] = field(default_factory=dict)


Listener = Callable[[frozenset[ServiceKey], bool], None]
"""Called in the feed's thread with the services whose pools changed, and whether services came or went."""


class Feed:
    """See the module. `run` belongs to one thread and returns after `stop`; the rest may be called from any."""

    def __init__(
        self,
        reader: RouteReader,
        side: redis.Redis,
        rules: Rules,
        *,
        keys: Keys | None = None,
        settle: timedelta = SETTLE,
    ) -> None:
        self._reader = reader
        self._side = side
        self._rules = rules
        self._keys = keys or Keys()
        self._settle = settle
        self._tables: Tables | None = None
        self._stale = False
        self._revisions: dict[ServiceKey, int] = {}
        self._draining: dict[ServiceKey, dict[str, KnownInstance]] = {}
        self._asked: set[ServiceKey] = set()
        self._fresh: set[ServiceKey] = set()
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._next_look = 0.0
        self._stopped = threading.Event()
        reader.watch_all(rules.accepts)

    def tables(self) -> Tables | None:
        """Return what is known now; None until tables were read for the first time."""
        return self._tables

    @property
    def stale(self) -> bool:
        """Whether Redis does not confirm all of what is known."""
        return self._stale

    def listen(self, listener: Listener) -> None:
        """Call back from now on, at every change."""
        self._listeners.append(listener)

    def want_draining(self, *services: ServiceKey) -> None:
        """From now on, know also who drains in these services. It costs a reading at each change, hence on demand."""
        if new := [service for service in services if service not in self._asked and self._rules.accepts(service)]:
            with self._lock:
                self._fresh.update(new)

    def run(self) -> None:
        """Follow the tables until `stop`."""
        while not self._stopped.is_set():
            try:
                self._round()
            except Exception:
                # Whatever it is, the gateways keep what they have, and the next table may be readable again.
                _log.exception("following the tables failed")
                self._stopped.wait(_AFTER_FAILURE_S)
        self._reader.close()

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped.set()

    # -- one round ------------------------------------------------------------------------------------

    def _round(self) -> None:
        touched = {event.service for event in self._reader.poll(LOOK)}
        if self._tables is None:
            if not self._may_begin():
                return
            touched.update(self._reader.services())
        if not touched or time.monotonic() >= self._next_look:
            touched |= self._look()
            self._next_look = time.monotonic() + LOOK.total_seconds()
        with self._lock:
            fresh, self._fresh = self._fresh, set()
        self._asked |= fresh
        self._take(touched | fresh)

    def _may_begin(self) -> bool:
        if not self._reader.life:
            return False
        try:
            pipeline = self._side.pipeline(transaction=True)
            pipeline.hget(self._keys.epoch, "opened_at")
            pipeline.time()
            opened_at, (seconds, micros) = pipeline.execute()
            age = timedelta(milliseconds=int(seconds) * 1000 + int(micros) // 1000 - int(text(opened_at) or 0))
        except (RedisError, OSError, ValueError) as error:
            _log.warning("cannot tell how old the tables are: %s", error)
            return False
        # A writer whose clock is ahead is as young as can be, not from the future.
        if timedelta(0) <= age < self._settle or -self._settle < age < timedelta(0):
            self._stopped.wait(min(LOOK, self._settle).total_seconds())
            return False
        _log.info("the tables of %d services were read", len(self._reader.services()))
        return True

    def _look(self) -> set[ServiceKey]:
        """Return the services whose revision moved."""
        stale = self._reader.lost
        moved = set()
        for service in self._reader.services():
            view = self._reader.table(service)
            stale = stale or view.stale
            if view.revision != self._revisions.get(service, 0):
                moved.add(service)
        if stale != self._stale:
            _log.warning("the tables are %s", "stale: Redis does not confirm them" if stale else "fresh again")
        self._stale = stale
        return moved

    def _take(self, touched: set[ServiceKey]) -> None:
        before = self._tables.pools if self._tables is not None else {}
        self._read_draining(touched & self._asked)
        after = dict(before)
        known = set(self._reader.services())
        for service in touched & known:
            view = self._reader.table(service)
            self._revisions[service] = view.revision
            if view.exists:
                after[service] = make_pool(view.endpoints, self._draining.get(service, {}))
            else:
                after.pop(service, None)
        changed = frozenset(s for s in touched if before.get(s) != after.get(s))
        if self._tables is not None and not changed:
            return
        self._tables = Tables(number=self._tables.number + 1 if self._tables is not None else 1, pools=after)
        for listener in self._listeners:
            listener(changed, before.keys() != after.keys())

    def _read_draining(self, services: set[ServiceKey]) -> None:
        try:
            self._draining.update(read_draining(self._side, self._keys, sorted(services)))
        except (RedisError, OSError) as error:
            # Those who drain have left the table all the same. When the connection is back, all tables are read anew.
            _log.warning("cannot read who drains: %s", error)
