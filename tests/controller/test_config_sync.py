"""The syncer ends with a topic that says what the ConfigMaps say, through failures, restarts and rivals."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.conftest import eventually
from tests.model.config_objects import SCOPE, SOURCE, T0, a_config_map
from waypost.client.config_feed import MemoryTopic
from waypost.client.connection import Backoff
from waypost.controller.config_log import AT_ONCE, MemoryLog, Observed, observe, transactions
from waypost.controller.config_maps import ConfigMaps, Seen
from waypost.controller.config_sync import ConfigSync, RefusalsTold
from waypost.errors import FencedError, RegistryUnavailable
from waypost.model.change_sets import Change, ChangeSet, Plan
from waypost.model.configs import ConfigObject, Content
from waypost.wire.config import decode_config, encode_change_set


@dataclass
class Heard:
    """A `Telling`."""

    plans: list[Plan] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    configs: int = 0
    failures: int = 0

    def planned(self, plan: Plan) -> None:
        self.plans.append(plan)

    def written(self, change_sets: list[ChangeSet], configs: int) -> None:
        self.ids += [one.id for one in change_sets]
        self.configs = configs

    def failed(self) -> None:
        self.failures += 1


def seen(*objects: ConfigObject) -> Seen:
    return Seen(objects=objects, deleted=frozenset())


def a_sync(log: MemoryLog | UncertainLog, heard: Heard | None = None, found: ConfigMaps | None = None) -> ConfigSync:
    no_wait = Backoff(first=timedelta(0), ceiling=timedelta(0))
    return ConfigSync(found or ConfigMaps(), log, SCOPE, heard or Heard(), backoff=no_wait, now_ms=lambda: T0)


def texts(topic: MemoryTopic) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw in topic.records:
        record = decode_config(raw.key, raw.value)
        assert raw.key is not None
        if record is None:
            del found[raw.key.decode()]
        else:
            found[record.name] = record.value
    return found


def test_a_restart_writes_nothing_again_and_misses_nothing() -> None:
    topic = MemoryTopic()
    a_sync(MemoryLog(topic)).sync(seen(a_config_map("one", a="1"), a_config_map("two", a="1")))
    written = len(topic.records)

    heard = Heard()
    a_sync(MemoryLog(topic), heard).sync(seen(a_config_map("one", a="1"), a_config_map("three", a="1")))

    assert texts(topic) == {"shop/one/a": "1", "shop/three/a": "1"}
    assert len(topic.records) == written + 2  # one tombstone, one new
    assert heard.configs == 2


def test_a_revision_is_above_that_of_a_tombstone_before_the_restart() -> None:
    topic, log = MemoryTopic(), MemoryLog(MemoryTopic())
    log.topic = topic
    first = a_sync(log)
    for objects in ([a_config_map(a="1")], [], [a_config_map(a="1")], []):
        first.sync(seen(*objects))
    floor = observe(topic.feed()).floor

    a_sync(log).sync(seen(a_config_map(a="1")))

    last = decode_config(topic.records[-1].key, topic.records[-1].value)
    assert last is not None
    assert last.revision == floor + 1 == T0 + 4


def test_of_two_syncers_only_the_newer_writes() -> None:
    topic, writers = MemoryTopic(), list[object]()
    old, new = a_sync(MemoryLog(topic, writers=writers)), a_sync(MemoryLog(topic, writers=writers))
    old.sync(seen(a_config_map(a="1")))
    new.sync(seen(a_config_map(a="2")))

    with pytest.raises(FencedError):
        old.sync(seen(a_config_map(a="3")))

    assert texts(topic) == {"shop/app/a": "2"}


def test_a_syncer_that_is_fenced_ends() -> None:
    topic, writers, found = MemoryTopic(), list[object](), ConfigMaps()
    old = a_sync(MemoryLog(topic, writers=writers), found=found)
    old.sync(seen(a_config_map(a="1")))
    MemoryLog(topic, writers=writers).take_over()
    found.listed({one.key: one for one in [a_config_map(a="2")]})

    with pytest.raises(FencedError):
        old.run()


def test_an_outage_of_kafka_is_sat_out() -> None:
    topic, found, heard = MemoryTopic(), ConfigMaps(), Heard()
    log = MemoryLog(topic, failure=RegistryUnavailable("Kafka is away"))
    sync = a_sync(log, heard, found)
    running = threading.Thread(target=sync.run)
    running.start()
    try:
        found.listed({one.key: one for one in [a_config_map(a="1")]})
        eventually(lambda: heard.failures >= 3)
        found.applied(a_config_map(a="2"))
        log.failure = None
        eventually(lambda: texts(topic) == {"shop/app/a": "2"})
    finally:
        found.close()
        running.join(timeout=30)

    assert not running.is_alive()


class UncertainLog:
    """A log whose n-th write fails, the transaction committed or not; nobody is told which."""

    def __init__(self, topic: MemoryTopic, *, fails_at: int, committed: bool) -> None:
        self._inner = MemoryLog(topic)
        self._fails_at, self._committed = fails_at, committed
        self.writes = 0

    def take_over(self) -> Observed:
        return self._inner.take_over()

    def write(self, change_sets: Sequence[ChangeSet]) -> None:
        self.writes += 1
        if self.writes == self._fails_at:
            if self._committed:
                self._inner.write(change_sets)
            raise RegistryUnavailable("no answer to the commit")
        self._inner.write(change_sets)

    def close(self) -> None:
        """Nothing is open."""


_MAPS = st.builds(
    lambda name, text: a_config_map(name, a=text, b="same"), st.sampled_from(["m1", "m2", "m3"]), st.sampled_from("123")
)


@given(
    states=st.lists(st.lists(_MAPS, max_size=3, unique_by=lambda one: one.key), min_size=1, max_size=5),
    fails_at=st.integers(1, 5),
    committed=st.booleans(),
)
def test_a_write_of_unknown_outcome_is_neither_lost_nor_repeated(
    states: list[list[ConfigObject]], fails_at: int, committed: bool
) -> None:
    topic = MemoryTopic()
    sync = a_sync(UncertainLog(topic, fails_at=fails_at, committed=committed))
    for objects in states:
        try:
            sync.sync(seen(*objects))
        except RegistryUnavailable:
            sync._topic = None  # what `run` does
            sync.sync(seen(*objects))

        wanted = {SCOPE.name_of(one.key, key): text.text for one in objects for key, text in one.contents.items()}
        assert texts(topic) == wanted
    for before, after in zip(topic.records, topic.records[1:], strict=False):
        assert (before.key, before.value) != (after.key, after.value)


def test_what_cannot_be_read_counts_as_not_there_and_is_written_again() -> None:
    topic = MemoryTopic()
    a_sync(MemoryLog(topic)).sync(seen(a_config_map(a="1")))
    topic.records[0] = topic.records[0]._replace(value=b"{")

    a_sync(MemoryLog(topic)).sync(seen(a_config_map(a="1")))

    assert decode_config(topic.records[-1].key, topic.records[-1].value) is not None


def test_transactions_are_bounded_and_never_cut_a_change_set() -> None:
    def a_set(number: int, size: int) -> ChangeSet:
        return ChangeSet(id=f"shop@{number}", changes=(Change(name="n", revision=1, content=Content("x" * size)),))

    many = [a_set(number, 1) for number in range(AT_ONCE * 2 + 1)]
    large = [a_set(number, 999_000) for number in range(5)]

    assert [len(batch) for batch in transactions(many)] == [AT_ONCE, AT_ONCE, 1]
    assert [len(batch) for batch in transactions(large)] == [4, 1]
    assert [one for batch in transactions(many + large) for one in batch] == many + large
    assert list(transactions([])) == []


def test_a_refusal_is_told_once_per_version_of_its_config_map() -> None:
    told = RefusalsTold()
    waiting = a_sync(MemoryLog(MemoryTopic()))
    heard = Heard()
    waiting._telling = heard
    waiting.sync(seen(a_config_map(change_set="r1", size=2, a="1")))
    [plan] = heard.plans

    assert [one.reason for one in told.new(plan.refusals)] == ["incomplete"]
    assert told.new(plan.refusals) == []
    assert told.new(()) == []
    assert len(told.new(plan.refusals)) == 1


def test_the_wait_ends_with_a_change_or_the_end_and_not_before_a_list() -> None:
    found = ConfigMaps()
    found.again()

    assert found.wait(0) is None
    found.listed({})
    assert found.wait(0) == Seen(objects=(), deleted=frozenset())
    assert found.wait(0) is None
    found.close()
    assert found.wait() is None


def test_records_carry_the_source_they_belong_to() -> None:
    topic = MemoryTopic()
    a_sync(MemoryLog(topic)).sync(seen(a_config_map(a="1")))

    assert {one.source for one in observe(topic.feed()).published.values()} == {SOURCE}
    assert encode_change_set(ChangeSet(id="x@1", changes=()), SOURCE) == []
