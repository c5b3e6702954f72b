"""The consumer: `python -m microservices.consumer`. It knows of providers only what the route table says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timezone

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from microservices import VERSION
from microservices.application import HEALTH, Drain, Json, health, make_application
from microservices.environment import consumer_settings
from microservices.failover import Failover, NobodyServed
from microservices.known_routes import KnownRoutes
from microservices.serving import exit_with, serve
from waypost.client.routes import RouteReader
from waypost.errors import SettingsError
from waypost.logs import configure as configure_logs

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(timezone.utc)


def make_consumer(routes: KnownRoutes, drain: Drain, now: Clock = _now) -> Starlette:
    """Return the consumer. It follows `routes` from its start to its end, and closes them."""
    # No proxy from the environment: a table holds addresses that are called directly or not at all.
    client = httpx.AsyncClient(trust_env=False)
    failover = Failover(routes.table, client)

    async def fetch(_request: Request) -> Json:
        try:
            served = await failover.get("/data")
        except NobodyServed as error:
            answer = {"status": "error", "reason": str(error), "time": rfc3339(now()), "version": VERSION}
            return Json(answer, 503, {"X-Attempts": str(error.tries)})
        answer = {"status": "success", "data": served.data, "time": rfc3339(now()), "version": VERSION}
        return Json(answer, headers={"X-Served-By": served.by, "X-Attempts": str(served.tries)})

    async def healthy(_request: Request) -> Json:
        table = routes.table()
        return health(drain, {"routes": {"endpoints": len(table.endpoints), "stale": table.stale}})

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        routes.start()
        try:
            async with client:
                yield
        finally:
            routes.close()

    return make_application([Route("/fetch", fetch), Route(HEALTH, healthy)], drain, lifespan)


def rfc3339(time: datetime) -> str:
    """Return a moment of UTC as RFC 3339 writes it, to the millisecond."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1_000:03d}Z"


def main() -> None:
    try:
        settings = consumer_settings(os.environ)
        own = settings.own
        configure_logs(own.log_level, own.names())
        reader = RouteReader(settings.redis_url, reader_id=own.instance)
        serve(own, lambda _port, drain: make_consumer(KnownRoutes(reader, settings.provider), drain))
    except SettingsError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
