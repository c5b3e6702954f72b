"""The tables as keys for Traefik's Redis provider: only what changed is written, under a root of their own.

Traefik hears of changes by keyspace events, which are lost whenever it or Redis is not listening, and are switched off
in a Redis that restarts without the setting in its configuration file. It says nothing then; it simply serves old
routes. So this asks for the setting again and again, and touches one key every few seconds: whatever was missed is read
then at the latest.

Each event makes Traefik read all keys under its root, twice. That is why only differences are written, and why this is
for hundreds of services; for more there is the HTTP provider.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from waypost.client.connection import Backoff, text, texts
from waypost.errors import SettingsError
from waypost.gateway import traefik
from waypost.gateway.feed import Feed, Tables
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

_log = logging.getLogger(__name__)

DEFAULT_ROOT = "waypost/traefik"
TOUCH = timedelta(seconds=5)
"""How long a lost event can keep Traefik from what it missed."""
COMPARE = timedelta(seconds=60)
"""How often what is stored is compared with what should be: somebody may have edited it."""
EVENTS = "Kg$"
"""The keyspace events that Traefik needs: of strings written and of keys deleted. Without `g` it never hears of a
deletion. (`K$x` of old recipes misses them; `x`, of expiry, is not needed here.)"""

_ROOT = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*\Z")


def check_root(root: str) -> str:
    """Return the root key if it can be one. Raises SettingsError."""
    if not _ROOT.match(root):
        raise SettingsError(f"the root key {root!r} must be words of A-Z a-z 0-9 . _ - with slashes between")
    return root


@dataclass(frozen=True, slots=True)
class Difference:
    """What turns one set of keys into another. `set` and `delete` never share a key."""

    set: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set) or bool(self.delete)


def difference(stored: Mapping[str, str], wanted: Mapping[str, str]) -> Difference:
    """Return the smallest difference that makes `stored` what is `wanted`."""
    return Difference(
        {key: value for key, value in wanted.items() if stored.get(key) != value},
        tuple(sorted(key for key in stored if key not in wanted)),
    )


class ForeignKeys(SettingsError):
    """The root holds keys that are not ours; writing would delete them."""


class Projection:
    """See the module. `run` belongs to one thread and returns after `stop`."""

    def __init__(
        self,
        client: redis.Redis,
        root: str,
        rules: Rules,
        feed: Feed,
        *,
        touch: timedelta = TOUCH,
        compare: timedelta = COMPARE,
        backoff: Backoff | None = None,
    ) -> None:
        self._redis = client
        self._root = check_root(root)
        self._rules = rules
        self._feed = feed
        self._touch_s, self._compare_s = touch.total_seconds(), compare.total_seconds()
        self._backoff = backoff or Backoff()
        self._stored: dict[str, str] | None = None
        self._parts: dict[ServiceKey, tuple[object, dict[str, str]]] = {}
        self._next_touch = self._next_compare = 0.0
        self._said: str | None = None
        self._news = threading.Event()
        self._stopped = False

    def run(self) -> None:
        """Write what the feed has, and go on writing what changes, until `stop`."""
        self._feed.listen(lambda _changed, _came: self._news.set())
        while not self._stopped:
            pause = self._touch_s
            try:
                self._round()
                self._backoff.reset()
                self._say(None)
            except ForeignKeys as error:
                self._say(str(error))
            except (RedisError, OSError) as error:
                self._stored = None
                self._say(f"cannot write Traefik's keys: {error}")
                pause = min(pause, self._backoff.next().total_seconds())
            except Exception:
                self._stored = None
                _log.exception("writing Traefik's keys failed")
            self._news.wait(pause)
            self._news.clear()
        self._redis.close()

    def stop(self) -> None:
        """Let `run` return. What was written stays."""
        self._stopped = True
        self._news.set()

    # -- one round -----------------------------------------------------------------------------------

    def _round(self) -> None:
        tables = self._feed.tables()
        if tables is None:
            return
        wanted = self._wanted(tables)
        now = time.monotonic()
        if self._stored is None or now >= self._next_touch:
            self._ask_for_events()
            # Also the proof that the store was not wiped meanwhile.
            if self._stored is not None and not self._touched():
                _log.warning("Traefik's keys are gone from Redis: writing all of them")
                self._stored = None
            self._next_touch = now + self._touch_s
        if self._stored is None or now >= self._next_compare:
            self._stored = self._read()
            self._next_compare = now + self._compare_s
        self._write(difference(self._stored, wanted))
        self._stored = wanted

    def _wanted(self, tables: Tables) -> dict[str, str]:
        parts: dict[ServiceKey, tuple[object, dict[str, str]]] = {}
        for service, pool in tables.pools.items():
            known = self._parts.get(service)
            if known is None or known[0] is not pool:
                known = pool, traefik.keys(self._root, [traefik.definitions(service, pool, self._rules)])
            parts[service] = known
        self._parts = parts
        wanted = traefik.keys(self._root, [])
        for _, keys in parts.values():
            wanted.update(keys)
        return wanted

    def _touched(self) -> bool:
        """Write the sentinel's value over itself, for Traefik to look; tell whether it was there."""
        key = traefik.sentinel(self._root)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.get(key)
        pipeline.set(key, str(traefik.TRIES), xx=True)
        before, _ = pipeline.execute()
        return before is not None

    def _ask_for_events(self) -> None:
        try:
            found: Any = self._redis.config_get("notify-keyspace-events")
            flags = texts(found).get("notify-keyspace-events", "")
            missing = "".join(flag for flag in EVENTS if flag not in flags and not ("A" in flags and flag in "g$"))
            if not missing:
                return
            self._redis.config_set("notify-keyspace-events", flags + missing)
            _log.warning("switched keyspace events on; put notify-keyspace-events into the server's configuration")
        except ResponseError as error:
            # Managed servers have no CONFIG. Then the operator must have set it.
            _log.debug("cannot see whether keyspace events are on: %s", error)

    def _read(self) -> dict[str, str]:
        """Return every key under the root. Raises ForeignKeys when they are somebody else's."""
        found = [text(key) for key in self._redis.scan_iter(match=f"{self._root}/*", count=1_000)]
        stored: dict[str, str] = {}
        for start in range(0, len(found), 1_000):
            batch = found[start : start + 1_000]
            values: Any = self._redis.mget(batch)
            # None: not a string, so not ours either, and Traefik stumbles over it.
            stored.update({key: "" if value is None else text(value) for key, value in zip(batch, values, strict=True)})
        if stored and traefik.sentinel(self._root) not in stored:
            raise ForeignKeys(
                f"{len(stored)} keys under {self._root} are not Waypost's (such as {min(stored)}): "
                "give it a root key of its own, or delete them"
            )
        return stored

    def _write(self, changes: Difference) -> None:
        if not changes:
            return
        # At once, or Traefik would read a part: on the first event it lists everything.
        pipeline = self._redis.pipeline(transaction=True)
        if changes.delete:
            pipeline.delete(*changes.delete)
        for key, value in changes.set.items():
            pipeline.set(key, value)
        pipeline.execute()

    def _say(self, problem: str | None) -> None:
        if problem is not None and self._said is None:
            _log.warning("%s", problem)
        elif problem is None and self._said is not None:
            _log.info("Traefik's keys are written again")
        self._said = problem
