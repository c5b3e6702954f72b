"""Waiting for readers, on a real Valkey."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from waypost.client.draining import GONE_MS, Drained, behind, wait_for_readers, wait_until_left
from waypost.client.keys import Keys
from waypost.errors import RegistryUnavailable
from waypost.model.names import ServiceKey

PAY = ServiceKey("default", "payments")
NOW = 1_795_298_407_272


@pytest.fixture
def keys() -> Keys:
    return Keys(f"drain-{uuid.uuid4().hex}:")


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(valkey)
    yield client
    client.close()


def ack(client: redis.Redis, keys: Keys, reader: str, revision: int, at: int) -> None:
    client.hset(keys.readers(PAY), reader, json.dumps({"revision": revision, "at": at}))


def test_who_is_behind_and_alive_is_waited_for(client: redis.Redis, keys: Keys) -> None:
    ack(client, keys, "done", 7, NOW)
    ack(client, keys, "ahead", 9, NOW)
    ack(client, keys, "slow", 6, NOW - GONE_MS + 1)
    ack(client, keys, "gone", 6, NOW - GONE_MS)
    client.hset(keys.readers(PAY), "spoiled", "x")
    client.hset(keys.readers(PAY), "list", "[]")

    assert behind(client, keys, PAY, 7, NOW) == {"slow": 6}


def test_without_readers_nobody_waits(client: redis.Redis, keys: Keys) -> None:
    assert wait_for_readers(client, keys, PAY, 7, timedelta(seconds=60)).is_done


def test_it_ends_when_the_last_reader_has_moved_on(client: redis.Redis, keys: Keys) -> None:
    now = time.time_ns() // 1_000_000
    ack(client, keys, "slow", 6, now)
    found: list[bool] = []
    waits = threading.Thread(
        target=lambda: found.append(wait_for_readers(client, keys, PAY, 7, timedelta(seconds=60)).is_done)
    )
    waits.start()
    assert found == []
    ack(client, keys, "slow", 7, now)
    waits.join(60)

    assert found == [True]


def test_the_end_of_the_time_says_who_has_not(client: redis.Redis, keys: Keys) -> None:
    ack(client, keys, "slow", 6, time.time_ns() // 1_000_000)

    drained = wait_for_readers(client, keys, PAY, 7, timedelta(milliseconds=10))

    assert (drained.is_done, drained.waiting, drained.revision) == (False, {"slow": 6}, 7)


def test_a_redis_that_is_away_is_an_error_at_the_end(keys: Keys) -> None:
    nowhere = redis.Redis(port=9)
    with pytest.raises(RegistryUnavailable):
        wait_for_readers(nowhere, keys, PAY, 7, timedelta(milliseconds=10))


def test_who_does_not_know_the_revision_waits_until_the_table_has_dropped_it(client: redis.Redis, keys: Keys) -> None:
    now = time.time_ns() // 1_000_000
    client.hset(keys.meta(PAY), "revision", "6")
    client.hset(keys.route(PAY), "p-1", "{}")
    with pytest.raises(RegistryUnavailable, match="in the table of default/payments still"):
        wait_until_left(client, keys, PAY, "p-1", timedelta(0))
    ack(client, keys, "slow", 6, now)
    found: list[Drained] = []
    waits = threading.Thread(
        target=lambda: found.append(wait_until_left(client, keys, PAY, "p-1", timedelta(seconds=60)))
    )
    waits.start()
    pipeline = client.pipeline(transaction=True)
    pipeline.hdel(keys.route(PAY), "p-1")
    pipeline.hset(keys.meta(PAY), "revision", "7")
    pipeline.execute()
    assert waits.is_alive(), "one reader is behind"
    ack(client, keys, "slow", 7, now)
    waits.join(60)

    assert found == [Drained(revision=7, waiting={})]


def test_who_has_left_long_ago_is_waited_for_by_nobody(client: redis.Redis, keys: Keys) -> None:
    assert wait_until_left(client, keys, PAY, "p-1", timedelta(0)) == Drained(revision=0, waiting={})
