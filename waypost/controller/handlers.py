"""When a pass is due: kopf watches, we decide.

One daemon per object makes passes one after the other: at the start, when the object or something it owns changes, and
every `INTERVAL_S` for what nobody tells of (topics, tables). So a pass needs to know nothing of why it is made, and
events that were missed cost no more than the interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from waypost.controller.discovery import GROUP, PLURAL, VERSION
from waypost.controller.objects import OWNER_LABEL
from waypost.controller.reconcile import Pass, Reconciler
from waypost.errors import ClusterUnavailable, TopicError

_log = logging.getLogger(__name__)

INTERVAL_S = 30.0
"""Between passes when nothing is heard: how long a topic that somebody broke stays so."""
SETTLE_S = 0.2
"""Events come in bursts; a pass takes them together."""
AGAIN_S = 3.0
"""After a pass that could not read or tell; also between looks whether a job has ended."""


@dataclass
class _Object:
    """What is kept of one object between events: nothing but who may go."""

    bell: asyncio.Event = field(default_factory=asyncio.Event)
    """Rung by events, heard by the object's daemon."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """A pass that a deletion cuts off still ends in its thread, and what undoes it comes after it."""


def make_registry(
    reconciler: Reconciler,
    *,
    in_pod: bool,
    on_pass: Callable[[str, Pass | None], None],
    interval_s: float = INTERVAL_S,
) -> kopf.OperatorRegistry:
    """Return kopf's handlers.

    `in_pod` says whether kopf's own connection is the pod's service account or $KUBECONFIG. `on_pass` hears of every
    pass by the object's name, None for one that failed.
    """
    registry = kopf.OperatorRegistry()
    objects: defaultdict[str, _Object] = defaultdict(_Object)

    @kopf.on.login(registry=registry)
    def login(**facts: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**facts) if in_pod else kopf.login_with_kubeconfig(**facts)

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure_kopf(settings)

    # Cancelled by kopf when the object is being deleted, or the process ends.
    @kopf.daemon(GROUP, VERSION, PLURAL, registry=registry, id="keep", cancellation_timeout=1.0)
    async def keep(name: str, body: kopf.Body, **_: Any) -> None:
        bell = objects[name].bell
        while True:
            bell.clear()
            done = await asyncio.to_thread(one_pass, name)
            on_pass(name, done)
            if done and done.ready and done.changed:
                kind = "Normal" if done.ready.holds else "Warning"
                kopf.event(body, type=kind, reason=done.ready.reason, message=done.ready.message or "ready")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(bell.wait(), interval_s if done else AGAIN_S)
            await asyncio.sleep(SETTLE_S)

    def one_pass(name: str) -> Pass | None:
        try:
            with objects[name].turn:
                return reconciler.reconcile(name)
        except ClusterUnavailable as error:
            _log.warning("%s: %s", name, error)
        except Exception:  # a bug of ours must not end the daemon: the next pass may meet another world
            _log.exception("%s: the pass failed", name)
        return None

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=registry, id="undo")
    async def undo(name: str, body: kopf.Body, **_: Any) -> None:
        try:
            gone = await asyncio.to_thread(undone, name, dict(body))
        except (ClusterUnavailable, TopicError) as error:
            raise kopf.TemporaryError(str(error), delay=AGAIN_S) from error
        if not gone:
            raise kopf.TemporaryError(f"{name}: its job is still there", delay=AGAIN_S)
        objects.pop(name, None)

    def undone(name: str, body: Mapping[str, Any]) -> bool:
        with objects[name].turn:
            return reconciler.finalize(body)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(name: str, **_: Any) -> None:
        ring(name)

    @kopf.on.event("apps", "v1", "deployments", labels={OWNER_LABEL: kopf.PRESENT}, registry=registry)
    @kopf.on.event(
        "flink.apache.org", "v1beta1", "flinkdeployments", labels={OWNER_LABEL: kopf.PRESENT}, registry=registry
    )
    async def owned_changed(labels: Mapping[str, str], **_: Any) -> None:
        ring(labels[OWNER_LABEL])

    def ring(name: str) -> None:
        # On the loop's own thread: kopf runs handlers that are not async on others, where a bell must not be rung.
        if known := objects.get(name):
            known.bell.set()

    return registry


def configure_kopf(settings: kopf.OperatorSettings) -> None:
    """Set what kopf writes into our objects, and that it reads nothing beyond its namespace."""
    settings.persistence.finalizer = f"{GROUP}/controller"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, key="last-handled")
    # Watching which kinds and namespaces there are needs cluster-wide rights.
    settings.scanning.disabled = True
    # A connection that is silently dead is noticed after this; the interval above covers for it.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.networking.request_timeout = 15
