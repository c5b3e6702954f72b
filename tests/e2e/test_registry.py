"""The contract of registries on the real thing: Kafka, Valkey, Flink and the route job."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from typing import Any

import pytest

from tests.contracts.registry_contract import RegistryContract, RegistryWorld, exactly, follow
from tests.e2e.tables import Tables
from waypost.client.event_sink import KafkaSink
from waypost.client.registrar import Registrar
from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import ServiceRegistry
from waypost.client.registry.log_and_tables import WaypostRegistry
from waypost.local.state import Stack
from waypost.model.events import Attributes

CEILING_S = 120


class WaypostWorld(RegistryWorld):
    def __init__(self, stack: Stack) -> None:
        self._sink, self._redis_url = KafkaSink(stack.kafka_bootstrap, timeout_s=CEILING_S), stack.redis_url
        self.registry = self.discoverer = self._opened()
        self.service = f"reg-{uuid.uuid4().hex[:8]}"

    def instance(self, number: int, **fields: Any) -> Instance:
        said: dict[str, Any] = {"weight": 50, "zone": "a", "metadata": {"version": "1"}, **fields}
        return Instance(id=f"{self.service}-{number}", name=self.service, address=f"10.1.0.{number}", port=8080, **said)

    def another(self) -> AbstractContextManager[ServiceRegistry]:
        return self._opened()

    def close(self) -> None:
        super().close()
        self._sink.close()

    def _opened(self) -> WaypostRegistry:
        return WaypostRegistry(self._sink, self._redis_url, answer=timedelta(seconds=CEILING_S))


class TestWaypost(RegistryContract):
    @pytest.fixture
    def world(self, stack: Stack) -> Iterator[WaypostWorld]:
        world = WaypostWorld(stack)
        yield world
        world.close()


def test_a_drain_waits_until_readers_have_moved_on(stack: Stack) -> None:
    service = f"drain-{uuid.uuid4().hex[:8]}"
    one = Instance(id=f"{service}-1", name=service, address="10.1.0.1", port=8080)
    patient = timedelta(seconds=CEILING_S)
    with (
        closing(KafkaSink(stack.kafka_bootstrap, timeout_s=CEILING_S)) as sink,
        WaypostRegistry(sink, stack.redis_url, answer=patient) as owner,
        WaypostRegistry(sink, stack.redis_url, answer=patient, reader_id=f"reader-of-{service}") as reader,
    ):
        owner.register(one)
        with reader.watch(service) as watch:
            follow(watch, exactly(one))
            drained = owner.drain(service, one.id, wait=True, timeout=patient)

            assert drained.is_done
            # Everybody has moved on: the reader knows already, without waiting.
            follow(watch, exactly())
            assert owner.am_i_registered(service, one.id)


@pytest.mark.parametrize("now_ms", [0, 4_300_000_000_000], ids=["1970", "2106"])
def test_a_clock_that_is_wrong_keeps_nobody_from_being_found(stack: Stack, tables: Tables, now_ms: int) -> None:
    service = f"clock-{uuid.uuid4().hex[:8]}"
    with Registrar(KafkaSink(stack.kafka_bootstrap, timeout_s=CEILING_S), now_ms=lambda: now_ms) as registrar:
        registrar.register(service, "i-1", Attributes(address="10.1.0.1", port=80, lease_seconds=600))
        registrar.register(service, "i-2", Attributes(address="10.1.0.2", port=80, lease_seconds=600))
        tables.wait_for(service, "i-1", "i-2")
        registrar.drain(service, "i-1")
        tables.wait_for(service, "i-2")
