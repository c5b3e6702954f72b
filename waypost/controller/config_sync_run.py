"""The process: `waypost config-sync`. It publishes until it is told to stop, or until a newer one does."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client

from waypost.controller.config_events import ConfigEvents, Reporting
from waypost.controller.config_maps import LABEL, ConfigMaps, ConfigMapWatch
from waypost.controller.config_sync import ConfigSync
from waypost.controller.kafka_config_log import KafkaConfigLog
from waypost.controller.leading import Leading
from waypost.errors import FencedError
from waypost.kubernetes_access import api_client
from waypost.metrics_server import ProcessMetrics
from waypost.model.configs import ObjectKey, Scope

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. `namespace` None: all of them; `lease` None: the newest process writes, an older one ends."""

    bootstrap: str
    scope: Scope
    topic: str = "service-config"
    namespace: str | None = None
    selector: str = LABEL
    kubeconfig: Path | None = None
    lease: ObjectKey | None = None
    identity: str = ""
    may_remove_many: bool = False


def run(settings: Settings, metrics: ProcessMetrics) -> None:
    """Publish until told to stop. Call it on the main thread. Raises FencedError when another one has taken over."""
    told, changed = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        told.set()
        changed.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with api_client(settings.kubeconfig, usual_file=True) as api:
        core = client.CoreV1Api(api)
        found = ConfigMaps()
        watch = ConfigMapWatch(core, found, namespace=settings.namespace, selector=settings.selector)
        events = ConfigEvents(core.create_namespaced_event)
        log = KafkaConfigLog(settings.bootstrap, settings.topic, source=settings.scope.source)
        leading = None
        if settings.lease is not None:
            leading = Leading(api, settings.lease.namespace, settings.lease.name, settings.identity, changed)
        work = _Work(
            ConfigSync(
                found, log, settings.scope, Reporting(metrics, events), may_remove_many=settings.may_remove_many
            ),
            changed,
        )  # fmt: skip
        events.start()
        watch.start()
        try:
            if leading is not None:
                leading.start()
                _log.info("waiting for the lease %s", settings.lease)
            while not told.is_set() and not work.is_over:
                if leading is None or leading.is_leader.is_set():
                    work.begin()
                if leading is not None and leading.is_over.is_set():
                    raise FencedError("the lease was lost")
                changed.wait()
                changed.clear()
        finally:
            found.close()
            work.end()
            watch.close()
            events.close()
            log.close()
            if leading is not None:
                leading.give_back()
    if work.error is not None:
        raise work.error
    _log.info("ended")


class _Work:
    """Runs the syncer on a thread, so that a signal is heard while Kafka is waited for."""

    GRACE_S = 5.0

    def __init__(self, sync: ConfigSync, changed: threading.Event) -> None:
        self._sync = sync
        self._changed = changed
        self._thread: threading.Thread | None = None
        self.is_over = False
        self.error: BaseException | None = None

    def begin(self) -> None:
        """Begin, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="publishing configurations", daemon=True)
            self._thread.start()
            _log.info("publishing configurations")

    def end(self) -> None:
        """Wait a moment for a transaction under way; one that hangs is aborted by whoever comes next."""
        if self._thread is not None:
            self._thread.join(self.GRACE_S)

    def _run(self) -> None:
        try:
            self._sync.run()
        except BaseException as error:
            self.error = error
        finally:
            self.is_over = True
            self._changed.set()
