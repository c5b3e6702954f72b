"""Writes isolations to the log: who is to be kept out of which tables, until when, and why.

As the registrar does, every record passes the wire codec in both directions before it is sent: what the job would
refuse is refused here, with the same reason, while somebody is there to read it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from waypost.client.event_sink import EventSink
from waypost.model.isolation import Isolation
from waypost.model.stamp import Stamp
from waypost.wire.isolation import decode_isolation, encode_isolation, isolation_key

TOPIC = "service-isolation"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_id() -> str:
    return str(uuid.uuid4())


def encode_checked_isolation(word: Isolation, now_ms: int) -> bytes:
    """Return the record value, exactly as the job will understand it. Raises DecodeError with the reason the job would
    give, if the broker's clock is as ours."""
    return encode_isolation(decode_isolation(encode_isolation(word), Stamp(now_ms)))


class Isolator:
    """Safe to share between threads if its sink is."""

    def __init__(
        self,
        sink: EventSink,
        *,
        topic: str = TOPIC,
        now_ms: Callable[[], int] = _now_ms,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._sink = sink
        self._topic = topic
        self._now_ms = now_ms
        self._new_id = new_id

    def publish(self, word: Isolation) -> str:
        """Write a word, under a fresh request id unless it has one; return the id. The route job answers in `changes`
        under it, once for each service that has to do with it.

        Raises DecodeError for what the job would refuse (nothing was sent), RegistryUnavailable when the log cannot be
        reached.
        """
        word = replace(word, request_id=word.request_id or self._new_id())
        self._sink.write(self._topic, isolation_key(word), encode_checked_isolation(word, self._now_ms()))
        return word.request_id

    def close(self) -> None:
        """Let go of the connection."""
        self._sink.close()

    def __enter__(self) -> Isolator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
