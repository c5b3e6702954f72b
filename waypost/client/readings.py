"""Reading whole tables: route and meta of a service in one MULTI, so that they belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redis

from waypost.client.connection import text, texts
from waypost.client.keys import Keys
from waypost.client.table import Reading
from waypost.model.names import ServiceKey

READ_TOGETHER = 16
"""Tables a caller should read in one MULTI. Redis serves nobody else meanwhile, so it is not all of them."""


def read_tables(
    client: redis.Redis, keys: Keys, services: Sequence[ServiceKey]
) -> Iterator[tuple[ServiceKey, Reading]]:
    """Read these tables at one moment. Raises what redis-py raises."""
    pipeline = client.pipeline(transaction=True)
    pipeline.get(keys.generation)
    for service in services:
        pipeline.hgetall(keys.route(service))
        pipeline.hgetall(keys.meta(service))
    life, *replies = pipeline.execute()
    for index, service in enumerate(services):
        routes, meta = (texts(reply) for reply in replies[2 * index : 2 * index + 2])
        yield (
            service,
            Reading(
                life=text(life),
                revision=int(meta.get("revision") or 0),
                endpoints=int(meta.get("endpoints") or 0),
                event_time=int(meta.get("event_time") or 0),
                routes=routes,
            ),
        )
