"""The face of registries for asyncio: the same core, called in threads of its own.

The threads are not those of the event loop's default pool, which is small: a few watches would hold all of them. A
watch has one thread while somebody waits for it, and a cancelled wait lets it go within half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from waypost.client.registry.feed import POLL, InstanceEvent, ServiceSnapshot, Watch
from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import Discoverer, ServiceRegistry

T = TypeVar("T")
S = TypeVar("S", bound="AsyncDiscoverer")

THREADS = 8
"""Calls under way at once; more wait for their turn."""


class AsyncWatch:
    """A watch whose events are awaited. Use it in one task."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._is_closed = False

    async def poll(self, timeout: timedelta = POLL) -> list[InstanceEvent]:
        """As `Watch.poll`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._watch.poll, timeout)

    @property
    def snapshot(self) -> ServiceSnapshot:
        """As `Watch.snapshot`."""
        return self._watch.snapshot

    @property
    def stale_since(self) -> int | None:
        """As `Watch.stale_since`."""
        return self._watch.stale_since

    @property
    def is_loaded(self) -> bool:
        """As `Watch.is_loaded`."""
        return self._watch.is_loaded

    async def __aiter__(self) -> AsyncIterator[InstanceEvent]:
        """Yield events until `close`."""
        while not self._is_closed:
            for event in await self.poll():
                yield event

    async def close(self) -> None:
        """As `Watch.close`."""
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._watch.close)
        self._pool.shutdown(wait=False)


class AsyncDiscoverer:
    """`Discoverer` for asyncio; owns and closes the one it is given."""

    def __init__(self, discoverer: Discoverer) -> None:
        self._discoverer = discoverer
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="registry")

    async def get_service(self, service: str) -> ServiceSnapshot:
        """As `Discoverer.get_service`."""
        return await self._call(self._discoverer.get_service, service)

    async def discover(self, service: str) -> tuple[Instance, ...]:
        """As `Discoverer.discover`."""
        return await self._call(self._discoverer.discover, service)

    async def list_services(self) -> tuple[str, ...]:
        """As `Discoverer.list_services`."""
        return await self._call(self._discoverer.list_services)

    @contextlib.asynccontextmanager
    async def watch(self, service: str, *, after: ServiceSnapshot | None = None) -> AsyncIterator[AsyncWatch]:
        """As `Discoverer.watch`; closed when the block ends."""
        watch = AsyncWatch(await self._call(self._discoverer.watch, service, after=after))
        try:
            yield watch
        finally:
            await watch.close()

    async def close(self) -> None:
        """As `Discoverer.close`."""
        await asyncio.get_running_loop().run_in_executor(None, self._discoverer.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self: S) -> S:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        call = functools.partial(function, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


class AsyncRegistry(AsyncDiscoverer):
    """`ServiceRegistry` for asyncio; owns and closes the one it is given."""

    def __init__(self, registry: ServiceRegistry) -> None:
        super().__init__(registry)
        self._registry = registry

    async def register(self, instance: Instance) -> None:
        """As `ServiceRegistry.register`."""
        await self._call(self._registry.register, instance)

    async def update(self, service: str, instance: str, **changes: Any) -> None:
        """As `ServiceRegistry.update`."""
        await self._call(self._registry.update, service, instance, **changes)

    async def deregister(self, service: str, instance: str) -> None:
        """As `ServiceRegistry.deregister`."""
        await self._call(self._registry.deregister, service, instance)

    async def am_i_registered(self, service: str, instance: str) -> bool:
        """As `ServiceRegistry.am_i_registered`."""
        return await self._call(self._registry.am_i_registered, service, instance)
