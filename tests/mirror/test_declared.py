"""A mirror finds in the tables what one of its source has declared, and nothing of others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis

from waypost.client.connection import connect
from waypost.client.keys import Keys
from waypost.errors import RegistryUnavailable
from waypost.mirror.declared import declared_by
from waypost.model.lifecycle import Declared, Health, Lease, Status
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import encode_instance


def entry(port: int, **facts: Any) -> str:
    said = {
        "source": "etcd", "declared": Declared.UP, "health": Health.PASS, "lease": Lease.NONE, "status": Status.UP,
        **facts,
    }  # fmt: skip
    return encode_instance(
        address="10.0.0.1", port=port, weight=100, zone="", node="", metadata={}, lease_seconds=90, routable=True,
        reason="up", since=1, generation=1, **said,
    )  # fmt: skip


def test_only_its_own_sets_are_found(valkey: str) -> None:
    client, keys = redis.Redis.from_url(valkey), Keys("mirror-test:")
    pay, cart, other = ServiceKey("shop", "pay"), ServiceKey("shop", "cart"), ServiceKey("other", "pay")
    try:
        client.sadd(keys.services, *map(str, (pay, cart, other)))
        client.hset(
            keys.instances(pay),
            mapping={
                "mine": entry(1),
                "also-mine": entry(2),
                "of-another-set": entry(3, source="dns"),
                "registered": entry(4, lease=Lease.LIVE),
                "removed": entry(5, declared=Declared.REMOVED, status=Status.REMOVED),
                "spoiled": "{",
            },
        )
        client.hset(keys.instances(cart), mapping={"theirs": entry(6, source="dns")})
        client.hset(keys.instances(other), mapping={"elsewhere": entry(7)})

        assert declared_by(client, keys, "shop", "etcd") == {"pay": {("10.0.0.1", 1), ("10.0.0.1", 2)}}
    finally:
        for name in client.scan_iter("mirror-test:*"):
            client.delete(name)
        client.close()


def test_a_redis_that_is_away_is_an_error() -> None:
    client = connect("redis://127.0.0.1:1/0", timedelta(seconds=1))
    with pytest.raises(RegistryUnavailable):
        declared_by(client, Keys(), "shop", "etcd")
