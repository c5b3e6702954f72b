"""Who drains: the one thing that gateways want to know and route tables do not say.

An instance that drains has left the `route` hash at once, which is all that matters to those who pick endpoints. Envoy
wants to hear of it as well: an endpoint that it is told to be DRAINING gets no new requests but keeps its connections
and sticky sessions, one that is gone loses them. The `instances` hash knows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError

from waypost.client.connection import text
from waypost.client.keys import Keys
from waypost.errors import DecodeError
from waypost.model.lifecycle import Declared, Lease
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import KnownInstance, decode_instance

_log = logging.getLogger(__name__)

READ_TOGETHER = 64

_MARK = '"declared":"DRAINING"'
"""How the canonical JSON of every instance that drains says so: the others need not be decoded."""


def read_draining(
    client: redis.Redis, keys: Keys, services: Sequence[ServiceKey]
) -> dict[ServiceKey, dict[str, KnownInstance]]:
    """Return, for each of the services, its instances that were told to drain and whose lease has not ended.

    Raises what redis-py raises.
    """
    found: dict[ServiceKey, dict[str, KnownInstance]] = {}
    for start in range(0, len(services), READ_TOGETHER):
        batch = services[start : start + READ_TOGETHER]
        pipeline = client.pipeline(transaction=False)
        for service in batch:
            pipeline.hgetall(keys.instances(service))
        for service, reply in zip(batch, pipeline.execute(raise_on_error=False), strict=True):
            found[service] = {} if isinstance(reply, ResponseError) else _draining(service, reply)
    return found


def _draining(service: ServiceKey, instances: dict[Any, Any]) -> dict[str, KnownInstance]:
    found = {}
    for name, entry in instances.items():
        if _MARK not in (known := text(entry)):
            continue
        try:
            instance = decode_instance(known)
        except DecodeError as error:
            _log.warning("instance %s of %s cannot be read: %s", text(name), service, error)
            continue
        if instance.declared is Declared.DRAINING and instance.lease is not Lease.LAPSED:
            found[text(name)] = instance
    return found
