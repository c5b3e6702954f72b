"""Reading whole tables: route and meta of a service in one MULTI, so that they belong together.

What one service's keys hold is nobody's word but theirs: a hash that is none, or a revision that is no number, spoils
the reading of that service alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError

from waypost.client.connection import text, texts
from waypost.client.keys import Keys
from waypost.client.table import Reading
from waypost.model.names import ServiceKey

READ_TOGETHER = 16
"""Tables a caller should read in one MULTI. Redis serves nobody else meanwhile, so it is not all of them."""


def read_tables(
    client: redis.Redis, keys: Keys, services: Sequence[ServiceKey]
) -> Iterator[tuple[ServiceKey, Reading | None]]:
    """Read these tables at one moment; None for one that cannot be read. Raises what redis-py raises."""
    pipeline = client.pipeline(transaction=True)
    pipeline.get(keys.generation)
    for service in services:
        pipeline.hgetall(keys.route(service))
        pipeline.hgetall(keys.meta(service))
    life, *replies = pipeline.execute(raise_on_error=False)
    if isinstance(life, ResponseError):
        raise life
    for index, service in enumerate(services):
        yield service, _reading(text(life), *replies[2 * index : 2 * index + 2])


def _reading(life: str, routes: Any, meta: Any) -> Reading | None:
    if isinstance(routes, ResponseError) or isinstance(meta, ResponseError):
        return None
    try:
        routes, meta = texts(routes), texts(meta)
        return Reading(
            life=life,
            revision=int(meta.get("revision") or 0),
            endpoints=int(meta.get("endpoints") or 0),
            event_time=int(meta.get("event_time") or 0),
            routes=routes,
        )
    except ValueError:  # no number, or no UTF-8
        return None
