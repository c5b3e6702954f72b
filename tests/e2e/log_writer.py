"""Writes to the log as anybody could: plain records, no code of ours in between.

What a test says here is what the contracts promise to accept word for word.
"""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

REGISTRY = "service-registry"
HEARTBEAT = "service-heartbeat"
ISOLATION = "service-isolation"
DEAD_LETTER = "dead-letter"


class LogWriter:
    """A producer and a dead-letter reader on one cluster."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
        self._run = uuid.uuid4().hex
        self._ids = itertools.count()

    def record(self, topic: str, key: bytes | None, value: bytes | None) -> tuple[str, int, int]:
        """Write one record; return its topic, partition and offset."""
        meta = self._producer.send(topic, key=key, value=value).get(timeout=60)
        return topic, meta.partition, meta.offset

    def records(self, topic: str, sent: Iterable[tuple[bytes | None, bytes | None]]) -> list[tuple[str, int, int]]:
        """Write many records at once; return topic, partition and offset of each."""
        futures = [self._producer.send(topic, key=key, value=value) for key, value in sent]
        metas = [future.get(timeout=60) for future in futures]
        return [(topic, meta.partition, meta.offset) for meta in metas]

    def event(self, service: str, **fields: Any) -> str:
        """Write one registration event under the service's key; return its request id."""
        request_id = fields.setdefault("request_id", f"test-{self._run}-{next(self._ids)}")
        body = json.dumps({"service": service, **fields}).encode()
        self.record(REGISTRY, f"default/{service}".encode(), body)
        return str(request_id)

    def post(self, service: str, **fields: Any) -> None:
        """Write one registration event without waiting for the broker."""
        self._producer.send(
            REGISTRY, key=f"default/{service}".encode(), value=json.dumps({"service": service, **fields}).encode()
        )

    def register(self, service: str, instance: str, port: int, lease: int = 600, **fields: Any) -> str:
        return self.event(
            service,
            op="register",
            instance=instance,
            address="10.1.2.3",
            port=port,
            lease_seconds=lease,
            **fields,
        )

    def beat(self, key: str, value: str = '{"cpu":0.4}') -> None:
        """Write one heartbeat without waiting for the broker."""
        self._producer.send(HEARTBEAT, key=key.encode(), value=value.encode())

    def storm(self, name: str, services: int, instances: int, lease_s: int = 86_400) -> None:
        """Register so many instances of so many services `<name>-<number>`, all at once."""
        for number in range(instances):
            instance = {"instance": f"{name}-i{number}", "address": "10.1.2.3", "port": 8080, "lease_seconds": lease_s}
            self.post(f"{name}-{number % services}", **instance)
        self.flush()

    def flush(self) -> None:
        self._producer.flush(60)

    @contextmanager
    def beating(self, *instances: str, every_s: float = 0.5) -> Iterator[None]:
        """Beat for these instances until the block ends."""
        done = threading.Event()

        def run() -> None:
            while not done.wait(every_s):
                for instance in instances:
                    self.beat(instance)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return every dead letter written so far."""
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, group_id=None, enable_auto_commit=False)
        try:
            partitions = [TopicPartition(DEAD_LETTER, p) for p in consumer.partitions_for_topic(DEAD_LETTER) or ()]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            found: list[dict[str, Any]] = []
            while any(consumer.position(p) < ends[p] for p in partitions):
                for records in consumer.poll(timeout_ms=500).values():
                    found.extend(json.loads(r.value) for r in records)
            return found
        finally:
            consumer.close()

    def close(self) -> None:
        self._producer.close(10)
