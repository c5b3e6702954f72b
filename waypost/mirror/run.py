"""The process: `waypost mirror …`. It goes on where the one before it ended, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from waypost.client.connection import Backoff, connect
from waypost.client.event_sink import BatchSink, KafkaSink
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.client.routes import TIMEOUT
from waypost.errors import RegistryUnavailable
from waypost.metrics import MIRROR_ENDPOINTS, MIRROR_LAST, MIRROR_SETS
from waypost.metrics_server import ProcessMetrics
from waypost.mirror.declared import declared_by
from waypost.mirror.declaring import Declaring
from waypost.mirror.sets import Endpoints
from waypost.mirror.source import Open

_log = logging.getLogger(__name__)

DECLARED = timedelta(seconds=30)
"""How long `once` waits for Kafka."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """One registry, and Waypost's namespace that it is told to. `shown` is for the log."""

    shown: str
    namespace: str
    open: Open


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. No two of `mirrored` have one namespace: their sets would undo each other's. `once`: declare what is
    there now, and end."""

    mirrored: tuple[Mirrored, ...]
    bootstrap: str
    redis_url: str
    prefix: str = DEFAULT_PREFIX
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
    count = _Count(metrics)
    with ExitStack() as ends:
        sink = KafkaSink(settings.bootstrap, client_id="waypost-mirror")
        ends.callback(_close, sink)
        for each in settings.mirrored:
            _begin(settings, each, known[each.namespace], sink, count, ends)
        if not settings.once:
            told.wait()
    _log.info("ended")


def _begin(
    settings: Settings,
    mirrored: Mirrored,
    known: Mapping[str, Endpoints],
    sink: BatchSink,
    count: _Count,
    ends: ExitStack,
) -> None:
    declaring = Declaring(
        sink,
        namespace=mirrored.namespace,
        source=settings.source,
        declared=known,
        topic=settings.topic,
        told=lambda sets, endpoints: count.told(mirrored.namespace, sets, endpoints),
    )
    source = mirrored.open(declaring.want, known)
    declaring.start()
    ends.callback(declaring.close)
    ends.callback(source.close)
    if settings.once:
        source.look()
        if not declaring.wait(DECLARED):
            raise RegistryUnavailable(f"Kafka did not take all sets within {DECLARED.total_seconds():g} s")
        return
    source.start()
    _log.info("mirroring %s into %s as source %s", mirrored.shown, mirrored.namespace, settings.source)


def _declared(settings: Settings, told: threading.Event) -> dict[str, dict[str, Endpoints]] | None:
    """Return what was declared before, by namespace, as soon as Redis can be asked; None: it was told to stop."""
    client, backoff = connect(settings.redis_url, TIMEOUT), Backoff()
    try:
        while not told.is_set():
            try:
                keys = Keys(settings.prefix)
                namespaces = [each.namespace for each in settings.mirrored]
                return {namespace: declared_by(client, keys, namespace, settings.source) for namespace in namespaces}
            except RegistryUnavailable as error:
                if settings.once:
                    raise
                if not backoff.failures:
                    _log.warning("waiting for Redis: %s", error)
                told.wait(backoff.next().total_seconds())
        return None
    finally:
        client.close()


def _close(sink: BatchSink) -> None:
    try:
        sink.close()
    except RegistryUnavailable as error:
        _log.warning("%s", error)


class _Count:
    """Adds up what several namespaces were told."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._endpoints: dict[str, int] = {}

    def told(self, namespace: str, sets: int, endpoints: int) -> None:
        with self._lock:
            self._endpoints[namespace] = endpoints
            self._metrics.count(MIRROR_SETS, times=sets)
            self._metrics.set(MIRROR_ENDPOINTS, sum(self._endpoints.values()))
            self._metrics.now(MIRROR_LAST)
