"""The process: `waypost controller`. It waits for its Lease, works while it holds it, and ends with it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import kopf
from kubernetes.client import ApiClient

from waypost.client.connection import connect
from waypost.controller.cluster import ApiServer
from waypost.controller.counts import Counts, read_counts
from waypost.controller.discovery import Discovery
from waypost.controller.drift import Step
from waypost.controller.handlers import INTERVAL_S, make_registry
from waypost.controller.leadership import lead
from waypost.controller.objects import DISCOVERIES, Images
from waypost.controller.reconcile import Pass, Reconciler
from waypost.controller.topics import TopicsKept, delete_topics, keep_topics
from waypost.errors import ClusterUnavailable
from waypost.kubernetes_access import api_client
from waypost.metrics import CONTROLLER_LAST, CONTROLLER_LEADS, CONTROLLER_PASSES, CONTROLLER_STEPS
from waypost.metrics_server import ProcessMetrics

_log = logging.getLogger(__name__)

_REDIS_TIMEOUT = timedelta(seconds=2)
_LOOK_S = 0.2
_GRACE_S = 10.0
"""For the pass that is under way when it is told to stop. What it does not finish, the next leader does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. `kubeconfig` None: the pod's own service account."""

    namespace: str
    identity: str
    bootstrap: str
    redis_url: str
    images: Images
    kubeconfig: Path | None = None
    interval_s: float = INTERVAL_S


def run(settings: Settings, metrics: ProcessMetrics) -> int:
    """Work until told to stop, return 0; or until another leads, return 1. Call it on the main thread."""
    client = api_client(settings.kubeconfig)
    told, ended, works = threading.Event(), threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    metrics.set(CONTROLLER_LEADS, 0)

    def work() -> None:
        works.set()
        metrics.set(CONTROLLER_LEADS, 1)
        try:
            _operate(settings, client, metrics, told)
        finally:
            # Told to, or because something is wrong with it.
            ended.set()

    def stand() -> None:
        try:
            lead(client, settings.namespace, settings.identity, work)
        except Exception:
            _log.exception("the election failed")
        ended.set()

    threading.Thread(target=stand, name="election", daemon=True).start()
    while not told.wait(_LOOK_S):
        if ended.is_set():
            told.set()  # whoever still waits for it in a thread would keep the process
            return 1
    if works.is_set():
        ended.wait(_GRACE_S)
    return 0


def wait_for_kind(cluster: ApiServer, stop: threading.Event, every_s: float = 3.0) -> bool:
    """Return True when our kind can be watched, False when told to stop. kopf looks once which kinds there are (looking
    again needs cluster-wide rights), and without ours it would lead and do nothing."""
    told = ""
    while not stop.is_set():
        try:
            if cluster.serves(DISCOVERIES):
                return True
            why = f"the API server does not know {DISCOVERIES.plural} of {DISCOVERIES.api_version}: apply k8s/base/crd"
        except ClusterUnavailable as error:
            why = str(error)
        if why != told:
            _log.warning("waiting: %s", why)
            told = why
        stop.wait(every_s)
    return False


def _operate(settings: Settings, client: ApiClient, metrics: ProcessMetrics, stop: threading.Event) -> None:
    tables = connect(settings.redis_url, _REDIS_TIMEOUT)

    def topics(discovery: Discovery, ours: frozenset[str]) -> TopicsKept:
        return keep_topics(settings.bootstrap, discovery, ours)

    def counts(prefix: str) -> Counts:
        return read_counts(tables, prefix)

    cluster = ApiServer(client)
    reconciler = Reconciler(
        cluster=cluster,
        namespace=settings.namespace,
        images=settings.images,
        keep_topics=topics,
        delete_topics=lambda names: delete_topics(settings.bootstrap, names),
        counts=counts,
    )

    def on_pass(name: str, done: Pass | None) -> None:
        metrics.count(CONTROLLER_PASSES, "failed" if done is None else "done")
        if done is None:
            return
        metrics.now(CONTROLLER_LAST)
        for part, step in done.steps:
            if step in (Step.CREATE, Step.HEAL):
                metrics.count(CONTROLLER_STEPS, step.value)
                _log.info("%s: %s: %s", name, part, step.value)

    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # kopf's own client looks there
    if not wait_for_kind(cluster, stop):
        return
    kopf.run(
        registry=make_registry(
            reconciler, in_pod=settings.kubeconfig is None, on_pass=on_pass, interval_s=settings.interval_s
        ),
        standalone=True,
        namespaces=[settings.namespace],
        stop_flag=stop,
    )
