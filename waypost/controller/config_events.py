"""What the syncer says to people: Events on ConfigMaps, log lines, metrics.

A ConfigMap has no status, so an Event is where its author looks (`kubectl describe configmap`). Events are written on
a thread of their own and may get lost: publishing never waits for them.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from waypost.controller.config_sync import RefusalsTold
from waypost.metrics import (
    CONFIG_SYNC_CHANGE_SETS,
    CONFIG_SYNC_CONFIGS,
    CONFIG_SYNC_FAILURES,
    CONFIG_SYNC_LAST,
    CONFIG_SYNC_RECORDS,
    CONFIG_SYNC_REFUSED,
)
from waypost.metrics_server import ProcessMetrics
from waypost.model.change_sets import ChangeSet, Plan, Refusal
from waypost.model.configs import ConfigObject

_log = logging.getLogger(__name__)

COMPONENT = "waypost-config-sync"
_WAITING_EVENTS = 1_000


class ConfigEvents:
    """Writes Events; `create` is `CoreV1Api.create_namespaced_event`."""

    def __init__(self, create: Callable[[str, Any], Any]) -> None:
        self._create = create
        self._queue: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(_WAITING_EVENTS)
        self._thread = threading.Thread(target=self._run, name="writing Events", daemon=True)
        self.lost = 0

    def start(self) -> None:
        self._thread.start()

    def refused(self, refusal: Refusal) -> None:
        """Say why a ConfigMap is not published; returns at once."""
        body = event_of(refusal, datetime.now(timezone.utc))
        try:
            self._queue.put_nowait((refusal.object.key.namespace, body))
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            pass
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            try:
                self._create(*waiting)
            except Exception as error:  # an Event that cannot be written is no reason to end
                self.lost += 1
                _log.warning("an Event could not be written: %s %s", type(error).__name__, str(error)[:200])


def event_of(refusal: Refusal, at: datetime) -> dict[str, Any]:
    """Return the Event, as the API takes it."""
    one: ConfigObject = refusal.object
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{one.key.name[:200]}.", "namespace": one.key.namespace},
        "involvedObject": {
            "apiVersion": "v1", "kind": "ConfigMap", "namespace": one.key.namespace, "name": one.key.name,
            "uid": one.uid, "resourceVersion": one.version,
        },
        "type": "Normal" if refusal.waits else "Warning",
        "reason": "ConfigWaiting" if refusal.waits else "ConfigRefused",
        "message": f"{refusal.reason}: {refusal.detail}"[:1024],
        "source": {"component": COMPONENT},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }  # fmt: skip


class Reporting:
    """A `Telling` for people: Events, log and metrics together."""

    def __init__(self, metrics: ProcessMetrics, events: ConfigEvents) -> None:
        self._metrics = metrics
        self._events = events
        self._told = RefusalsTold()
        self._withheld: tuple[str, ...] = ()

    def planned(self, plan: Plan) -> None:
        waiting = sum(one.waits for one in plan.refusals)
        self._metrics.set(CONFIG_SYNC_REFUSED, waiting, "waiting")
        self._metrics.set(CONFIG_SYNC_REFUSED, len(plan.refusals) - waiting, "refused")
        self._metrics.set(CONFIG_SYNC_REFUSED, len(plan.withheld), "withheld")
        for refusal in self._told.new(plan.refusals):
            _log.log(
                logging.INFO if refusal.waits else logging.WARNING,
                "ConfigMap %s is not published: %s: %s", refusal.object.key, refusal.reason, refusal.detail,
            )  # fmt: skip
            self._events.refused(refusal)
        withheld = tuple(map(str, plan.withheld))
        if withheld and withheld != self._withheld:
            _log.error(
                "%d ConfigMaps are missing at once, %s among them: their configurations stay. Correct the selector or "
                "the namespace, or say --remove-missing", len(withheld), withheld[0],
            )  # fmt: skip
        self._withheld = withheld

    def written(self, change_sets: list[ChangeSet], configs: int) -> None:
        self._metrics.count(CONFIG_SYNC_CHANGE_SETS, times=len(change_sets))
        self._metrics.count(CONFIG_SYNC_RECORDS, times=sum(len(one.changes) for one in change_sets))
        self._metrics.set(CONFIG_SYNC_CONFIGS, configs)
        self._metrics.now(CONFIG_SYNC_LAST)
        for one in change_sets:
            _log.info("published change set %s, %d configurations", one.id, len(one.changes))

    def failed(self) -> None:
        self._metrics.count(CONFIG_SYNC_FAILURES)
