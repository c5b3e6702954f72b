"""Where configurations are read from: the committed records of `service-config`, or a list in tests.

The topic must have one partition. With several the commit of a transaction becomes readable in one partition before the
next, and a reader would see half of a change set for a moment; there is no way to tell that moment from the whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from waypost.client.kafka_consumer import kafka_consumer
from waypost.errors import RegistryUnavailable, TopicError

TIMEOUT_S = 5.0
"""For one answer of Kafka."""
FETCH_WAIT_MS = 2_000
"""How long Kafka keeps a question for new records open when there are none; it answers at once when some come. Shorter
costs every reader and the broker questions about nothing; longer delays `end` and a close, which wait behind it."""


class RawConfig(NamedTuple):
    """One record as it stands on the log. `at` is append time, epoch ms."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    at: int


class ConfigFeed(Protocol):
    """A reader of the topic, at its beginning at first. For one thread. Every method raises RegistryUnavailable, and
    TopicError for a topic that is missing or has several partitions."""

    def read(self, timeout_s: float) -> Sequence[RawConfig]:
        """Wait up to `timeout_s` for committed records and return them, in the order of the log."""
        ...

    def end(self) -> int:
        """Return the offset behind the last record that is committed and not in the way of an open transaction."""
        ...

    def written(self) -> int:
        """Return the offset behind the last record of all, committed or not. Greater than `end`: a transaction is open,
        and what others committed after its first record is hidden with it."""
        ...

    def position(self) -> int:
        """Return the offset of the next record that `read` may return."""
        ...

    def rewind(self) -> None:
        """Go to the beginning again."""
        ...

    def close(self) -> None:
        """Let go of the connection. Closing twice is harmless."""
        ...


def read_to_end(
    feed: ConfigFeed, *, patience_s: float = 60.0, is_over: Callable[[], bool] = lambda: False
) -> Iterator[RawConfig]:  # fmt: skip
    """Yield every committed record from where the feed is up to what is its end now.

    Raises RegistryUnavailable when that is not reached in time, or `is_over` before: what was yielded is only a part.
    """
    deadline = time.monotonic() + patience_s
    end = feed.end()
    while feed.position() < end:
        if time.monotonic() > deadline or is_over():
            raise RegistryUnavailable(f"the end was not reached, in {patience_s:g} s or before the close")
        yield from feed.read(0.2)


def await_decided(feed: ConfigFeed, *, patience_s: float = 60.0) -> None:
    """Return when everything written before this call is committed or aborted, so that `read_to_end` returns it all.

    A transaction that nobody ends is aborted by Kafka after its timeout, so this ends too. Raises RegistryUnavailable.
    """
    deadline = time.monotonic() + patience_s
    written = feed.written()
    while feed.end() < written:
        if time.monotonic() > deadline:
            raise RegistryUnavailable(f"a transaction on the configurations has been open for {patience_s:g} s")
        time.sleep(0.1)


@dataclass(slots=True)
class MemoryTopic:
    """The fake: a topic as a list. `commit` makes records visible together; `failure` makes every reading fail."""

    records: list[RawConfig] = field(default_factory=list)
    failure: RegistryUnavailable | None = None
    clock: Callable[[], int] = lambda: 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def commit(self, records: Iterable[tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]]) -> None:
        with self.changed:
            for key, value, headers in records:
                self.records.append(RawConfig(len(self.records), key, value, tuple(headers), self.clock()))
            self.changed.notify_all()

    def compact(self) -> None:
        """Keep the newest record of each key, where it stands."""
        with self.changed:
            newest = {record.key: record.offset for record in self.records}
            gone = RawConfig(-1, None, None, (), 0)
            self.records = [one if one.offset == newest.get(one.key) else gone for one in self.records]

    def feed(self) -> MemoryFeed:
        return MemoryFeed(self)


