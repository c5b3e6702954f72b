"""How much Redis was written to, by its own account; and what it says of an instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from waypost.client.connection import connect, text, texts
from waypost.client.keys import Keys
from waypost.client.routes import TIMEOUT
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey
from waypost.wire.endpoint import decode_instance

_WRITING = ("hset", "hdel", "del", "set", "sadd", "srem", "xadd", "rename", "incr", "hincrby", "expire")
"""Commands that change something; inside a script they are counted one by one as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """Counters since the server started; subtract two of them."""

    changes: int
    """Entries ever added to the `changes` stream."""
    scripts: int
    """Calls of scripts by their hash: one per publication of a route table."""
    commands: int
    """Commands that change something, inside scripts or outside."""

    def __sub__(self, other: Writes) -> Writes:
        return Writes(
            changes=self.changes - other.changes,
            scripts=self.scripts - other.scripts,
            commands=self.commands - other.commands,
        )


class WriteCounter:
    """Asks the server."""

    def __init__(self, redis_url: str) -> None:
        self._redis: redis.Redis = connect(redis_url, TIMEOUT)
        self._keys = Keys()

    def now(self) -> Writes:
        stats: Any = self._redis.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(entry["calls"]) for name, entry in stats.items()}
        return Writes(
            changes=self._changes(),
            scripts=calls.get("evalsha", 0),
            commands=sum(calls.get(name, 0) for name in _WRITING),
        )

    def entries_about(self, services: set[str], after: str) -> int:
        """Return how many entries of `changes` since a position are about one of the services."""
        entries: Any = self._redis.xrange(self._keys.changes, min=f"({after}")
        return sum(texts(fields).get("service") in services for _, fields in entries)

    def position(self) -> str:
        """Return the newest entry's id."""
        entries: Any = self._redis.xrevrange(self._keys.changes, count=1)
        return text(entries[0][0]) if entries else "0-0"

    def reason(self, service: str, instance: str) -> str:
        """Return why an instance is in or out of its table, "" when nothing is known of it."""
        text: Any = self._redis.hget(self._keys.instances(ServiceKey(DEFAULT_NAMESPACE, service)), instance)
        return decode_instance(text).reason if text else ""

    def close(self) -> None:
        self._redis.close()

    def _changes(self) -> int:
        if not self._redis.exists(self._keys.changes):
            return 0
        info: Any = self._redis.xinfo_stream(self._keys.changes)
        # Servers before 7.0 count only what is left.
        return int(info.get("entries-added", info["length"]))
