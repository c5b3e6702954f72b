"""How many services and endpoints an installation has, and when its last window ended: read from Redis."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis
from redis.exceptions import RedisError

from waypost.client.keys import Keys
from waypost.errors import RegistryUnavailable
from waypost.model.names import ServiceKey

_TOGETHER = 500
"""Services per round trip: some milliseconds of the server's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the tables hold. `last_window_ms` is epoch ms of the log, None before the first window."""

    services: int = 0
    endpoints: int = 0
    protected: int = 0
    last_window_ms: int | None = None


def read_counts(client: redis.Redis, prefix: str) -> Counts:
    """Return the sums over all services. Raises RegistryUnavailable when Redis does not answer."""
    keys, endpoints, protected, services, last = Keys(prefix), 0, 0, 0, None
    try:
        known = iter(sorted(_text(item) for item in client.smembers(keys.services)))  # type: ignore[union-attr]
        while batch := list(islice(known, _TOGETHER)):
            pipe = client.pipeline(transaction=False)
            for service in batch:
                namespace, _, name = service.partition("/")
                pipe.hmget(keys.meta(ServiceKey(namespace, name)), ["endpoints", "protected", "window_end"])
            for count, held, window_end in pipe.execute():
                services += 1
                endpoints += _number(count) or 0
                protected += 1 if _number(held) else 0
                last = max(filter(None, (last, _number(window_end))), default=None)
    except RedisError as error:
        raise RegistryUnavailable(f"Redis does not answer: {error}") from error
    return Counts(services=services, endpoints=endpoints, protected=protected, last_window_ms=last)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _number(value: Any) -> int | None:
    """Return a number that Redis holds; anything else, by whoever's hand, is none."""
    text = _text(value) if value is not None else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
