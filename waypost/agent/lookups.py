"""What the agent knows of other services: tables of the registry, kept here from the first question on.

Each service that was asked for is followed by a thread of its own for as long as the agent runs, so their number is
bounded: whoever may speak to the agent may ask for any name.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from waypost.client.balancers import PowerOfTwo, ZoneAware
from waypost.client.cache import Table
from waypost.client.discovery import DiscoveryManager
from waypost.client.registry.instance import Instance, checked_service
from waypost.client.registry.interface import Discoverer
from waypost.errors import WaypostError

T = TypeVar("T")

MAX_SERVICES = 256
THREADS = 4
"""Questions to the registry under way at once; those about tables that are kept need none."""


class TooManyServices(WaypostError):
    """As many services are followed as may be; nobody can do anything but ask another agent."""


class Lookups:
    """See the module. For one event loop; owns the registry and closes it."""

    def __init__(
        self, registry: Discoverer, *, zone: str = "", file: Path | None = None, repeats: tuple[type[Exception], ...]
    ) -> None:
        self.registry = registry
        self._manager = DiscoveryManager(
            registry,
            make_balancer=(lambda: ZoneAware(zone, PowerOfTwo())) if zone else PowerOfTwo,
            file=file,
            repeats=repeats,
        )
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
        self._lock = threading.Lock()
        self._followed: set[str] = set()

    async def table(self, service: str) -> Table:
        """Return the table of a service, stale or not. Raises InvalidName, TooManyServices."""
        self._admit(service)
        if service in self._manager.follows():
            return self._manager.table(service)
        return await self.ask(self._manager.table, service)

    async def pick(self, service: str, key: str | None) -> Instance:
        """Return one instance to call. Raises CallFailed when there is none, and as `table`."""
        self._admit(service)
        return await self.ask(lambda: self._manager.pick(service, key=key))

    async def call(self, service: str, function: Callable[[Instance], Awaitable[T]]) -> T:
        """Return what `function` returns for the first instance that answers. Raises CallFailed, and as `table`."""
        await self.table(service)
        return await self._manager.acall(service, function)

    async def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that waits for the registry."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def close(self) -> None:
        """End everything."""
        self._pool.shutdown()
        self._manager.close()

    def _admit(self, service: str) -> None:
        checked_service(service)
        with self._lock:
            if service not in self._followed and len(self._followed) >= MAX_SERVICES:
                raise TooManyServices(f"this agent follows {MAX_SERVICES} services already")
            self._followed.add(service)
