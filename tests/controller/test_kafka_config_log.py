"""One transaction per write, and every failure of Kafka means one of two things: start over, or stop."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.errors import InvalidProducerEpochError, KafkaError, KafkaTimeoutError, ProducerFencedError

from tests.client.config_topics import T0, a_change_set
from waypost.client.config_feed import ConfigFeed, MemoryTopic
from waypost.controller.kafka_config_log import KafkaConfigLog
from waypost.errors import FencedError, RegistryUnavailable
from waypost.wire.config import PART_HEADER


class Future:
    def get(self, timeout: float) -> None: ...


class Producer:
    """Takes note of its calls; `fails` says which one raises what."""

    def __init__(self, calls: list[str], fails: dict[str, Exception], settings: dict[str, Any]) -> None:
        self._calls, self._fails, self.settings = calls, fails, settings
        self.sent: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_: object, **arguments: Any) -> Future:
            self._calls.append(name)
            if name == "send":
                self.sent.append(arguments)
            if name in self._fails:
                raise self._fails[name]
            return Future()

        return call


class World:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.made: list[Producer] = []
        self.log = KafkaConfigLog("broker:9092", source="configmaps", make_producer=self._make, make_feed=self._feed)

    def _make(self, **settings: Any) -> Producer:
        self.made.append(Producer(self.calls, self.fails, settings))
        return self.made[-1]

    @staticmethod
    def _feed(bootstrap: str, topic: str) -> ConfigFeed:
        return MemoryTopic().feed()


def test_a_write_is_one_transaction_with_every_part() -> None:
    world = World()
    world.log.take_over()
    world.log.write([a_change_set(T0, a="1", b=None), a_change_set(T0 + 1, c="1")])

    assert world.calls == ["init_transactions", "begin_transaction", "send", "send", "send", "commit_transaction"]
    [producer] = world.made
    assert producer.settings["transactional_id"] == "waypost-config-sync-service-config-configmaps"
    parts = [dict(record["headers"])[PART_HEADER] for record in producer.sent]
    assert parts == [f"1/2 shop/r@{T0}".encode(), f"2/2 shop/r@{T0}".encode(), f"1/1 shop/r@{T0 + 1}".encode()]


def caused_by(error: Exception) -> Exception:
    wrapped = KafkaError("the batch failed")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize("step", ["begin_transaction", "send", "commit_transaction"])
@pytest.mark.parametrize(
    "error",
    [
        ProducerFencedError(),
        InvalidProducerEpochError(),
        KafkaError(f"Cannot execute transactional method because we are in an error state: {ProducerFencedError()}"),
        caused_by(ProducerFencedError()),
    ],
    ids=["fenced", "epoch", "state", "cause"],
)
def test_a_newer_writer_means_stop(step: str, error: Exception) -> None:
    world = World()
    world.log.take_over()
    world.fails[step] = error

    with pytest.raises(FencedError):
        world.log.write([a_change_set(T0, a="1")])


@pytest.mark.parametrize("step", ["begin_transaction", "send", "commit_transaction"])
@pytest.mark.parametrize("error", [KafkaTimeoutError("no answer"), OSError("reset")], ids=["timeout", "os"])
def test_anything_else_means_take_over_again(step: str, error: Exception) -> None:
    world = World()
    world.log.take_over()
    world.fails[step] = error
    with pytest.raises(RegistryUnavailable, match="did not commit"):
        world.log.write([a_change_set(T0, a="1")])

    world.fails.clear()
    world.log.take_over()
    world.log.write([a_change_set(T0, a="1")])

    assert len(world.made) == 2
    assert world.calls[-5:] == ["close", "init_transactions", "begin_transaction", "send", "commit_transaction"]


def test_a_producer_that_cannot_be_closed_is_left() -> None:
    world = World()
    world.log.take_over()
    world.fails["close"] = KafkaTimeoutError("pending records")

    world.log.take_over()
    world.log.close()
    world.log.close()

    assert world.calls.count("close") == 2


def test_nothing_is_written_before_taking_over() -> None:
    world = World()

    with pytest.raises(RegistryUnavailable, match="not taken over"):
        world.log.write([a_change_set(T0, a="1")])
    assert world.made == []
