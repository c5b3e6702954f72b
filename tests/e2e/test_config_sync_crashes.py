"""kill -9 of a syncer at any step of its transaction leaves nobody with half of a change set, and nothing undone."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.contracts.conftest import eventually
from tests.e2e.config_sync_process import MEMBERS, STEPS
from waypost.client.config_feed import KafkaFeed, read_to_end
from waypost.client.config_subscriber import ConfigChange, ConfigSubscriber
from waypost.controller.kafka_config_log import KafkaConfigLog
from waypost.errors import FencedError
from waypost.model.change_sets import Change, ChangeSet
from waypost.model.configs import Content
from waypost.topics import CONFIG, default_topics, ensure_topics

CEILING = timedelta(seconds=60)


def publish(bootstrap: str, topic: str, release: str, step: str = "none") -> tuple[int, str]:
    """Publish a release by a process of its own; return its status and the last thing it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.config_sync_process", bootstrap, topic, release, step],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip() or done.stderr[-2000:]


@pytest.fixture
def topic(kafka: str) -> str:
    name = f"service-config-{uuid.uuid4().hex[:8]}"
    ensure_topics(kafka, [default_topics({CONFIG: name})[CONFIG]])
    return name


@dataclass
class Seen:
    """What a subscriber was told: the values it had after each change."""

    configs: dict[str, str] = field(default_factory=dict)
    moments: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, changes: tuple[ConfigChange, ...]) -> None:
        for change in changes:
            if change.after is None:
                del self.configs[change.name]
            else:
                self.configs[change.name] = change.after.value
        self.moments.append(dict(self.configs))


@contextmanager
def subscribed(bootstrap: str, topic: str, seen: Seen) -> Iterator[ConfigSubscriber]:
    subscriber = ConfigSubscriber(lambda: KafkaFeed(bootstrap, topic), on_change=seen)
    subscriber.start()
    try:
        assert subscriber.wait(CEILING)
        yield subscriber
    finally:
        subscriber.close()


def values(subscriber: ConfigSubscriber) -> set[str]:
    return {record.value for record in subscriber.snapshot().values()}


@pytest.mark.parametrize("step", STEPS)
def test_a_syncer_killed_at_any_step_leaves_a_whole_change_set(kafka: str, topic: str, step: str) -> None:
    assert publish(kafka, topic, "r1") == (0, "done")
    seen = Seen()
    with subscribed(kafka, topic, seen) as subscriber:
        eventually(lambda: values(subscriber) == {"r1"})

        assert publish(kafka, topic, "r2", step) == (-signal.SIGKILL, step)
        with subscribed(kafka, topic, Seen()) as late:
            assert values(late) in ({"r1"}, {"r2"})
            assert len(late.snapshot()) == MEMBERS
        assert publish(kafka, topic, "r2") == (0, "done")
        eventually(lambda: values(subscriber) == {"r2"})

    for moment in seen.moments:
        assert len(moment) == MEMBERS
        assert len(set(moment.values())) == 1
    assert [set(moment.values()) for moment in seen.moments] == [{"r1"}, {"r2"}]
    feed = KafkaFeed(kafka, topic)
    committed = [raw.key for raw in read_to_end(feed)]
    feed.close()
    assert len(committed) == 2 * MEMBERS, "what was committed by the dead one is not repeated"


def a_set(revision: int, value: str) -> ChangeSet:
    names = [f"shop/m{n}/a" for n in range(MEMBERS)]
    changes = tuple(Change(name=name, revision=revision, content=Content(value)) for name in names)
    return ChangeSet(id=f"shop/r@{revision}", changes=changes)


def test_a_zombie_in_the_middle_of_a_transaction_is_fenced_and_its_records_are_never_seen(
    kafka: str, topic: str
) -> None:
    from kafka import KafkaProducer

    made: list[KafkaProducer] = []

    def producer(**settings: object) -> KafkaProducer:
        made.append(KafkaProducer(**settings))
        return made[-1]

    zombie = KafkaConfigLog(kafka, topic, source="configmaps", make_producer=producer)
    successor = KafkaConfigLog(kafka, topic, source="configmaps")
    seen = Seen()
    zombie.take_over()
    zombie.write([a_set(1, "r1")])
    with subscribed(kafka, topic, seen) as subscriber:
        # It writes, and is paused before it commits.
        made[0].begin_transaction()
        made[0].send(topic, key=b"shop/m0/a", value=b"half").get(timeout=30)

        observed = successor.take_over()
        successor.write([a_set(2, "r2")])
        eventually(lambda: values(subscriber) == {"r2"})
        with pytest.raises(Exception, match=r"Fenced|InvalidProducerEpoch"):
            made[0].commit_transaction()
        with pytest.raises(FencedError):
            zombie.write([a_set(3, "r3")])
        successor.write([a_set(4, "r4")])
        eventually(lambda: values(subscriber) == {"r4"})

        assert subscriber.refused == 0, "a record that was never committed was read"
    zombie.close()
    successor.close()
    assert {one.revision for one in observed.published.values()} == {1}
    assert [set(moment.values()) for moment in seen.moments] == [{"r1"}, {"r2"}, {"r4"}]


def test_a_large_change_set_cut_by_many_polls_is_seen_at_once(kafka: str, topic: str) -> None:
    log = KafkaConfigLog(kafka, topic, source="configmaps")
    log.take_over()
    names = [f"shop/m/k{n:04}" for n in range(1_000)]  # a poll returns 500 at most
    seen = Seen()
    with subscribed(kafka, topic, seen) as subscriber:
        for revision in (1, 2):
            content = Content(str(revision) * 3_000)
            changes = tuple(Change(name=name, revision=revision, content=content) for name in names)
            log.write([ChangeSet(id=f"shop/r@{revision}", changes=changes)])
        eventually(lambda: values(subscriber) == {"2" * 3_000})
    log.close()

    assert [len(set(moment.values())) for moment in seen.moments] == [1, 1]
    assert [len(moment) for moment in seen.moments] == [1_000, 1_000]
