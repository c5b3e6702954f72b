"""Sums over the tables, on a real server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from waypost.client.connection import connect
from waypost.client.keys import Keys
from waypost.controller.counts import Counts, read_counts
from waypost.errors import RegistryUnavailable
from waypost.model.names import ServiceKey


@pytest.fixture
def server(valkey: str) -> Iterator[redis.Redis]:
    with connect(valkey, timedelta(seconds=30)) as client:
        yield client


@pytest.fixture
def keys() -> Keys:
    return Keys(f"t{secrets.token_hex(4)}:")


def put(server: redis.Redis, keys: Keys, name: str, **meta: object) -> None:
    service = ServiceKey("shop", name)
    server.sadd(keys.services, str(service))
    if meta:
        server.hset(keys.meta(service), mapping={name: str(value) for name, value in meta.items()})


def test_nothing_is_counted_as_nothing(server: redis.Redis, keys: Keys) -> None:
    assert read_counts(server, keys.prefix) == Counts()


def test_services_are_added_up_in_any_number(server: redis.Redis, keys: Keys) -> None:
    for index in range(501):
        put(server, keys, f"s{index}", endpoints=2, protected=int(index == 7), window_end=1_000 + index)

    assert read_counts(server, keys.prefix) == Counts(services=501, endpoints=1_002, protected=1, last_window_ms=1_500)


def test_what_somebody_wrote_by_hand_counts_as_nothing(server: redis.Redis, keys: Keys) -> None:
    put(server, keys, "odd", endpoints="many", window_end="-5", protected="yes")
    put(server, keys, "bare")
    server.sadd(keys.services, "no-slash", b"\xff/\xfe", "9" * 400)

    assert read_counts(server, keys.prefix) == Counts(services=5)


def test_other_installations_are_not_counted(server: redis.Redis, keys: Keys) -> None:
    put(server, Keys(f"x{keys.prefix}"), "theirs", endpoints=9)

    assert read_counts(server, keys.prefix) == Counts()


def test_a_server_that_refuses_is_said_to_be_away(server: redis.Redis, keys: Keys) -> None:
    server.set(keys.services, "of another type")

    with pytest.raises(RegistryUnavailable, match="does not answer"):
        read_counts(server, keys.prefix)
