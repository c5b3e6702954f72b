"""The contract of the syncer's log and of the feed of configurations, on the fake and on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.client.config_topics import T0, a_change_set
from tests.contracts.conftest import eventually
from waypost.client.config_feed import ConfigFeed, KafkaFeed, MemoryTopic, RawConfig, read_to_end
from waypost.controller.config_log import ConfigLog, MemoryLog
from waypost.controller.kafka_config_log import KafkaConfigLog
from waypost.errors import FencedError, RegistryUnavailable, TopicError
from waypost.topics import CONFIG, default_topics, ensure_topics

SOURCE = "configmaps"


@dataclass
class Backend:
    log: Callable[[], ConfigLog]
    feed: Callable[[], ConfigFeed]


def in_memory() -> Backend:
    topic, writers = MemoryTopic(), list[object]()
    return Backend(log=lambda: MemoryLog(topic, SOURCE, writers), feed=topic.feed)


def in_kafka(bootstrap: str) -> Backend:
    topic = f"service-config-{uuid.uuid4().hex[:8]}"
    ensure_topics(bootstrap, [default_topics({CONFIG: topic})[CONFIG]])
    return Backend(
        log=lambda: KafkaConfigLog(bootstrap, topic, source=SOURCE), feed=lambda: KafkaFeed(bootstrap, topic)
    )


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.e2e)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return in_memory() if request.param == "memory" else in_kafka(request.getfixturevalue("kafka"))


@pytest.fixture
def log(backend: Backend) -> Iterator[ConfigLog]:
    log = backend.log()
    yield log
    log.close()


def read(backend: Backend, count: int) -> list[RawConfig]:
    """Return everything committed, once it is `count` records: Kafka answers a commit before its readers see it."""
    feed = backend.feed()
    found: list[RawConfig] = []
    try:
        eventually(lambda: found.extend(read_to_end(feed)) or len(found) >= count, within=60.0)
        return found
    finally:
        feed.close()


def test_an_empty_topic_is_read_as_empty(backend: Backend, log: ConfigLog) -> None:
    observed = log.take_over()

    assert (dict(observed.published), observed.floor) == ({}, 0)
    assert read(backend, 0) == []


def test_what_is_written_is_what_the_next_one_finds(backend: Backend, log: ConfigLog) -> None:
    log.take_over()
    log.write([a_change_set(T0, a="1", b="1")])
    log.write([a_change_set(T0 + 1, a="2"), a_change_set(T0 + 2, b=None)])

    successor = backend.log()
    observed = successor.take_over()
    successor.close()

    assert {name: one.revision for name, one in observed.published.items()} == {"a": T0 + 1}
    assert observed.published["a"].source == SOURCE
    assert observed.published["a"].change_set == f"shop/r@{T0 + 1}"
    assert observed.floor == T0 + 2
    assert [(raw.key, raw.value is None) for raw in read(backend, 4)] == [
        (b"a", False), (b"b", False), (b"a", False), (b"b", True),
    ]  # fmt: skip


def test_an_older_writer_is_fenced_by_a_newer_one_and_writes_nothing_any_more(backend: Backend, log: ConfigLog) -> None:
    log.take_over()
    log.write([a_change_set(T0, a="1")])
    successor = backend.log()
    successor.take_over()
    successor.write([a_change_set(T0 + 1, a="2")])

    for _ in range(2):
        with pytest.raises(FencedError):
            log.write([a_change_set(T0 + 2, a="3")])
    successor.write([a_change_set(T0 + 3, a="4")])
    successor.close()

    assert len(read(backend, 3)) == 3


def test_a_writer_that_did_not_take_over_writes_nothing(backend: Backend, log: ConfigLog) -> None:
    with pytest.raises((RegistryUnavailable, FencedError)):
        log.write([a_change_set(T0, a="1")])

    assert read(backend, 0) == []


def test_a_feed_goes_on_where_it_was_and_can_begin_again(backend: Backend, log: ConfigLog) -> None:
    log.take_over()
    log.write([a_change_set(T0, a="1", b="1", c="1")])
    feed = backend.feed()
    found: list[RawConfig] = []

    eventually(lambda: found.extend(read_to_end(feed)) or len(found) == 3, within=60.0)
    log.write([a_change_set(T0 + 1, a="2")])
    eventually(lambda: found.extend(read_to_end(feed)) or len(found) == 4, within=60.0)
    assert [raw.key for raw in found] == [b"a", b"b", b"c", b"a"]
    assert feed.position() >= feed.end()
    feed.rewind()
    assert list(read_to_end(feed)) == found
    feed.close()
    feed.close()


def test_a_topic_that_cannot_hold_change_sets_together_is_refused(kafka: str) -> None:
    from kafka import KafkaAdminClient

    name = f"service-config-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}}, raise_errors=True)
    admin.wait_for_topics([name], timeout_ms=30_000)
    admin.close()

    with pytest.raises(TopicError, match="2 partitions"):
        KafkaFeed(kafka, name).end()
    with pytest.raises(TopicError, match="no topic"):
        KafkaFeed(kafka, f"{name}-missing").end()


def test_what_the_open_transaction_of_another_source_hides_is_waited_for(kafka: str) -> None:
    """Or a restarted syncer would write once more what its predecessor had committed."""
    from kafka import KafkaProducer

    topic = f"service-config-{uuid.uuid4().hex[:8]}"
    ensure_topics(kafka, [default_topics({CONFIG: topic})[CONFIG]])
    other = KafkaProducer(bootstrap_servers=kafka, transactional_id=uuid.uuid4().hex)
    looks: list[int] = []

    class Aborting(KafkaFeed):
        """The other transaction ends after the first look."""

        def end(self) -> int:
            found = super().end()
            if not looks:
                other.abort_transaction()
            looks.append(found)
            return found

    log = KafkaConfigLog(kafka, topic, source=SOURCE)
    successor = KafkaConfigLog(kafka, topic, source=SOURCE, make_feed=Aborting)
    try:
        log.take_over()
        other.init_transactions()
        other.begin_transaction()
        other.send(topic, key=b"other", value=b"x").get(timeout=30)
        log.write([a_change_set(T0, a="1")])
        observed = successor.take_over()
    finally:
        for one in (log, successor, other):
            one.close()

    assert looks[0] == 0, "nothing was readable at first"
    assert set(observed.published) == {"a"}
