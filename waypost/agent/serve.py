"""The process: `waypost agent`. It takes over, serves, and ends in order on SIGTERM: drain, wait, deregister.

While it ends it goes on serving: instances beside it may still have calls to make, and their beats to be kept alive by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from waypost.agent.application import Api, Rules, untold_of
from waypost.agent.lookups import Lookups
from waypost.agent.metering import Meters
from waypost.agent.prober import Prober
from waypost.agent.proxy import REPEATS, Proxy
from waypost.agent.roster import Roster
from waypost.agent.routing import make_application, proxy_only
from waypost.agent.state_file import only_agent, read_state
from waypost.agent.teller import BATCH_FROM, Teller
from waypost.agent.unix_socket import listen_unix
from waypost.client.event_sink import DEFAULT_TIMEOUT_S, KafkaSink
from waypost.client.registrar import Topics
from waypost.client.registration import JITTER
from waypost.client.registry.log_and_tables import WaypostRegistry
from waypost.errors import RegistryUnavailable, SettingsError
from waypost.metrics_server import ProcessMetrics
from waypost.serving import SIGNALS, Server, listen

_log = logging.getLogger(__name__)

SOURCE = "agent"
END_S = 3
"""How long answers under way may take when the process ends."""

TOLD = timedelta(seconds=DEFAULT_TIMEOUT_S + 1)
"""How long to wait in the end until the log has a drain, and a deregistration. Kafka's time and a little more: when it
is away, the ends of the leases do the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. `redis_url` None: nothing is looked up. `keep`: leave everybody registered for the next agent.

    Raises SettingsError for a proxy that would know nobody.
    """

    bootstrap: str
    socket: Path
    mode: int = 0o660
    redis_url: str | None = None
    rules: Rules
    topics: Topics = field(default_factory=Topics)
    proxy: tuple[str, int] | None = None
    cache: Path | None = None
    grace: timedelta = timedelta(seconds=5)
    keep: bool = False
    batch_from: int = BATCH_FROM

    def __post_init__(self) -> None:
        if self.proxy is not None and self.redis_url is None:
            raise SettingsError("--proxy needs --redis: it has to know whom to call")

    @property
    def state(self) -> Path:
        """Where it is written down who is looked after."""
        return self.socket.with_name(f"{self.socket.name}.state")


def run(settings: Settings, metrics: ProcessMetrics) -> None:
    """Serve until told to stop. Call it on the main thread. Raises SettingsError."""
    rules = settings.rules
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_agent(settings.socket.with_name(f"{settings.socket.name}.lock")))
        roster = Roster(rules.namespace, SOURCE, lambda: random.uniform(*JITTER))
        _take_over(roster, settings)
        unix = stack.enter_context(listen_unix(settings.socket, settings.mode))
        tcp = stack.enter_context(listen(*settings.proxy)) if settings.proxy is not None else None
        sink = stack.enter_context(_closing(KafkaSink(settings.bootstrap, client_id="waypost-agent")))
        teller = Teller(
            roster,
            sink,
            namespace=rules.namespace,
            node=rules.node,
            topics=settings.topics,
            file=settings.state,
            batch_from=settings.batch_from,
        )
        prober = Prober(
            lambda: teller.read(list),
            lambda who, number, passed: teller.note(lambda roster, now: roster.note(who, number, passed, now)),
        )
        teller.on_change = prober.wake
        lookups = registry = None
        if settings.redis_url is not None:
            registry = WaypostRegistry(
                sink, settings.redis_url, namespace=rules.namespace, source=SOURCE, reader_id=_reader(rules.node)
            )
            lookups = Lookups(registry, zone=rules.zone, file=settings.cache, repeats=REPEATS)
            stack.callback(lookups.close)
        meters = Meters(metrics, teller, prober)
        api = Api(teller, lookups, registry, meters, rules)
        teller.start()
        stack.callback(teller.close)
        prober.start()
        stack.callback(prober.close)
        stack.callback(api.close)
        asyncio.run(_serve(settings, api, teller, lookups, meters, unix, tcp))
    _log.info("ended")


def leave(teller: Teller, grace: timedelta) -> bool:
    """Drain everybody, go on for `grace`, deregister everybody. Return whether the log has it all."""
    those = [each.member.who for each in teller.read(list)]
    if not those:
        return True

    def drain(roster: Roster) -> None:
        for who in those:
            roster.drain(who)

    def deregister(roster: Roster) -> None:
        for each in roster:
            roster.deregister(each.member.who)

    teller.change(drain)
    if teller.wait(lambda roster: not untold_of(roster), TOLD):
        # Readers see it within milliseconds; what they have begun may take a while.
        teller.wait(lambda roster: not len(roster), grace)
    teller.change(deregister)
    return teller.wait(lambda roster: not len(roster), TOLD)


async def _serve(
    settings: Settings,
    api: Api,
    teller: Teller,
    lookups: Lookups | None,
    meters: Meters,
    unix: socket.socket,
    tcp: socket.socket | None,
) -> None:
    proxy = None if lookups is None else Proxy(lookups, meters.proxied)
    servers = [(_server(make_application(api, proxy)), unix)]
    if tcp is not None and proxy is not None:
        servers.append((_server(proxy_only(proxy)), tcp))
    loop = asyncio.get_running_loop()
    ending: list[asyncio.Task[None]] = []

    async def end(name: str) -> None:
        _log.info("ending on %s", name)
        if not settings.keep:
            is_told = await loop.run_in_executor(None, leave, teller, settings.grace)
            if not is_told:
                _log.warning("ended without Kafka: what is still registered leaves when its lease ends")
        api.is_over = True
        for server, _ in servers:
            server.should_exit = True

    def stop(number: signal.Signals) -> None:
        api.is_ending = True
        if not ending:
            ending.append(loop.create_task(end(number.name)))

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    _log.info("serving on %s", settings.socket)
    if tcp is not None:
        _log.info("proxy on %s", ":".join(map(str, tcp.getsockname()[:2])))
    try:
        await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in servers))
    finally:
        if proxy is not None:
            await proxy.close()


def _server(app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=END_S,
        )
    )


def _take_over(roster: Roster, settings: Settings) -> None:
    standings = read_state(settings.state, settings.rules.namespace)
    if not settings.rules.allow_exec and any(each.member.check.kind == "exec" for each in standings):
        raise SettingsError(f"{settings.state} has checks that run programs: start the agent with --allow-exec again")
    roster.restore(standings)
    if standings:
        _log.info("took over %d instances from the agent before", len(standings))


def _reader(node: str) -> str:
    """Return who acknowledges tables: several agents may run on a node."""
    return f"agent-{node}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def _closing(sink: KafkaSink) -> Iterator[KafkaSink]:
    try:
        yield sink
    finally:
        try:
            sink.close()
        except RegistryUnavailable as error:
            _log.warning("%s", error)
