"""A watch over HTTP, as server-sent events: what is there, then what comes, changes and goes.

    event: snapshot   {"service","instances":[…]}        first, and again after nothing: a reader replaces what it has
    event: add        {…the instance…}                   likewise update and delete
    event: stale      {"since": epoch ms or null}        the registry does not confirm it any more, or confirms it again
    : comment                                            every 15 s, so that a connection that is gone is noticed

A reader that was cut connects again and begins with a snapshot: it may miss what came and went meanwhile, and never
what is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson

from waypost.client.registry.aio import AsyncWatch
from waypost.client.registry.instance import Instance

QUIET_S = 15.0


def instance_document(instance: Instance) -> dict[str, Any]:
    """Write an instance for readers; the fields of `waypost discover -o json`."""
    return {
        "service": instance.name,
        "instance": instance.id,
        "address": instance.address,
        "port": instance.port,
        "weight": instance.weight,
        "status": instance.status.value,
        "zone": instance.zone,
        "metadata": dict(instance.metadata),
    }


async def events(watch: AsyncWatch, service: str, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the stream until it is over; see the module."""
    loop = asyncio.get_running_loop()
    has_begun, stale_since, spoke = False, None, loop.time()
    while not is_over():
        # Asked first: what a poll returns after it is all there is.
        is_loaded = watch.is_loaded
        changes = await watch.poll()
        said: list[bytes] = []
        if has_begun:
            said += [_event(each.kind.value, instance_document(each.instance)) for each in changes]
        elif is_loaded:
            has_begun = True
            those = [instance_document(each) for _, each in sorted(watch.snapshot.callable.items())]
            said.append(_event("snapshot", {"service": service, "instances": those}))
        if watch.stale_since != stale_since:
            stale_since = watch.stale_since
            said.append(_event("stale", {"since": stale_since}))
        if not said and loop.time() - spoke >= QUIET_S:
            said.append(b": still here\n\n")
        if said:
            spoke = loop.time()
            yield b"".join(said)


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))
