"""Topics and witness against a real broker."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource

from waypost.topics import HEARTBEAT, check_topics, default_topics, ensure_topics
from waypost.witness import KafkaProducerForWitness, Witness

pytestmark = pytest.mark.e2e


def own_topics() -> dict[str, str]:
    return {role: f"{topic.name}-{uuid.uuid4().hex[:8]}" for role, topic in default_topics().items()}


def test_ensure_creates_and_mends_what_check_refuses(kafka: str) -> None:
    topics = default_topics(own_topics())
    assert len(check_topics(kafka, topics.values())) == len(topics)

    ensure_topics(kafka, topics)
    assert check_topics(kafka, topics.values()) == []

    admin = KafkaAdminClient(bootstrap_servers=kafka)
    name = topics[HEARTBEAT].name
    admin.alter_configs([ConfigResource("TOPIC", name, {"message.timestamp.type": "CreateTime"})])
    admin.close()
    deadline = time.monotonic() + 30
    while not (problems := check_topics(kafka, topics.values())):  # brokers answer a moment behind
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [problem.topic for problem in problems] == [name]
    ensure_topics(kafka, topics)
    assert check_topics(kafka, topics.values()) == []


def test_the_witness_reaches_every_partition_and_shard(kafka: str) -> None:
    topic = replace(default_topics(own_topics())[HEARTBEAT], partitions=3)
    ensure_topics(kafka, [topic])
    witness = Witness(connect=lambda: KafkaProducerForWitness(kafka, topic.name), shards=8)
    thread = threading.Thread(target=witness.run)
    thread.start()
    consumer = KafkaConsumer(topic.name, bootstrap_servers=kafka, auto_offset_reset="earliest", consumer_timeout_ms=200)
    shards: set[bytes] = set()
    partitions: set[int] = set()
    deadline = time.monotonic() + 60
    try:
        while (len(shards) < 8 or len(partitions) < 3) and time.monotonic() < deadline:
            for record in consumer:
                assert record.value == b"{}"
                shards.add(record.key)
                partitions.add(record.partition)
    finally:
        witness.stop()
        thread.join(timeout=30)
        consumer.close()

    assert not thread.is_alive()
    assert shards == {f"_witness/{i}".encode() for i in range(8)}
    assert partitions == {0, 1, 2}
