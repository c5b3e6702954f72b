"""Sets reach the log through any outage, each service's last one, never with an older time than before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.contracts.conftest import eventually
from waypost.client.connection import Backoff
from waypost.client.event_sink import MemorySink
from waypost.errors import RegistryUnavailable
from waypost.mirror.declaring import Declaring
from waypost.mirror.sets import Endpoints
from waypost.model.events import MAX_SET_ENDPOINTS, SetEvent
from waypost.model.stamp import Stamp
from waypost.wire.registry import decode_registration

CEILING = timedelta(seconds=30)
ONE, TWO = ("10.0.0.1", 80), ("10.0.0.2", 80)
T0 = 1_795_298_407_272


@dataclass
class World:
    sink: MemorySink = field(default_factory=MemorySink)
    now_ms: int = T0
    counted: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.declaring = Declaring(
            self.sink,
            namespace="shop",
            source="etcd",
            declared={"old": frozenset({ONE})},
            backoff=Backoff(first=timedelta(0), ceiling=timedelta(0)),
            told=lambda sets, endpoints: self.counted.append((sets, endpoints)),
            now_ms=lambda: self.now_ms,
        )

    def want(self, **sets: Endpoints) -> None:
        self.declaring.want(sets)
        assert self.declaring.wait(CEILING)

    def events(self) -> list[SetEvent]:
        found = [decode_registration(record.value, Stamp(self.now_ms)) for record in self.sink.records]
        return [event for event in found if isinstance(event, SetEvent)]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.declaring.start()
    yield world
    world.declaring.close()


def test_a_set_is_declared_whole_under_its_source(world: World) -> None:
    world.want(pay=frozenset({TWO, ONE}))

    (event,) = world.events()
    assert (str(event.service), event.endpoints, event.healthy, event.source) == (
        "shop/pay", (ONE, TWO), True, "etcd",
    )  # fmt: skip
    assert event.last_updated == T0 // 1_000
    assert world.sink.records[0].key == b"shop/pay"
    assert world.counted == [(1, 3)]


def test_what_was_declared_before_is_not_declared_again_and_can_be_taken_back(world: World) -> None:
    world.want(old=frozenset({ONE}))
    assert world.sink.records == []
    world.want(old=frozenset())

    assert [event.endpoints for event in world.events()] == [()]


def test_an_outage_costs_one_set_per_service(world: World) -> None:
    world.sink.failure = RegistryUnavailable("no broker")
    for n in range(100):
        world.declaring.want({"pay": frozenset({("10.0.0.1", n + 1)})})
    world.sink.failure = None

    assert world.declaring.wait(CEILING)
    assert world.events()[-1].endpoints == (("10.0.0.1", 100),)
    assert len(world.events()) <= 2  # the one under way when Kafka came back, and the last


def test_a_clock_that_is_set_back_does_not_make_a_set_look_old(world: World) -> None:
    world.want(pay=frozenset({ONE}))
    world.now_ms = T0 - 3_600_000
    world.want(pay=frozenset({TWO}))

    assert [event.last_updated for event in world.events()] == [T0 // 1_000] * 2


def test_a_set_that_is_too_large_leaves_the_one_before(world: World) -> None:
    world.want(pay=frozenset({ONE}))
    world.want(pay=frozenset(("10.0.0.1", n) for n in range(1, MAX_SET_ENDPOINTS + 2)))

    assert [event.endpoints for event in world.events()] == [(ONE,)]


def test_closing_ends_a_retry(world: World) -> None:
    world.sink.failure = RegistryUnavailable("no broker")
    world.declaring.want({"pay": frozenset({ONE})})
    eventually(lambda: world.declaring._backoff.failures >= 2)
    world.declaring.close()
