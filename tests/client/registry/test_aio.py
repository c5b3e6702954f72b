"""The asyncio face does what the core does, and its waits can be cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from waypost.client.copies import EventKind
from waypost.client.registry.aio import THREADS, AsyncRegistry
from waypost.client.registry.instance import Instance
from waypost.client.registry.memory import MemoryRegistry
from waypost.errors import InvalidPort, UnknownService

ONE = Instance(id="p-1", name="payments", address="10.1.2.3", port=8080)
TWO = replace(ONE, id="p-2")


def test_every_verb() -> None:
    async def run() -> None:
        async with AsyncRegistry(MemoryRegistry()) as registry:
            with pytest.raises(UnknownService):
                await registry.discover("payments")
            with pytest.raises(InvalidPort):
                await registry.register(replace(ONE, port=0))
            await registry.register(ONE)
            await registry.update("payments", "p-1", weight=5)
            assert await registry.discover("payments") == (replace(ONE, weight=5),)
            assert await registry.list_services() == ("payments",)
            assert (await registry.get_service("payments")).instances.keys() == {"p-1"}
            await registry.deregister("payments", "p-1")
            assert not await registry.am_i_registered("payments", "p-1")

    asyncio.run(run())


def test_a_watch_yields_events_and_goes_on() -> None:
    async def run() -> None:
        async with AsyncRegistry(MemoryRegistry()) as registry:
            await registry.register(ONE)
            async with registry.watch("payments") as watch:
                async for event in watch:
                    assert event.instance == ONE
                    break
                snapshot = watch.snapshot
                assert watch.stale_since is None
            await registry.register(TWO)
            async with registry.watch("payments", after=snapshot) as watch:
                async for event in watch:
                    assert (event.kind, event.instance) == (EventKind.ADD, TWO)
                    break

    asyncio.run(run())


def test_many_waiting_watches_hold_up_nobody_and_can_be_cancelled() -> None:
    async def wait(registry: AsyncRegistry, service: str) -> None:
        async with registry.watch(service) as watch:
            async for _ in watch:
                raise AssertionError("nobody registers there")

    async def run() -> None:
        async with AsyncRegistry(MemoryRegistry()) as registry:
            waits = [asyncio.create_task(wait(registry, f"nobody-{n}")) for n in range(5 * THREADS)]
            await registry.register(ONE)
            assert await registry.discover("payments") == (ONE,)
            for each in waits:
                each.cancel()
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(run())
