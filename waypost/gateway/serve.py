"""The process: `waypost gateway-feed`. It follows, serves, projects, and ends in order on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import threading
from dataclasses import dataclass

import uvicorn

from waypost.client.connection import connect
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.client.routes import TIMEOUT, RouteReader
from waypost.gateway.application import make_application
from waypost.gateway.feed import Feed
from waypost.gateway.projection import Projection
from waypost.gateway.rules import Rules
from waypost.serving import SIGNALS, Server, listen

_log = logging.getLogger(__name__)

END_S = 3
"""How long answers under way may take when the process ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. `traefik_redis` None: no projection."""

    redis_url: str
    prefix: str = DEFAULT_PREFIX
    host: str = "127.0.0.1"
    port: int
    rules: Rules
    traefik_redis: str | None = None
    root: str = ""


def run(settings: Settings) -> None:
    """Serve until told to stop. Call it on the main thread. Raises SettingsError."""
    keys = Keys(settings.prefix)
    feed = Feed(
        RouteReader(settings.redis_url, prefix=settings.prefix),
        connect(settings.redis_url, TIMEOUT),
        settings.rules,
        keys=keys,
    )
    threads = [threading.Thread(target=feed.run, name="feed")]
    projection = None
    if settings.traefik_redis is not None:
        projection = Projection(connect(settings.traefik_redis, TIMEOUT), settings.root, settings.rules, feed)
        threads.append(threading.Thread(target=projection.run, name="projection"))
    _allow_many_connections()
    with listen(settings.host, settings.port) as listener:
        for thread in threads:
            thread.start()
        try:
            asyncio.run(_serve(feed, settings.rules, listener))
        finally:
            feed.stop()
            if projection is not None:
                projection.stop()
            for thread in threads:
                thread.join()
    _log.info("ended")


async def _serve(feed: Feed, rules: Rules, listener: socket.socket) -> None:
    app = make_application(feed, rules)
    server = Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=END_S,
        )
    )

    def stop(number: signal.Signals) -> None:
        _log.info("ending on %s", number.name)
        app.state.release()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    _log.info("serving on %s", ":".join(map(str, listener.getsockname()[:2])))
    await server.serve(sockets=[listener])


def _allow_many_connections() -> None:
    """Every held question of Envoy, one per cluster, is a connection; the usual 1,024 files are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
