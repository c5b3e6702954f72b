"""Follow a service: what is there, and everything that comes, changes and goes, until interrupted.

python main.py etcd://127.0.0.1:2379 payments
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from waypost.client.registry.aio import AsyncDiscoverer
from waypost.client.registry.opening import open_discoverer


async def follow(url: str, service: str) -> None:
    async with AsyncDiscoverer(open_discoverer(url)) as discoverer, discoverer.watch(service) as watch:
        async for event in watch:
            print(event.kind.value, event.instance.id, event.instance.address, event.instance.port, flush=True)


def main(url: str, service: str) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(url, service))


if __name__ == "__main__":
    main(*sys.argv[1:])
