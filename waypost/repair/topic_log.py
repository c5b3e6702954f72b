"""Reading a stretch of a topic, and writing a record to one: for people's commands, not for jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from waypost.errors import RegistryUnavailable

TIMEOUT_S = 30.0


def read_since(bootstrap: str, topic: str, since_ms: int) -> list[tuple[bytes | None, bytes | None]]:
    """Return (key, value) of every record that was appended at `since_ms` or later; those of a key in their order.

    Raises RegistryUnavailable.
    """
    from kafka import KafkaConsumer, TopicPartition

    with _told(topic):
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap.split(","), group_id=None, enable_auto_commit=False,
            isolation_level="read_committed", request_timeout_ms=10_000,
        )  # fmt: skip
        try:
            numbers = consumer.partitions_for_topic(topic)
            if not numbers:
                raise RegistryUnavailable(f"there is no topic {topic}")
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            starts = consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            for partition in partitions:
                start = starts.get(partition)
                consumer.seek(partition, ends[partition] if start is None else start.offset)
            found: list[tuple[bytes | None, bytes | None]] = []
            deadline = time.monotonic() + TIMEOUT_S
            while any(consumer.position(partition) < ends[partition] for partition in partitions):
                if time.monotonic() > deadline:
                    raise RegistryUnavailable(f"{topic}: its end was not reached in {TIMEOUT_S:.0f} s")
                for batch in consumer.poll(timeout_ms=200).values():
                    found += [(record.key, record.value) for record in batch]
            return found
        finally:
            consumer.close(autocommit=False, timeout_ms=1000)


def write(bootstrap: str, topic: str, key: bytes, value: bytes) -> None:
    """Write one record and return when Kafka has it. Raises RegistryUnavailable."""
    write_all(bootstrap, topic, [(key, value)])


def write_all(bootstrap: str, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Write records one behind the other and return when Kafka has them all. Raises RegistryUnavailable."""
    from kafka import KafkaProducer

    with _told(topic):
        producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all", max_block_ms=10_000)
        try:
            for sent in [producer.send(topic, key=key, value=value) for key, value in records]:
                sent.get(timeout=TIMEOUT_S)
        finally:
            producer.close(timeout=2)


@contextmanager
def _told(topic: str) -> Iterator[Any]:
    from kafka.errors import KafkaError

    try:
        yield
    except (KafkaError, OSError) as error:
        raise RegistryUnavailable(f"{topic}: {error or type(error).__name__}") from error
