"""Subscribers see whole change sets only, keep what they know through outages, and say when it may be old."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from tests.client.config_topics import T0, a_change_set, commit, say
from tests.contracts.conftest import eventually
from waypost.client.config_feed import MemoryTopic
from waypost.client.config_subscriber import ConfigChange, ConfigSubscriber, OnChange
from waypost.errors import RegistryUnavailable

CEILING = timedelta(seconds=30)


class Heard:
    def __init__(self) -> None:
        self.calls: list[tuple[ConfigChange, ...]] = []

    def __call__(self, changes: tuple[ConfigChange, ...]) -> None:
        self.calls.append(changes)

    def names(self) -> list[list[str]]:
        return [[change.name for change in call] for call in self.calls]


@contextmanager
def subscribed(
    topic: MemoryTopic, on_change: OnChange | None = None, prefixes: tuple[str, ...] = ()
) -> Iterator[ConfigSubscriber]:  # fmt: skip
    subscriber = ConfigSubscriber(topic.feed, on_change=on_change, prefixes=prefixes)
    subscriber.start()
    try:
        yield subscriber
    finally:
        subscriber.close()


def texts(subscriber: ConfigSubscriber) -> dict[str, str]:
    return {name: record.value for name, record in subscriber.snapshot().items()}


def test_what_is_there_is_told_at_once_and_what_comes_change_set_by_change_set() -> None:
    topic, heard = MemoryTopic(), Heard()
    commit(topic, a_change_set(T0, a="1", b="1", c="1"))

    with subscribed(topic, heard) as subscriber:
        assert subscriber.wait(CEILING)
        assert texts(subscriber) == {"a": "1", "b": "1", "c": "1"}
        assert subscriber.stale_since is None
        commit(topic, a_change_set(T0 + 1, a="2", b=None, d="2"))
        eventually(lambda: len(heard.calls) == 2)

        assert heard.names() == [["a", "b", "c"], ["a", "b", "d"]]
        assert texts(subscriber) == {"a": "2", "c": "1", "d": "2"}
        gone = heard.calls[1][1]
        assert (gone.before is not None, gone.after, gone.change_set) == (True, None, f"shop/r@{T0 + 1}")


def test_no_look_from_outside_ever_finds_half_of_a_change_set() -> None:
    topic = MemoryTopic()
    names = [f"k{number}" for number in range(7)]  # the feed returns two at a time
    seen: list[set[str]] = []
    done = threading.Event()

    with subscribed(topic) as subscriber:
        assert subscriber.wait(CEILING)

        def look() -> None:
            while not done.is_set():
                seen.append({record.value for record in subscriber.snapshot().values()})

        looking = threading.Thread(target=look)
        looking.start()
        for release in range(30):
            commit(topic, a_change_set(T0 + release, **dict.fromkeys(names, str(release))))
        eventually(lambda: texts(subscriber) == dict.fromkeys(names, "29"))
        done.set()
        looking.join()

    assert all(len(values) <= 1 for values in seen)


def test_only_asked_for_names_are_kept_and_told() -> None:
    topic, heard = MemoryTopic(), Heard()

    with subscribed(topic, heard, prefixes=("shop/", "repair/policies")) as subscriber:
        commit(topic, a_change_set(T0, **{"shop/a/x": "1", "ops/a/x": "1"}))
        say(topic, "repair/control", "{}")
        say(topic, "repair/policies", "version: 1")
        eventually(lambda: len(subscriber.snapshot()) == 2)

    assert heard.names() == [["shop/a/x"], ["repair/policies"]]


def test_the_same_content_again_is_not_told() -> None:
    topic, heard = MemoryTopic(), Heard()
    commit(topic, a_change_set(T0, a="1"))

    with subscribed(topic, heard) as subscriber:
        assert subscriber.wait(CEILING)
        commit(topic, a_change_set(T0, "shop/again", a="1"))
        commit(topic, a_change_set(T0 + 1, b="1"))
        eventually(lambda: subscriber.get("b") is not None)

    assert heard.names() == [["a"], ["b"]]


def test_an_outage_leaves_everything_and_says_so() -> None:
    topic = MemoryTopic()
    commit(topic, a_change_set(T0, a="1"))

    with subscribed(topic) as subscriber:
        assert subscriber.wait(CEILING)
        topic.failure = RegistryUnavailable("Kafka is away")
        with topic.changed:
            topic.changed.notify_all()
        eventually(lambda: subscriber.stale_since is not None)

        assert texts(subscriber) == {"a": "1"}
        assert "away" in subscriber.problem
        topic.failure = None
        commit(topic, a_change_set(T0 + 1, a="2"))
        eventually(lambda: texts(subscriber) == {"a": "2"})
        assert (subscriber.stale_since, subscriber.problem) == (None, "")


def test_an_emptied_topic_is_not_believed() -> None:
    topic = MemoryTopic()
    commit(topic, a_change_set(T0, a="1"))

    with subscribed(topic) as subscriber:
        assert subscriber.wait(CEILING)
        with topic.changed:
            topic.records.clear()
            topic.failure = RegistryUnavailable("restarting")
            topic.changed.notify_all()
        eventually(lambda: subscriber.stale_since is not None)
        topic.failure = None
        eventually(lambda: "empty" in subscriber.problem)

        assert texts(subscriber) == {"a": "1"}
        commit(topic, a_change_set(T0 + 1, a="2"))
        eventually(lambda: texts(subscriber) == {"a": "2"})


def test_a_record_that_cannot_be_read_is_counted_and_the_last_good_value_stays() -> None:
    topic = MemoryTopic()
    commit(topic, a_change_set(T0, a="1"))

    with subscribed(topic) as subscriber:
        topic.commit([(b"a", b"{", []), (b"\xff", b"{}", [])])
        commit(topic, a_change_set(T0 + 1, b="1"))
        eventually(lambda: subscriber.get("b") is not None)

        assert texts(subscriber) == {"a": "1", "b": "1"}
        assert subscriber.refused == 2


def test_a_callback_that_fails_does_not_end_the_following() -> None:
    topic = MemoryTopic()

    def fail(_: tuple[ConfigChange, ...]) -> None:
        raise ValueError("broken")

    with subscribed(topic, fail) as subscriber:
        commit(topic, a_change_set(T0, a="1"))
        commit(topic, a_change_set(T0 + 1, b="1"))
        eventually(lambda: len(subscriber.snapshot()) == 2)
