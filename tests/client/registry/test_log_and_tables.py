"""What Waypost's back end does when a part of Waypost is away."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest

from tests.contracts.registry_contract import eventually
from waypost.client.event_sink import MemorySink
from waypost.client.registry.instance import Instance
from waypost.client.registry.keeping import Keeper
from waypost.client.registry.log_and_tables import WaypostRegistry
from waypost.errors import InvalidName, RegistryUnavailable, UnknownService

NOWHERE = "redis://127.0.0.1:9"
ONE = Instance(id="p-1", name="payments", address="10.1.2.3", port=8080)


def ops(sink: MemorySink) -> list[str]:
    return [json.loads(record.value)["op"] for record in sink.records]


def test_without_redis_nothing_is_written() -> None:
    sink = MemorySink()
    with WaypostRegistry(sink, NOWHERE) as registry:
        for call in (
            lambda: registry.register(ONE),
            lambda: registry.deregister("payments", "p-1"),
            lambda: registry.get_service("payments"),
            lambda: registry.list_services(),
            lambda: registry.am_i_registered("payments", "p-1"),
        ):
            with pytest.raises(RegistryUnavailable):
                call()
    assert sink.records == []


def test_a_watch_of_an_unreachable_store_says_that_it_is_stale() -> None:
    with WaypostRegistry(MemorySink(), NOWHERE) as registry, registry.watch("payments") as watch:
        assert watch.poll(timedelta(milliseconds=10)) == []
        eventually(lambda: watch.stale_since is not None)
        assert not watch.is_loaded


def test_a_registration_that_no_job_answers_is_taken_back(valkey: str) -> None:
    sink = MemorySink()
    prefix = f"reg-{uuid.uuid4().hex}:"
    with WaypostRegistry(sink, valkey, prefix=prefix, answer=timedelta(milliseconds=50)) as registry:
        with pytest.raises(RegistryUnavailable, match="did not answer"):
            registry.register(ONE)
        with pytest.raises(UnknownService):
            registry.discover("payments")

    assert ops(sink) == ["register", "deregister"]


def test_somebody_who_is_registered_is_not_taken_away_when_a_change_is_not_answered(valkey: str) -> None:
    sink = MemorySink()
    with WaypostRegistry(sink, valkey, prefix=f"reg-{uuid.uuid4().hex}:", answer=timedelta(0)) as registry:
        kept = Keeper("p-1", Unused(), timedelta(minutes=1))
        registry._kept["payments", "p-1"] = kept
        with pytest.raises(RegistryUnavailable, match="did not answer"):
            registry.register(ONE)
        assert registry._kept == {("payments", "p-1"): kept}

    assert ops(sink) == ["register"]


class Unused:
    def renew(self) -> bool:
        raise AssertionError

    def write(self) -> None:
        raise AssertionError


def test_a_log_that_is_away_is_an_error_and_nobody_beats(valkey: str) -> None:
    sink = MemorySink(failure=RegistryUnavailable("Kafka is away"))
    with WaypostRegistry(sink, valkey, prefix=f"reg-{uuid.uuid4().hex}:") as registry:
        with pytest.raises(RegistryUnavailable, match="Kafka is away"):
            registry.register(ONE)
        assert registry._kept == {}
    assert not sink.closed, "it was given, and is its giver's to close"


def test_a_namespace_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidName):
        WaypostRegistry(MemorySink(), NOWHERE, namespace="Not_One")
