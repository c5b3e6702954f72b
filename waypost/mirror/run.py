"""The process: `waypost mirror etcd`. It goes on where the one before it ended, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta

from waypost.client.connection import Backoff, connect
from waypost.client.event_sink import KafkaSink
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.client.registry.etcd.address import EtcdAddress
from waypost.client.routes import TIMEOUT
from waypost.errors import RegistryUnavailable
from waypost.metrics import MIRROR_ENDPOINTS, MIRROR_LAST, MIRROR_SETS
from waypost.metrics_server import ProcessMetrics
from waypost.mirror.declared import declared_by
from waypost.mirror.declaring import Declaring
from waypost.mirror.etcd import EtcdSource
from waypost.mirror.sets import Endpoints

_log = logging.getLogger(__name__)

DECLARED = timedelta(seconds=30)
"""How long `once` waits for Kafka."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. `once`: declare what is there now, and end."""

    etcd: EtcdAddress
    bootstrap: str
    redis_url: str
    prefix: str = DEFAULT_PREFIX
    namespace: str
    source: str
    topic: str = "service-registry"
    once: bool = False


def run(settings: Settings, metrics: ProcessMetrics) -> None:
    """Mirror until told to stop. Call it on the main thread. Raises RegistryUnavailable with `once` only."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    known = _declared(settings, told)
    if known is None:
        return
    sink, gateway = KafkaSink(settings.bootstrap, client_id="waypost-mirror"), settings.etcd.gateway()
    declaring = Declaring(
        sink,
        namespace=settings.namespace,
        source=settings.source,
        declared=known,
        topic=settings.topic,
        told=lambda sets, endpoints: _count(metrics, sets, endpoints),
    )
    source = EtcdSource(gateway, settings.etcd.layout, declaring.want, known=known)
    declaring.start()
    try:
        if settings.once:
            source.look()
            if not declaring.wait(DECLARED):
                raise RegistryUnavailable(f"Kafka did not take all sets within {DECLARED.total_seconds():g} s")
        else:
            source.start()
            _log.info("mirroring %s as source %s", ", ".join(settings.etcd.urls), settings.source)
            told.wait()
    finally:
        source.close()
        declaring.close()
        gateway.close()
        try:
            sink.close()
        except RegistryUnavailable as error:
            _log.warning("%s", error)
    _log.info("ended")


def _declared(settings: Settings, told: threading.Event) -> dict[str, Endpoints] | None:
    """Return what was declared before, as soon as Redis can be asked; None: it was told to stop."""
    client, backoff = connect(settings.redis_url, TIMEOUT), Backoff()
    try:
        while not told.is_set():
            try:
                return declared_by(client, Keys(settings.prefix), settings.namespace, settings.source)
            except RegistryUnavailable as error:
                if settings.once:
                    raise
                if not backoff.failures:
                    _log.warning("waiting for Redis: %s", error)
                told.wait(backoff.next().total_seconds())
        return None
    finally:
        client.close()


def _count(metrics: ProcessMetrics, sets: int, endpoints: int) -> None:
    metrics.count(MIRROR_SETS, times=sets)
    metrics.set(MIRROR_ENDPOINTS, endpoints)
    metrics.now(MIRROR_LAST)