class MemoryFeed:
    """A reader of a MemoryTopic. `at_once` is how many records one `read` returns at most."""

    def __init__(self, topic: MemoryTopic, at_once: int = 2) -> None:
        self._topic = topic
        self._at_once = at_once
        self._next = 0

    def read(self, timeout_s: float) -> Sequence[RawConfig]:
        with self._topic.changed:
            self._fail()
            self._topic.changed.wait_for(lambda: self._next != len(self._topic.records), timeout_s)
            self._fail()
            self._next = min(self._next, len(self._topic.records))
            found = self._topic.records[self._next : self._next + self._at_once]
            self._next += len(found)
            return [one for one in found if one.offset >= 0]

    def end(self) -> int:
        self._fail()
        return len(self._topic.records)

    def written(self) -> int:
        return self.end()

    def position(self) -> int:
        return self._next

    def rewind(self) -> None:
        self._next = 0

    def close(self) -> None:
        """Nothing is open."""

    def _fail(self) -> None:
        if self._topic.failure is not None:
            raise self._topic.failure


class KafkaFeed:
    """The real one. It connects at the first call."""

    def __init__(
        self,
        bootstrap: str,
        topic: str = "service-config",
        *,
        timeout_s: float = TIMEOUT_S,
        make_consumer: Callable[..., Any] = kafka_consumer,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._timeout_ms = int(timeout_s * 1000)
        self._make_consumer = make_consumer
        self._consumer: Any = None
        self._asking: Any = None
        self._partition: Any = None

    def read(self, timeout_s: float) -> Sequence[RawConfig]:
        batches = self._ask(lambda consumer: consumer.poll(timeout_ms=max(1, int(timeout_s * 1000))))
        return [
            RawConfig(one.offset, one.key, one.value, tuple(one.headers or ()), one.timestamp)
            for records in batches.values()
            for one in records
        ]

    def end(self) -> int:
        ends = self._ask(lambda consumer: consumer.end_offsets([self._partition], timeout_ms=self._timeout_ms))
        return int(ends[self._partition])

    def written(self) -> int:
        def ask(_: Any) -> Any:
            if self._asking is None:
                self._asking = self._make("read_uncommitted")
            return self._asking.end_offsets([self._partition], timeout_ms=self._timeout_ms)

        return int(self._ask(ask)[self._partition])

    def position(self) -> int:
        position = self._ask(lambda consumer: consumer.position(self._partition, timeout_ms=self._timeout_ms))
        if position is None:
            raise self._unavailable("it does not say where the topic begins")
        return int(position)

    def rewind(self) -> None:
        self._ask(lambda consumer: consumer.seek_to_beginning(self._partition))

    def close(self) -> None:
        consumers, self._consumer, self._asking = (self._consumer, self._asking), None, None
        for consumer in consumers:
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1_000)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        from kafka.errors import KafkaError

        try:
            return question(self._connected())
        except (KafkaError, OSError, ValueError, AssertionError) as error:
            raise self._unavailable(f"{type(error).__name__} {error}".strip()) from error

    def _connected(self) -> Any:
        if self._consumer is not None:
            return self._consumer
        from kafka import TopicPartition

        consumer = self._make("read_committed")
        try:
            partitions = consumer.partitions_for_topic(self._topic)
            if not partitions:
                raise TopicError(f"there is no topic {self._topic} at {self._bootstrap}")
            if len(partitions) > 1:
                raise TopicError(
                    f"topic {self._topic} has {len(partitions)} partitions: a change set is seen as a whole in one "
                    "only. Create it anew with one partition"
                )
            self._partition = TopicPartition(self._topic, 0)
            consumer.assign([self._partition])
            consumer.seek_to_beginning(self._partition)
        except BaseException:
            consumer.close(autocommit=False, timeout_ms=1_000)
            raise
        self._consumer = consumer
        return consumer

    def _make(self, isolation_level: str) -> Any:
        return self._make_consumer(
            bootstrap_servers=self._bootstrap.split(","),
            group_id=None,
            enable_auto_commit=False,
            isolation_level=isolation_level,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=max(self._timeout_ms, 2 * FETCH_WAIT_MS),
            bootstrap_timeout_ms=self._timeout_ms,
            reconnect_backoff_max_ms=1_000,
        )

    def _unavailable(self, why: str) -> RegistryUnavailable:
        return RegistryUnavailable(f"topic {self._topic} at {self._bootstrap} cannot be read: {why}")
