"""The life of a service, from the first request it can answer to its deregistration.

    listen ─► register, beat … ─► [signal] drain ─► serve on for DRAIN_SECONDS ─► stop ─► deregister ─► exit 0
                                                        a second signal stops at once

The table first, the socket last: while callers still hold the old table, their calls are served. A process that is
killed does none of this; its lease ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

import structlog
import uvicorn
from starlette.applications import Starlette

from microservices import VERSION
from microservices.addresses import listen, own_address
from microservices.application import Drain
from microservices.environment import ServiceSettings
from waypost.client.event_sink import KafkaSink
from waypost.client.registration import Registrant, Registration
from waypost.errors import RegistryUnavailable, SettingsError
from waypost.model.events import Attributes

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SOURCE = "microservices"
"""Under which the services register."""
FINISH_S = 6
"""How long requests under way may take after the socket is closed: a little more than the consumer's longest."""
AT_ONCE_S = 0.5
"""How long the server may take to end when it need not wait for requests."""

MakeApp = Callable[[int, Drain], Starlette]


def serve(settings: ServiceSettings, make_app: MakeApp) -> None:
    """Serve `make_app(port, drain)` and keep it registered until a signal comes. Raises SettingsError."""
    address = settings.advertise_address or own_address(settings.kafka_bootstrap)
    with listen(address, settings.port) as listener:
        port = int(listener.getsockname()[1])
        drain = Drain()
        sink = KafkaSink(
            settings.kafka_bootstrap,
            timeout_s=settings.kafka_timeout_seconds,
            client_id=settings.instance,
        )
        registration = Registration(sink, _registrant(settings, address, port))
        app = make_app(port, drain)
        asyncio.run(_Life(settings, app, listener, registration, drain).run(address, port))
    try:
        sink.close()
    except RegistryUnavailable as error:
        structlog.stdlib.get_logger().warning("left-without-kafka", reason=str(error))


def exit_with(error: SettingsError) -> NoReturn:
    """End the process as one that cannot run like this; a person has to act, so it is said in plain words."""
    print(error, file=sys.stderr)
    sys.exit(2)


def _registrant(settings: ServiceSettings, address: str, port: int) -> Registrant:
    return Registrant(
        service=settings.service,
        instance=settings.instance,
        source=SOURCE,
        attributes=Attributes(
            address=address,
            port=port,
            lease_seconds=settings.lease_seconds,
            metadata={"environment": settings.environment, "version": VERSION},
        ),
    )


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",  # entered below: uvicorn would not leave it when it is told to stop at once
        log_config=None,  # its loggers pass their lines on to ours
        access_log=False,  # ours has the duration
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=FINISH_S,
    )


class _Server(uvicorn.Server):
    """uvicorn without its own idea of signals: it would stop at the first one, and not exit with 0."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.accepts.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Life:
    """See the module."""

    def __init__(
        self,
        settings: ServiceSettings,
        app: Starlette,
        listener: socket.socket,
        registration: Registration,
        drain: Drain,
    ) -> None:
        self._settings = settings
        self._app = app
        self._server = _Server(_config(app))
        self._listener = listener
        self._registration = registration
        self._drain = drain
        self._told_to_leave = asyncio.Event()
        self._told_again = asyncio.Event()
        self._log = structlog.stdlib.get_logger()

    async def run(self, address: str, port: int) -> None:
        self._take_signals()
        async with self._app.router.lifespan_context(self._app):
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            await _first(serving, self._server.accepts.wait())
            self._log.info("serving", address=address, port=port, version=VERSION)
            self._registration.start()
            await _first(serving, self._told_to_leave.wait())
            await self._leave_table(serving)
            await self._stop(serving)
            await asyncio.to_thread(self._registration.leave)
        self._log.info("left", lost_beats=self._registration.lost_beats)
        if not serving.cancelled():
            serving.result()  # raises what ended it, if anything did

    async def _leave_table(self, serving: asyncio.Task[None]) -> None:
        grace = self._settings.drain.total_seconds()
        self._drain.begun = True
        self._log.info("draining", drain_seconds=grace)
        drained = asyncio.create_task(asyncio.to_thread(self._registration.drain))
        await _first(serving, drained, self._told_again.wait())
        if drained.done():
            self._log.info("drained", acknowledged=drained.result())
        await _first(serving, self._told_again.wait(), seconds=grace)

    async def _stop(self, serving: asyncio.Task[None]) -> None:
        self._log.info("stopping", at_once=self._told_again.is_set())
        self._server.should_exit = True
        await _first(serving, self._told_again.wait())
        self._server.force_exit = self._told_again.is_set()
        # From Python 3.12 on uvicorn waits for open connections even when forced.
        await _first(serving, seconds=AT_ONCE_S)
        if serving.cancel():
            await _first(serving)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        self._log.info("signal", signal=number.name)
        if self._told_to_leave.is_set():
            self._told_again.set()
            # Whoever sends a third one means it.
            for each in SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(each)
        self._told_to_leave.set()


async def _first(*things: asyncio.Task[Any] | Coroutine[Any, Any, Any], seconds: float | None = None) -> None:
    """Wait until one of these is done, this long at most. Tasks run on, coroutines that were started here are ended."""
    started = [asyncio.ensure_future(thing) for thing in things]
    try:
        await asyncio.wait(started, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for thing, task in zip(things, started, strict=True):
            if task is not thing:
                task.cancel()
