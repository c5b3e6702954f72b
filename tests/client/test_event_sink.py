"""Many records at once: all of them are durable, or the caller is told."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.client.event_sink import KafkaSink, Record
from waypost.errors import RegistryUnavailable

RECORDS = [Record("alerts", b"k", name) for name in (b"a", b"b", b"c")]


class FakeFuture:
    is_done = True

    def __init__(self, producer: FakeProducer, value: bytes) -> None:
        self._producer, self._value = producer, value

    def get(self, timeout: float) -> None:
        assert timeout >= 0
        self._producer.waited.append(self._value)
        if self._value == self._producer.lost:
            raise TimeoutError("not in time")


class FakeProducer:
    """Takes records, and loses one of them."""

    lost: bytes | None = None

    def __init__(self, **_settings: Any) -> None:
        self.sent: list[bytes] = []
        self.waited: list[bytes] = []

    def send(self, _topic: str, *, key: bytes, value: bytes) -> FakeFuture:
        assert key == b"k"
        assert not self.waited, "all are sent before the first is waited for: one round trip and not one each"
        self.sent.append(value)
        return FakeFuture(self, value)

    def close(self, timeout: float) -> None: ...


def test_all_are_sent_and_every_one_is_waited_for() -> None:
    producer = FakeProducer()
    KafkaSink("localhost:1", make_producer=lambda **_: producer).write_all(RECORDS)

    assert producer.sent == producer.waited == [b"a", b"b", b"c"]


@pytest.mark.parametrize("lost", [b"a", b"b", b"c"])
def test_one_that_is_lost_is_told_whichever_it_is(lost: bytes) -> None:
    producer = FakeProducer()
    producer.lost = lost

    with pytest.raises(RegistryUnavailable, match="alerts"):
        KafkaSink("localhost:1", make_producer=lambda **_: producer).write_all(RECORDS)


class SilentFuture:
    """Of a record about which the producer never says anything."""

    is_done = False

    def get(self, timeout: float) -> None:
        raise TimeoutError(f"nothing within {timeout} s")


class Sender:
    def __init__(self) -> None:
        self.ended = False

    def force_close(self) -> None:
        self.ended = True


class SilentProducer:
    """As kafka-python's when it waits for an id that never comes: `close` raises, too."""

    def __init__(self) -> None:
        self._sender = Sender()

    def send(self, _topic: str, *, key: bytes, value: bytes) -> SilentFuture:
        return SilentFuture()

    def close(self, timeout: float) -> None:
        raise TimeoutError("cannot flush")


def test_a_producer_that_is_silent_for_ever_is_replaced() -> None:
    silent, good = SilentProducer(), FakeProducer()
    made: list[Any] = [good, silent]
    sink = KafkaSink("localhost:1", make_producer=lambda **_: made.pop())

    with pytest.raises(RegistryUnavailable, match="nothing within"):
        sink.write("alerts", b"k", b"a")
    sink.write("alerts", b"k", b"b")

    assert good.sent == [b"b"]
    assert silent._sender.ended, "what it holds must not come after later records"


def test_a_producer_that_says_what_is_late_is_kept() -> None:
    producer = FakeProducer()
    producer.lost = b"a"
    made: list[Any] = [producer]
    sink = KafkaSink("localhost:1", make_producer=lambda **_: made.pop())

    with pytest.raises(RegistryUnavailable, match="not in time"):
        sink.write("alerts", b"k", b"a")
    producer.waited.clear()
    sink.write("alerts", b"k", b"b")

    assert producer.sent == [b"a", b"b"]
