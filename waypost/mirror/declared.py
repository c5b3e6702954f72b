"""What a source has declared already, read from the tables, so that a mirror goes on where another ended."""

from __future__ import annotations

import contextlib
from typing import Any

import redis

from waypost.client.connection import text, texts
from waypost.client.keys import Keys
from waypost.errors import DecodeError, RegistryUnavailable
from waypost.mirror.sets import Endpoint, Endpoints
from waypost.model.lifecycle import Lease, Status
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import decode_instance

READ_TOGETHER = 64


def declared_by(client: redis.Redis, keys: Keys, namespace: str, source: str) -> dict[str, Endpoints]:
    """Return service → endpoints that are in the tables because sets of `source` list them. Raises RegistryUnavailable.

    An endpoint that another source has declared or registered too may be missing: the tables name one source for each.
    """
    try:
        members: Any = client.smembers(keys.services)
        services = sorted(name for each in members if (name := _name(text(each), namespace)))
        found: dict[str, Endpoints] = {}
        for start in range(0, len(services), READ_TOGETHER):
            pipeline = client.pipeline(transaction=False)
            batch = services[start : start + READ_TOGETHER]
            for service in batch:
                pipeline.hgetall(keys.instances(ServiceKey(namespace, service)))
            for service, entries in zip(batch, pipeline.execute(), strict=True):
                if those := _of_source(texts(entries), source):
                    found[service] = those
        return found
    except (redis.RedisError, OSError) as error:
        raise RegistryUnavailable(f"reading what {source} has declared: {error}") from error


def _name(member: str, namespace: str) -> str:
    of, _, service = member.partition("/")
    return service if of == namespace else ""


def _of_source(entries: dict[str, str], source: str) -> Endpoints:
    those: set[Endpoint] = set()
    for entry in entries.values():
        with contextlib.suppress(DecodeError):
            known = decode_instance(entry)
            if known.source == source and known.lease is Lease.NONE and known.status is not Status.REMOVED:
                those.add((known.address, known.port))
    return frozenset(those)
