"""Telling the registry what a reader has applied, for `drain --wait` and for measuring how far readers lag.

An acknowledgement is a courtesy: losing one makes somebody wait longer, so failures are ignored until the next time.
It is repeated every few seconds, so that whoever waits can tell a reader that is gone from one that is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import orjson
import redis
from redis.exceptions import RedisError

from waypost.client.keys import Keys
from waypost.model.names import ServiceKey

REPEAT_MS = 10_000
"""A reader silent for three of these may be taken for gone."""

# A service that was removed meanwhile must not come back as a lonely `readers` key.
_ACKNOWLEDGE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
"""


class Acks:
    """Writes `reader id → {"revision","at"}` into the `readers` hash of each service."""

    def __init__(self, client: redis.Redis, keys: Keys, reader_id: str, now_ms: Callable[[], int]) -> None:
        self._redis = client
        self._keys = keys
        self._reader_id = reader_id
        self._now_ms = now_ms
        self._sent: dict[ServiceKey, tuple[int, int]] = {}

    def send(self, revisions: Mapping[ServiceKey, int]) -> None:
        """Acknowledge what is new, and what was last acknowledged a while ago. Raises what redis-py raises."""
        now = self._now_ms()
        due = {
            service: revision
            for service, revision in revisions.items()
            if self._sent.get(service, (0, 0))[0] != revision or now - self._sent[service][1] >= REPEAT_MS
        }
        if not due:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for service, revision in due.items():
            ack = orjson.dumps({"revision": revision, "at": now}).decode()
            pipeline.eval(_ACKNOWLEDGE, 2, self._keys.meta(service), self._keys.readers(service), self._reader_id, ack)
        pipeline.execute()
        self._sent.update({service: (revision, now) for service, revision in due.items()})

    def withdraw(self, services: Iterable[ServiceKey]) -> None:
        """Take all acknowledgements back, as far as the registry can be reached: this reader ends."""
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for service in services:
                pipeline.hdel(self._keys.readers(service), self._reader_id)
            pipeline.execute()
        except (RedisError, OSError):
            pass
