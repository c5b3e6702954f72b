"""Taking an instance away so gently that nobody notices: drain it, and wait until every reader has moved on.

Readers that acknowledge write into a service's `readers` hash which revision they have applied (`waypost.client.acks`).
Once all of them have the revision that dropped the instance, none sends it anything new, and it may stop as soon as its
calls under way are done. Readers that do not acknowledge are not waited for; nobody knows of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import redis
from redis.exceptions import RedisError

from waypost.client.acks import REPEAT_MS
from waypost.client.connection import texts
from waypost.client.keys import Keys
from waypost.errors import RegistryUnavailable
from waypost.model.names import ServiceKey

GONE_MS = 3 * REPEAT_MS
"""A reader silent for this long is taken for gone: it will never acknowledge."""

LOOK = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What became of a drain: from `revision` on the table does not have the instance; `waiting` are the readers that
    had not applied it in time, and how far they had come."""

    revision: int
    waiting: dict[str, int]

    @property
    def is_done(self) -> bool:
        """Whether every reader known has moved on."""
        return not self.waiting


def behind(client: redis.Redis, keys: Keys, service: ServiceKey, revision: int, now_ms: int) -> dict[str, int]:
    """Return the readers that are alive and have not applied `revision`, with what they have. Raises
    RegistryUnavailable."""
    try:
        entries: Any = client.hgetall(keys.readers(service))
    except (RedisError, OSError) as error:
        raise RegistryUnavailable(f"reading who follows {service}: {error}") from error
    found = {}
    for reader, entry in texts(entries).items():
        try:
            ack = orjson.loads(entry)
            applied, at = int(ack["revision"]), int(ack["at"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            continue  # no reader of ours writes that
        if applied < revision and now_ms - at < GONE_MS:
            found[reader] = applied
    return found


def wait_until_left(client: redis.Redis, keys: Keys, service: ServiceKey, instance: str, timeout: timedelta) -> Drained:
    """Wait until an instance is out of the table, and then for the readers; for those who do not know the revision that
    dropped it. Raises RegistryUnavailable when it is in the table still when the time ends, or Redis is away."""
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        try:
            pipeline = client.pipeline(transaction=True)
            pipeline.hexists(keys.route(service), instance)
            pipeline.hget(keys.meta(service), "revision")
            is_in, revision = pipeline.execute()
        except (RedisError, OSError) as error:
            why = f"reading the table of {service}: {error}"
        else:
            if not is_in:
                remaining = timedelta(seconds=max(0.0, deadline - time.monotonic()))
                return wait_for_readers(client, keys, service, int(revision or 0), remaining)
            why = f"{instance} is in the table of {service} still; see `waypost status`"
        if time.monotonic() >= deadline:
            raise RegistryUnavailable(why)
        time.sleep(min(LOOK.total_seconds(), max(0.0, deadline - time.monotonic())))


def wait_for_readers(
    client: redis.Redis, keys: Keys, service: ServiceKey, revision: int, timeout: timedelta
) -> Drained:
    """Wait until every reader that acknowledges has applied `revision`, and say who has not in time. Raises
    RegistryUnavailable when Redis is away when the time ends."""
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        try:
            waiting = behind(client, keys, service, revision, time.time_ns() // 1_000_000)
        except RegistryUnavailable:
            if time.monotonic() >= deadline:
                raise
        else:
            if not waiting or time.monotonic() >= deadline:
                return Drained(revision=revision, waiting=waiting)
        time.sleep(min(LOOK.total_seconds(), max(0.0, deadline - time.monotonic())))
