"""Where a registrar writes to: Kafka, or a list in tests.

A registration must be on the log before the caller goes on, a beat must not hold the caller up: hence two verbs.
What Kafka acknowledged survives the loss of a broker (`acks=all`), and the idempotent producer writes it once.
Nothing here makes the route job run; a registration waits on the log until it does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from waypost.errors import RegistryUnavailable

DEFAULT_TIMEOUT_S = 5.0
"""How long to wait for Kafka. Longer than an election of a partition leader usually takes, shorter than a person
at a terminal waits."""


class EventSink(Protocol):
    """A writer of log records. Safe to share between threads."""

    def write(self, topic: str, key: bytes, value: bytes) -> None:
        """Return when the record is durable. Raises RegistryUnavailable; it may then be written or not."""
        ...

    def post(self, topic: str, key: bytes, value: bytes) -> None:
        """Hand the record over and return; it is written soon, or lost. Raises RegistryUnavailable when the
        registry was never reached or the buffer is full."""
        ...

    def close(self) -> None:
        """Write what was posted and let go of the connection. Closing twice is harmless."""
        ...


class BatchSink(Protocol):
    """A writer that answers for many records at once."""

    def write_all(self, records: Sequence[Record]) -> None:
        """Return when all of them are durable. Raises RegistryUnavailable; any of them may then be written or not."""
        ...

    def close(self) -> None:
        """Let go of the connection. Closing twice is harmless."""
        ...


class Record(NamedTuple):
    """One record as a sink got it."""

    topic: str
    key: bytes
    value: bytes


@dataclass(slots=True)
class MemorySink:
    """The fake: keeps records in a list; `failure` makes it refuse them."""

    records: list[Record] = field(default_factory=list)
    failure: RegistryUnavailable | None = None
    closed: bool = False

    def write(self, topic: str, key: bytes, value: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.records.append(Record(topic, key, value))

    def write_all(self, records: Sequence[Record]) -> None:
        for record in records:
            self.write(*record)

    def post(self, topic: str, key: bytes, value: bytes) -> None:
        self.write(topic, key, value)

    def close(self) -> None:
        self.closed = True


def _kafka_producer(**settings: Any) -> Any:
    from kafka import KafkaProducer  # a third of a second; `waypost --help` should not pay it

    return KafkaProducer(**settings)


class _Sent(NamedTuple):
    topic: str
    producer: Any
    future: Any


class KafkaSink:
    """The real one. It connects at the first record, so making one neither blocks nor fails."""

    def __init__(
        self,
        bootstrap: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        client_id: str = "waypost",
        make_producer: Callable[..., Any] = _kafka_producer,
    ) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._client_id = client_id
        self._make_producer = make_producer
        self._lock = threading.Lock()
        self._producer: Any = None
        self._closed = False
        self.lost = 0
        """Posted records that Kafka did not take; a metric, counted by the producer's own thread."""

    def write(self, topic: str, key: bytes, value: bytes) -> None:
        self.write_all([Record(topic, key, value)])

    def write_all(self, records: Sequence[Record]) -> None:
        all_sent = [self._send(record) for record in records]
        # The producer's own limit is the same; a little more lets it tell the reason first.
        until = time.monotonic() + self._timeout_s + 0.5
        for sent in all_sent:
            try:
                sent.future.get(timeout=max(0.0, until - time.monotonic()))
            except Exception as error:
                if not sent.future.is_done:
                    self._give_up(sent.producer)
                raise self._unavailable(sent.topic, error) from error

    def post(self, topic: str, key: bytes, value: bytes) -> None:
        self._send(Record(topic, key, value)).future.add_errback(self._count_lost)

    def close(self) -> None:
        with self._lock:
            producer, self._producer, self._closed = self._producer, None, True
        if producer is None:
            return
        try:
            producer.close(timeout=self._timeout_s)
        except Exception as error:
            raise RegistryUnavailable(
                f"Kafka at {self._bootstrap} did not take the last posted records within {self._timeout_s:g} s: {error}"
            ) from error

    def _send(self, record: Record) -> _Sent:
        try:
            producer = self._connected()
            return _Sent(record.topic, producer, producer.send(record.topic, key=record.key, value=record.value))
        except RegistryUnavailable:
            raise
        except Exception as error:
            raise self._unavailable(record.topic, error) from error

    def _give_up(self, producer: Any) -> None:
        """Let go of a producer that did not even say that a record is late, and make a new one for the next.

        kafka-python 3.0's idempotent producer asks for a new id when a record expires under way. Should the broker not
        answer that, it asks no more and expires nothing: it is silent for ever, however well the broker is. What it
        still holds must not be written behind later records, so it is not given the time to.
        """
        with self._lock:
            if self._producer is not producer:
                return
            self._producer = None
        with contextlib.suppress(Exception):
            producer.close(timeout=0)
        if (sender := getattr(producer, "_sender", None)) is not None:  # `close` raises before it comes to that
            sender.force_close()

    def _connected(self) -> Any:
        with self._lock:
            if self._closed:
                raise RegistryUnavailable("this sink is closed; make a new one to write again")
            if self._producer is None:
                timeout_ms = int(self._timeout_s * 1000)
                self._producer = self._make_producer(
                    bootstrap_servers=self._bootstrap.split(","),
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    # A single registration leaves at once; a burst of beats shares a request.
                    linger_ms=2,
                    max_block_ms=timeout_ms,
                    delivery_timeout_ms=timeout_ms,
                    request_timeout_ms=max(1, timeout_ms - 2),
                    bootstrap_timeout_ms=timeout_ms,
                    # The client's own 30 s would outlast the lease of an instance after Kafka is back.
                    reconnect_backoff_max_ms=1_000,
                    # A topic made by accident would lack the settings the job relies on.
                    allow_auto_create_topics=False,
                )
            return self._producer

    def _count_lost(self, _error: BaseException) -> None:
        self.lost += 1

    def _unavailable(self, topic: str, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"Kafka at {self._bootstrap} did not acknowledge a record for topic {topic} within {self._timeout_s:g} s "
            f"({str(error) or type(error).__name__}). Check the address, that the broker runs and that the "
            "topic exists; then send it again, which is harmless if it was written after all."
        )
