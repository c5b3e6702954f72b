"""`service-config` by way of a consumer that fails, and of a topic that is made anew: no pause goes unread.

The consumer is played; tests/e2e/test_repair_config.py reads a real broker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.model.repairs import T0
from waypost.model.refusals import Reason
from waypost.repair.configuration import EVERY_MS, Configured
from waypost.repair.kafka_config import KafkaConfig
from waypost.wire.config import encode_config
from waypost.wire.repair_config import Switch, switch_config

pytest.importorskip("kafka")

from kafka.errors import KafkaTimeoutError

Pair = tuple[bytes | None, bytes | None]
OTHER: Pair = (b"gateway/limits", b"{}")


def a_switch(enabled: bool, at: int) -> Pair:
    return encode_config(switch_config(Switch(enabled=enabled, by="anna", at=at)))


@dataclass
class Record:
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass
class Consumer:
    """Partitions as lists; a poll gives one record. `fails`: raised by the call of that name, once, when the consumer
    is that far."""

    logs: dict[int, list[Pair]]
    at: dict[Any, int] = field(default_factory=dict)
    fails: tuple[str, int, Exception] | None = None

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return set(self.logs)

    def assignment(self) -> set[Any]:
        return set(self.at)

    def assign(self, partitions: Iterable[Any]) -> None:
        self.at = {partition: self.at.get(partition, 0) for partition in partitions}

    def seek_to_beginning(self, *partitions: Any) -> None:
        self.at |= dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: Iterable[Any], timeout_ms: int) -> dict[Any, int]:
        self._fail("end_offsets")
        return {partition: len(self.logs[partition.partition]) for partition in partitions}

    def position(self, partition: Any, timeout_ms: int) -> int:
        self._fail("position")
        return self.at[partition]

    def poll(self, timeout_ms: int) -> dict[Any, list[Record]]:
        self._fail("poll")
        for partition, position in self.at.items():
            if position < len(self.logs[partition.partition]):
                self.at[partition] += 1
                return {partition: [Record(position, *self.logs[partition.partition][position])]}
        return {}

    def close(self, **_how: Any) -> None:
        pass

    def _fail(self, name: str) -> None:
        if self.fails is not None and self.fails[0] == name and self.fails[1] == sum(self.at.values()):
            error, self.fails = self.fails[2], None
            raise error


class Read:
    """The switch as the job sees it, a second later each time."""

    def __init__(self, consumer: Consumer) -> None:
        self.now = T0
        self.configured = Configured(lambda: KafkaConfig(lambda _level: consumer, "service-config"), lambda: self.now)

    def refuses(self) -> Reason | None:
        self.now += EVERY_MS
        return self.configured.control().refuses(self.now)


@pytest.mark.parametrize("error", [KafkaTimeoutError(), OSError("reset"), TypeError("None"), RuntimeError("closed")])
@pytest.mark.parametrize("call", ["poll", "position"])
def test_a_pause_that_was_read_before_an_error_is_not_lost(call: str, error: Exception) -> None:
    consumer = Consumer({0: [a_switch(True, 1)]})
    read = Read(consumer)
    assert read.refuses() is None

    consumer.logs[0] += [a_switch(False, 2), OTHER]
    consumer.fails = call, 2, error
    read.refuses()
    assert consumer.fails is None, "it was met"
    assert read.refuses() is Reason.KILL_SWITCH


@pytest.mark.parametrize("new", [[a_switch(False, 3)], [a_switch(False, 0)]])
def test_a_topic_made_anew_is_read_from_its_beginning(new: list[Pair]) -> None:
    consumer = Consumer({0: [a_switch(True, 2)] * 50})
    read = Read(consumer)
    assert read.refuses() is None

    consumer.logs[0] = new
    read.refuses()
    assert read.refuses() is Reason.KILL_SWITCH


@pytest.mark.parametrize("newer", [0, 1])
def test_of_two_partitions_the_higher_revision_counts(newer: int) -> None:
    """Partitions were added, and a name has moved: either is read first."""
    consumer = Consumer({newer: [a_switch(False, 9)], 1 - newer: [a_switch(True, 5)]})

    assert Read(consumer).refuses() is Reason.KILL_SWITCH


def test_a_partition_that_is_added_is_read() -> None:
    consumer = Consumer({0: [a_switch(True, 5)]})
    read = Read(consumer)
    assert read.refuses() is None

    consumer.logs[1] = [a_switch(False, 6)]
    assert read.refuses() is Reason.KILL_SWITCH
