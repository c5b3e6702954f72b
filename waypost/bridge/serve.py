"""The process: `waypost bridge`. It listens, writes, and ends in order on SIGTERM: what was begun is answered."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import structlog
import uvicorn

from waypost.bridge.access import Tls, TokenFile, require_access
from waypost.bridge.application import Bridge, Topics, make_application
from waypost.bridge.mapping import DEFAULT_MAPPING, LabelMapping
from waypost.client.event_sink import DEFAULT_TIMEOUT_S, KafkaSink
from waypost.errors import RegistryUnavailable, SettingsError
from waypost.metrics_server import ProcessMetrics
from waypost.serving import SIGNALS, Server, listen

END_S = int(DEFAULT_TIMEOUT_S) + 2
"""How long answers under way may take when the process ends: Kafka's time and a little more."""

CONNECTIONS = 64
"""More are answered 503: one Alertmanager needs one or two."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run."""

    bootstrap: str
    host: str = "127.0.0.1"
    port: int
    topics: Topics = field(default_factory=Topics)
    mapping: LabelMapping = DEFAULT_MAPPING
    token: TokenFile | None = None
    tls: Tls | None = None
    insecure: bool = False


def run(settings: Settings, metrics: ProcessMetrics) -> None:
    """Serve until told to stop. Call it on the main thread. Raises SettingsError, also when strangers could send."""
    require_access(settings.token, settings.tls, settings.insecure)
    if settings.insecure and settings.token is None:
        _log.warning("anybody who reaches this port can raise alerts", why="--insecure")
    sink = KafkaSink(settings.bootstrap, client_id="waypost-bridge")
    bridge = Bridge(sink, metrics, admission=settings.token, mapping=settings.mapping, topics=settings.topics)
    config = _config(bridge, settings.tls)
    with listen(settings.host, settings.port) as listener:
        try:
            asyncio.run(_serve(config, listener))
        finally:
            bridge.close()
            try:
                sink.close()
            except RegistryUnavailable as error:
                _log.warning("ended without Kafka", error=str(error))
    _log.info("ended")


def _config(bridge: Bridge, tls: Tls | None) -> uvicorn.Config:
    config = uvicorn.Config(
        make_application(bridge),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=END_S,
        **_tls(tls),
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the TLS files cannot be used: {error}") from error
    return config


def _tls(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    asked: dict[str, Any] = (
        {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED} if tls.client_ca else {}
    )
    return {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key), **asked}


async def _serve(config: uvicorn.Config, listener: socket.socket) -> None:
    server = Server(config)

    def stop(number: signal.Signals) -> None:
        _log.info("ending", signal=number.name)
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    _log.info("serving", address=":".join(map(str, listener.getsockname()[:2])), tls=config.is_ssl)
    await server.serve(sockets=[listener])
