"""One way to talk to Redis, for writers and readers: fail in time, and never repeat a command unasked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def connect(url: str, timeout: timedelta) -> redis.Redis:
    """Return a client that fails within `timeout`; it connects on first use.

    redis-py 6 and later would otherwise repeat each command three times with up to ten seconds between, and a script
    that was written by a lost answer would be run again. The answers' shapes are those of RESP2 in every version.
    """
    seconds = timeout.total_seconds()
    return redis.Redis.from_url(
        url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0), protocol=2
    )


def text(value: Any) -> str:
    """Return an answer as str, whether or not the client decodes, and "" for None.

    Bytes that are no UTF-8 become U+FFFD, which is in no name, number or address: what cannot be read is refused where
    it is looked at, and does not keep the rest from being read.
    """
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)


def texts(fields: Any) -> dict[str, str]:
    """Return a hash or a stream entry as str → str."""
    return {text(name): text(value) for name, value in fields.items()}


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next try: random up to a ceiling that doubles with every failure.

    Random from zero ("full jitter"), because a thousand readers lose one server at the same moment.
    """

    first: timedelta = timedelta(milliseconds=50)
    ceiling: timedelta = timedelta(seconds=5)
    random: Callable[[], float] = random.random
    failures: int = field(default=0, init=False)

    def reset(self) -> None:
        """Start over after a success."""
        self.failures = 0

    def next(self) -> timedelta:
        """Count one more failure and return how long to wait after it."""
        limit = min(self.ceiling, self.first * (1 << min(self.failures, 16)))
        self.failures += 1
        return limit * self.random()
