"""An agent in this process, on fakes: a log in a list, a registry in memory, and its API asked without a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from starlette.types import ASGIApp

from waypost.agent.application import Api, Rules
from waypost.agent.lookups import Lookups
from waypost.agent.metering import Meters
from waypost.agent.openapi import DOCUMENT
from waypost.agent.prober import Prober
from waypost.agent.proxy import REPEATS, Proxy
from waypost.agent.roster import Roster
from waypost.agent.routing import make_application
from waypost.agent.teller import Teller
from waypost.client.connection import Backoff
from waypost.client.draining import Drained
from waypost.client.event_sink import MemorySink
from waypost.client.registry.memory import MemoryRegistry
from waypost.errors import RegistryUnavailable
from waypost.metrics import Origin
from waypost.metrics_server import ProcessMetrics
from waypost.wire.endpoint import KnownInstance

CEILING_S = 60.0


class FixedTables:
    """What the tables say of the agent's own instances, as the test has it."""

    def __init__(self) -> None:
        self.instances: dict[tuple[str, str], KnownInstance] = {}
        self.left: dict[tuple[str, str], Drained] = {}

    def known(self, service: str, instance: str) -> KnownInstance | None:
        return self.instances.get((service, instance))

    def wait_until_left(self, service: str, instance: str, timeout: timedelta) -> Drained:
        if (service, instance) not in self.left:
            raise RegistryUnavailable("it is in the table still")
        return self.left[service, instance]


class Agent:
    """Everything but the process."""

    def __init__(self, *, has_tables: bool = True, allow_exec: bool = False) -> None:
        self.sink, self.registry = MemorySink(), MemoryRegistry()
        self.tables = FixedTables()
        roster = Roster("shop", "agent", jitter=lambda: 0.9)
        self.teller = Teller(
            roster, self.sink, namespace="shop", node="n1", backoff=Backoff(ceiling=timedelta(milliseconds=10))
        )
        self.prober = Prober(
            lambda: self.teller.read(list),
            lambda who, number, passed: self.teller.note(lambda roster, now: roster.note(who, number, passed, now)),
        )
        self.teller.on_change = self.prober.wake
        self.lookups = Lookups(self.registry, repeats=REPEATS) if has_tables else None
        self.meters = Meters(ProcessMetrics(Origin.AGENT), self.teller, self.prober)
        rules = Rules(namespace="shop", node="n1", zone="a", allow_exec=allow_exec)
        self.api = Api(self.teller, self.lookups, self.tables if has_tables else None, self.meters, rules)

    @contextlib.asynccontextmanager
    async def application(self) -> AsyncIterator[ASGIApp]:
        proxy = None if self.lookups is None else Proxy(self.lookups, self.meters.proxied)
        try:
            yield make_application(self.api, proxy)
        finally:
            if proxy is not None:
                await proxy.close()

    def ask(self, body: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        """Return what a coroutine makes of the agent's answers."""

        async def go() -> Any:
            async with (
                self.application() as app,
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url="http://agent", timeout=CEILING_S
                ) as client,
            ):
                return await asyncio.wait_for(body(client), CEILING_S)

        return asyncio.run(go())

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def once(client: httpx.AsyncClient) -> httpx.Response:
            return await client.request(method, path, **more)

        answer: httpx.Response = self.ask(once)
        return answer


@contextlib.contextmanager
def an_agent(**settings: Any) -> Iterator[Agent]:
    agent = Agent(**settings)
    agent.teller.start()
    agent.prober.start()
    try:
        yield agent
    finally:
        agent.api.close()
        agent.prober.close()
        agent.teller.close()
        if agent.lookups is not None:
            agent.lookups.close()


def valid(answer: httpx.Response, path: str, method: str | None = None) -> Any:
    """Return the JSON of an answer, which must be as the OpenAPI document says for this path."""
    operation = DOCUMENT["paths"][path][(method or answer.request.method).lower()]
    described = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
    schema = described["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())
    return answer.json()
