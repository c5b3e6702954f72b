"""`service-config` in Kafka, read whole and then as it grows.

Only committed records count. An answer that never comes is told (`ConfigUnreadable`) and not taken for silence: the
brokers are asked for the end of the topic at each reading. So is what may be hidden: behind a transaction that is
neither committed nor aborted nobody sees anything, a switch neither, until Kafka ends it after its timeout.

    records    | committed | open transaction | switch: off |
                           ▲ a reader gets as far as here   ▲ what was written: not reached, so not known

A reading that takes too long goes on with the next one. After any other failure, and in a topic that was made anew,
everything is read again: nobody knows what was missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from waypost.client.kafka_consumer import kafka_consumer
from waypost.repair.configuration import ConfigUnreadable, Reading

PATIENCE_S = 2.0
"""For one reading. A stream waits for it, at most once a second, and only while Kafka does not answer."""

Pair = tuple[bytes | None, bytes | None]


class KafkaConfig:
    """A `ConfigFeed`. `connect` makes a consumer of kafka-python's without a group, for an isolation level. Only names
    that begin with `prefix` are returned."""

    def __init__(
        self, connect: Callable[[str], Any], topic: str, *, prefix: str = "", patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._connect, self._topic, self._patience_s, self._clock = connect, topic, patience_s, clock
        self._prefix = prefix.encode()
        self._consumer: Any = None
        self._written: Any = None
        """Never polled: it is asked how far the topic goes, committed or not."""
        self._waiting: list[tuple[Any, int, Pair]] = []
        """What was received and not returned yet: partition, offset, record."""
        self._failed = False
        self._whole = True
        """Whether the next records that are returned are all there are."""

    def read(self) -> Reading:
        try:
            records = self._records()
        except ConfigUnreadable:
            raise
        except Exception as error:  # whatever it is: the consumer may have gone on without telling
            self._failed = True
            raise ConfigUnreadable(f"{self._topic}: {type(error).__name__} {error}".strip()) from error
        whole, self._whole = self._whole, False
        return Reading(whole, records)

    def close(self) -> None:
        for consumer in (self._consumer, self._written):
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1000)
        self._consumer = self._written = None

    def _records(self) -> list[Pair]:
        deadline = self._clock() + self._patience_s
        if self._written is None:
            self._written = self._connect("read_uncommitted")
        if self._consumer is None:
            self._consumer = self._connect("read_committed")
        partitions = self._assigned(self._consumer)
        written = self._ends(self._written, partitions)
        if any(self._position(partition) > end for partition, end in written.items()):
            self._from_the_beginning(partitions)  # it is shorter than it was, so it is another topic
        while not self._reached(written, ends := self._ends(self._consumer, partitions)):
            if self._clock() >= deadline:
                raise ConfigUnreadable(f"{self._topic}: its end was not reached in {self._patience_s:.0f} s")
            self._receive()
        # Beyond that end a transaction may have been received in part.
        found = [record for partition, offset, record in self._waiting if offset < ends[partition]]
        self._waiting = [one for one in self._waiting if one[1] >= ends[one[0]]]
        return found

    def _reached(self, written: Mapping[Any, int], ends: Mapping[Any, int]) -> bool:
        """Return whether everything that was `written` is decided, and everything up to `ends` received."""
        return all(end >= written[partition] and self._position(partition) >= end for partition, end in ends.items())

    def _ends(self, consumer: Any, partitions: list[Any]) -> Mapping[Any, int]:
        ends: Mapping[Any, int] = consumer.end_offsets(partitions, timeout_ms=int(self._patience_s * 1000))
        return ends

    def _position(self, partition: Any) -> int:
        return self._consumer.position(partition, timeout_ms=1000) or 0

    def _receive(self) -> None:
        for partition, batch in self._consumer.poll(timeout_ms=100).items():
            self._waiting += [
                (partition, record.offset, (record.key, record.value))
                for record in batch
                if (record.key or b"").startswith(self._prefix)
            ]

    def _assigned(self, consumer: Any) -> list[Any]:
        """Return all partitions; after a failure, and when there are more than before, they are read from the beginning
        again."""
        from kafka import TopicPartition

        numbers = consumer.partitions_for_topic(self._topic)
        if not numbers:
            raise ConfigUnreadable(f"there is no topic {self._topic}")
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        if self._failed or consumer.assignment() != set(partitions):
            consumer.assign(partitions)
            self._from_the_beginning(partitions)
        return partitions

    def _from_the_beginning(self, partitions: list[Any]) -> None:
        self._consumer.seek_to_beginning(*partitions)
        self._waiting, self._failed, self._whole = [], False, True


def consumer_of(bootstrap: str, security: Mapping[str, Any] | None = None) -> Callable[[str], Any]:
    """Return what makes a consumer of an isolation level; `security` as of `waypost.kafka_security`."""

    def connect(isolation_level: str) -> Any:
        return kafka_consumer(
            bootstrap_servers=bootstrap.split(","),
            group_id=None,
            enable_auto_commit=False,
            isolation_level=isolation_level,
            auto_offset_reset="earliest",
            request_timeout_ms=5_000,
            fetch_max_wait_ms=100,  # the question how far the topic goes waits behind a fetch that finds nothing
            bootstrap_timeout_ms=5_000,
            allow_auto_create_topics=False,
            **(security or {}),
        )

    return connect
