"""The consumer against real providers and a real store, through every accident the store can have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
import structlog.testing

from microservices.application import Drain
from microservices.consumer import make_consumer, rfc3339
from microservices.known_routes import KnownRoutes
from tests.contracts.conftest import Server, valkey_binary
from tests.examples.asking import CEILING_S, serving
from tests.examples.tables import TableWriter
from waypost.client.connection import Backoff
from waypost.client.routes import RouteReader
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import Endpoint

PROVIDER = ServiceKey("default", "data-provider")
NOW = datetime(2026, 11, 22, 2, 41, 8, 62_999, tzinfo=timezone.utc)
HELLO = b'{"message":"Hello from provider service","source":"host-1"}'
GONE = Endpoint(address="127.0.0.1", port=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A store of the test's own; not started."""
    server = Server(valkey_binary(), tmp_path)
    yield server
    server.kill()


@asynccontextmanager
async def a_consumer(store: Server, drain: Drain | None = None) -> AsyncIterator[httpx.AsyncClient]:
    quick = Backoff(first=timedelta(milliseconds=5), ceiling=timedelta(milliseconds=50))
    routes = KnownRoutes(RouteReader(store.url, reader_id="c-1", backoff=quick), PROVIDER)
    app = make_consumer(routes, drain or Drain(), now=lambda: NOW)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://c", timeout=CEILING_S) as client,
    ):
        yield client


async def until(client: httpx.AsyncClient, path: str, holds: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Ask until the answer is as it should be; fail after a time no healthy machine needs."""
    async with asyncio.timeout(CEILING_S):
        while not holds(answer := await client.get(path)):
            await asyncio.sleep(0.01)
    return answer


def runs(test: Callable[[], Awaitable[None]]) -> None:
    async def running() -> None:
        await test()

    asyncio.run(running())


def ok(answer: httpx.Response) -> bool:
    return answer.status_code == 200


def routes_of(answer: httpx.Response) -> tuple[int, bool]:
    routes = answer.json()["routes"]
    return routes["endpoints"], routes["stale"]


def events_of(told: Sequence[Mapping[str, object]]) -> list[object]:
    return [line["event"] for line in told]


def test_it_hands_on_what_the_provider_says_byte_for_byte(store: Server) -> None:
    async def test() -> None:
        async with a_consumer(store) as client:
            answer = await until(client, "/fetch", ok)

            assert answer.content == (
                b'{"status":"success","data":{"message":"Hello from provider service","source":"host-1"},'
                b'"time":"2026-11-22T02:41:08.062Z","version":"v1.0.0"}'
            )
            assert answer.headers["x-served-by"] == "p-1"
            assert answer.headers["x-attempts"] == "1"
            assert answer.headers["content-type"] == "application/json"
            health = await client.get("/health")
            assert health.content == b'{"status":"healthy","routes":{"endpoints":1,"stale":false}}'

    store.start()
    writer = TableWriter(store.url, PROVIDER)
    with serving(HELLO) as endpoint:
        writer.publish(**{"p-1": endpoint})
        runs(test)
    writer.close()


def test_an_empty_table_is_a_503_with_the_reason(store: Server) -> None:
    async def test() -> None:
        async with a_consumer(store) as client:
            await until(client, "/health", lambda a: routes_of(a) == (0, False))
            answer = await client.get("/fetch")

        assert answer.status_code == 503
        assert answer.content == (
            b'{"status":"error","reason":"no endpoint in the table of default/data-provider",'
            b'"time":"2026-11-22T02:41:08.062Z","version":"v1.0.0"}'
        )
        assert answer.headers["x-attempts"] == "0"
        assert "x-served-by" not in answer.headers

    store.start()
    runs(test)


def test_without_redis_it_starts_says_why_and_recovers_by_itself(store: Server) -> None:
    async def test() -> None:
        async with a_consumer(store) as client:
            health = await client.get("/health")
            assert (health.status_code, routes_of(health)) == (200, (0, True))
            answer = await client.get("/fetch")
            assert answer.status_code == 503
            assert answer.json()["reason"].endswith("(Redis does not confirm the table)")

            store.start()
            writer = TableWriter(store.url, PROVIDER)
            with serving(HELLO) as endpoint:
                writer.publish(**{"p-1": endpoint})
                assert (await until(client, "/fetch", ok)).headers["x-served-by"] == "p-1"
            writer.close()

    runs(test)


def test_when_redis_goes_it_serves_from_the_last_table_and_says_that_it_is_stale(store: Server) -> None:
    async def test() -> None:
        async with a_consumer(store) as client:
            await until(client, "/fetch", ok)
            store.kill()
            health = await until(client, "/health", lambda a: routes_of(a)[1])

            assert (health.status_code, routes_of(health)) == (200, (1, True))
            assert ok(await client.get("/fetch"))
            async with asyncio.timeout(CEILING_S):
                while "routes-stale" not in events_of(told):
                    await asyncio.sleep(0.01)

            store.start()  # empty: a store that was wiped is not believed
            assert ok(await client.get("/fetch"))
            again = TableWriter(store.url, PROVIDER)
            again._revision += 1_000
            again.publish(**{"p-1": endpoint, "p-2": endpoint})
            await until(client, "/health", lambda a: routes_of(a) == (2, False))
            again.close()

    store.start()
    writer = TableWriter(store.url, PROVIDER)
    with serving(HELLO) as endpoint, structlog.testing.capture_logs() as told:
        writer.publish(**{"p-1": endpoint})
        runs(test)
    writer.close()

    staleness = [event for event in events_of(told) if event in ("routes-confirmed", "routes-stale")]
    assert staleness[:2] == ["routes-confirmed", "routes-stale"]


def test_it_fails_over_and_follows_the_table(store: Server) -> None:
    async def test() -> None:
        async with a_consumer(store) as client:
            await until(client, "/health", lambda a: routes_of(a) == (2, False))
            answers = [await client.get("/fetch") for _ in range(20)]
            assert {a.headers["x-served-by"] for a in answers} == {"p-1"}
            assert {a.headers["x-attempts"] for a in answers} == {"1", "2"}

            writer.publish(dead=GONE)
            await until(client, "/health", lambda a: routes_of(a) == (1, False))
            answer = await client.get("/fetch")
            assert answer.status_code == 503
            reason = "the only tried endpoint of default/data-provider failed: dead: cannot connect"
            assert answer.json()["reason"] == reason
            assert answer.headers["x-attempts"] == "1"

    store.start()
    writer = TableWriter(store.url, PROVIDER)
    with serving(HELLO) as endpoint:
        writer.publish(**{"p-1": endpoint, "dead": GONE})
        runs(test)
    writer.close()


def test_while_draining_it_serves_and_turns_health_checkers_away(store: Server) -> None:
    async def test() -> None:
        async with a_consumer(store, drain) as client:
            await until(client, "/fetch", ok)
            drain.begun = True

            assert ok(await client.get("/fetch"))
            health = await client.get("/health")
            assert (health.status_code, health.content) == (503, b'{"status":"draining"}')

    drain = Drain()
    store.start()
    writer = TableWriter(store.url, PROVIDER)
    with serving(HELLO) as endpoint:
        writer.publish(**{"p-1": endpoint})
        runs(test)
    writer.close()


@pytest.mark.parametrize("microsecond", [0, 999, 62_000, 999_999])
def test_the_time_is_rfc_3339(microsecond: int) -> None:
    at = NOW.replace(microsecond=microsecond)

    text = rfc3339(at)

    assert text.endswith("Z")
    assert at - datetime.fromisoformat(text) < timedelta(milliseconds=1)
