"""The configuration of repairs in a real broker: whole, committed, and known not to be known."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kafka import KafkaProducer

from tests.e2e.tables import eventually
from tests.model.repairs import T0
from waypost.errors import RegistryUnavailable
from waypost.model.kill_switch import STALE_MS
from waypost.model.refusals import Reason
from waypost.repair.configuration import EVERY_MS, ConfigUnreadable, Configured
from waypost.repair.kafka_config import KafkaConfig, consumer_of
from waypost.repair.topic_log import read_since, write
from waypost.topics import CONFIG, default_topics, ensure_topics
from waypost.wire.config import ConfigRecord, encode_config
from waypost.wire.repair_config import POLICIES, Switch, switch_config

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PARTITIONS = 3
"""The topic has one; a reader of orders copes with any number."""
Pair = tuple[bytes | None, bytes | None]


def policies(version: str) -> Pair:
    return encode_config(ConfigRecord(name=POLICIES, revision=1, value=f'version: "{version}"\npolicies: []\n'))


def switch(enabled: bool) -> Pair:
    return encode_config(switch_config(Switch(enabled=enabled, by="anna", at=T0)))


@pytest.fixture
def topic(kafka: str) -> str:
    made = replace(default_topics()[CONFIG], name=f"config-{uuid.uuid4().hex[:8]}", partitions=PARTITIONS)
    ensure_topics(kafka, [made])
    return made.name


@pytest.fixture
def nobody_there(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """An address where nothing listens. kafka-python does not close the sockets of attempts that it gave up: whoever
    uses this ignores the warning, and it is not left to whichever test comes next. A log record of the error would
    keep them until this test is over."""
    caplog.set_level(logging.CRITICAL, "kafka")
    yield "127.0.0.1:1"
    gc.collect()


gives_up = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def feed(kafka: str, topic: str) -> Iterator[KafkaConfig]:
    opened = KafkaConfig(consumer_of(kafka), topic, patience_s=20.0)
    yield opened
    opened.close()


def test_it_is_read_whole_and_then_as_it_grows(kafka: str, topic: str, feed: KafkaConfig) -> None:
    assert list(feed.read().records) == []
    for n in range(50):
        write(kafka, topic, f"other/{n}".encode(), b"x")
    write(kafka, topic, *policies("1"))  # type: ignore[arg-type]

    first = list(feed.read().records)
    write(kafka, topic, *policies("2"))  # type: ignore[arg-type]

    assert len(first) == 51
    assert list(feed.read().records) == [policies("2")]
    assert list(feed.read().records) == []
    again = KafkaConfig(consumer_of(kafka), topic, patience_s=20.0)
    assert sorted(again.read().records, key=str) == sorted([*first, policies("2")], key=str)
    again.close()


def test_what_is_not_committed_does_not_count(kafka: str, topic: str, feed: KafkaConfig) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    impatient = KafkaConfig(consumer_of(kafka), topic, patience_s=3.0)
    try:
        for record, commits in ((policies("lost"), False), (policies("kept"), True)):
            producer.begin_transaction()
            producer.send(topic, key=record[0], value=record[1])
            producer.send(topic, key=b"other/a", value=b"x")
            producer.flush()
            with pytest.raises(ConfigUnreadable):
                impatient.read()
            if commits:
                producer.commit_transaction()
            else:
                producer.abort_transaction()

        kept = [(b"other/a", b"x"), policies("kept")]
        assert sorted(feed.read().records, key=str) == kept
        found: list[Pair] = []

        def goes_on() -> bool:
            with contextlib.suppress(ConfigUnreadable):
                found.extend(impatient.read().records)
                return True
            return False

        eventually(goes_on)
        assert sorted(found, key=str) == kept, "what was received before it gave up is not lost"
    finally:
        producer.close()
        impatient.close()


def test_a_switch_behind_an_open_transaction_is_not_overlooked_for_longer_than_it_promises(
    kafka: str, topic: str
) -> None:
    """A syncer that died in a transaction hides for up to its timeout whatever is written after it."""
    now = [T0]
    configured = Configured(lambda: KafkaConfig(consumer_of(kafka), topic, patience_s=5.0), lambda: now[0])
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()

    def refuses(after_ms: int) -> Reason | None:
        now[0] += after_ms
        return configured.control().refuses(now[0])

    try:
        eventually(lambda: refuses(EVERY_MS) is None)
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.send(topic, key=b"other/a", value=b"x", partition=partition)
        producer.flush()
        write(kafka, topic, *switch(False))  # type: ignore[arg-type]

        assert refuses(STALE_MS) is None
        assert refuses(EVERY_MS) is Reason.CONFIG_UNKNOWN
        producer.abort_transaction()
        eventually(lambda: refuses(EVERY_MS) is Reason.KILL_SWITCH)
    finally:
        producer.close()
        configured.close()


def test_the_switch_and_the_policies_are_seen_within_seconds(kafka: str, topic: str) -> None:
    configured = Configured(
        lambda: KafkaConfig(consumer_of(kafka), topic, patience_s=20.0), lambda: int(time.time() * 1000)
    )
    try:
        eventually(lambda: configured.control().refuses(int(time.time() * 1000)) is None)
        write(kafka, topic, *switch(False))  # type: ignore[arg-type]
        eventually(lambda: configured.control().refuses(int(time.time() * 1000)) is Reason.KILL_SWITCH)
        write(kafka, topic, *policies("2"))  # type: ignore[arg-type]
        eventually(lambda: configured.current().policies.guards.version == "2")
        write(kafka, topic, *switch(True))  # type: ignore[arg-type]
        eventually(lambda: configured.control().refuses(int(time.time() * 1000)) is None)
    finally:
        configured.close()


@gives_up
@pytest.mark.parametrize("missing", ["topic", "broker"])
def test_what_is_not_there_is_unreadable(kafka: str, nobody_there: str, missing: str) -> None:
    address = nobody_there if missing == "broker" else kafka
    threads = threading.active_count()
    feed = KafkaConfig(consumer_of(address), f"absent-{uuid.uuid4().hex[:8]}")

    with pytest.raises(ConfigUnreadable):
        feed.read()

    feed.close()
    assert threading.active_count() <= threads, "each try would leave one more"


@gives_up
def test_a_stretch_of_a_topic_is_read_by_time(kafka: str, topic: str, nobody_there: str) -> None:
    for n in range(5):
        write(kafka, topic, b"k", b"%d" % n)

    assert [value for _, value in read_since(kafka, topic, 0)] == [b"0", b"1", b"2", b"3", b"4"]
    assert read_since(kafka, topic, int(time.time() * 1000) + 3_600_000) == []
    with pytest.raises(RegistryUnavailable):
        read_since(kafka, f"absent-{uuid.uuid4().hex[:8]}", 0)
    with pytest.raises(RegistryUnavailable):
        write(nobody_there, topic, b"k", b"v")
