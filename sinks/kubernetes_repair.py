"""Where repairs leave: the executor over a real cluster, with what it needs to know before each call.

The way to the cluster is made when the first repair needs it: a job in shadow mode runs without any cluster. One that
cannot be made is an unavailable server, asked for again and given up by the rules of the executor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waypost.errors import SettingsError
from waypost.kafka_security import client_settings
from waypost.model.isolation import Isolation
from waypost.repair.configuration import Configured
from waypost.repair.execution import Execution
from waypost.repair.executor import Executor, Given, World
from waypost.repair.kafka_config import KafkaConfig, consumer_of
from waypost.repair.objects import Node, Note, Pod, Workload
from waypost.repair.port import Cluster, Unavailable
from waypost.repair.steps.progress import Webhooks
from waypost.settings import Settings, kafka_properties
from waypost.wire.repair_config import PREFIX

log = logging.getLogger(__name__)


def wall_ms() -> int:
    """Return the time, epoch ms."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class ConfigReader:
    """Makes a reader of the configuration where an operator runs; travels there by value."""

    bootstrap: str
    topic: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> ConfigReader:
        """Return the reader that settings describe. Raises SettingsError when it could not reach the brokers."""
        return cls(settings.kafka.bootstrap, settings.topics.config, client_settings(kafka_properties(settings)))

    def __call__(self) -> Configured:
        consumer = consumer_of(self.bootstrap, self.security)
        return Configured(lambda: KafkaConfig(consumer, self.topic, prefix=PREFIX), wall_ms)


@dataclass(frozen=True)
class ClusterConnector:
    """Makes the way to the cluster where the executor runs."""

    kubeconfig: str
    timeout_ms: int

    def __call__(self) -> Cluster:
        from waypost.repair.api_server import connect

        return connect(Path(self.kubeconfig) if self.kubeconfig else None, self.timeout_ms)


@dataclass(frozen=True)
class KubernetesRepairSink:
    """Makes executors. `webhooks` are the URLs that may be called. `clock` is that of what `configured` makes, epoch
    ms."""

    cluster: Callable[[], Cluster]
    configured: Callable[[], Configured]
    webhooks: tuple[str, ...] = ()
    clock: Callable[[], int] = wall_ms

    @classmethod
    def of(cls, settings: Settings) -> KubernetesRepairSink:
        """Return the sink that settings describe. Raises SettingsError for a webhook that is none; the kubeconfig is a
        file of another machine."""
        repair = settings.repair
        webhooks = tuple(url.strip() for url in repair.webhooks.split(";") if url.strip())
        if webhooks:
            from waypost.repair.webhooks import AllowedWebhooks

            AllowedWebhooks(webhooks)
        return cls(
            ClusterConnector(repair.kubeconfig, repair.call_timeout_ms),
            ConfigReader.of(settings),
            webhooks,
        )

    def open(self, alarm: Callable[[str], None] = lambda _text: None) -> OpenSink:
        """Return an executor that is ready to give turns."""
        return OpenSink(LazyCluster(self.cluster), LazyWebhooks(self.webhooks), self.configured(), self.clock, alarm)


class OpenSink:
    """An executor and its connections."""

    def __init__(
        self,
        cluster: Cluster,
        webhooks: Webhooks,
        configured: Configured,
        clock: Callable[[], int],
        alarm: Callable[[str], None],
    ) -> None:
        self._configured = configured
        self._world = World(
            cluster=cluster,
            webhooks=webhooks,
            stopped=lambda: configured.control().refuses(clock()),
            protected=lambda: configured.current().policies.guards.protected_namespaces,
            alarm=alarm,
        )

    def advance(self, execution: Execution, isolated_by: Callable[[str], tuple[Isolation, ...]], now: int) -> Given:
        """Give an action one turn."""
        return Executor(self._world, isolated_by).advance(execution, now)

    def close(self) -> None:
        self._configured.close()


@dataclass
class LazyCluster:
    """A `Cluster` that is connected by the first call."""

    connect: Callable[[], Cluster]
    _made: Cluster | None = field(default=None)

    def _cluster(self) -> Cluster:
        if self._made is None:
            try:
                self._made = self.connect()
            except (SettingsError, ImportError) as error:
                raise Unavailable(str(error)) from error
        return self._made

    def pod(self, namespace: str, name: str) -> Pod | None:
        return self._cluster().pod(namespace, name)

    def pods(self, namespace: str, selector: Mapping[str, str]) -> list[Pod]:
        return self._cluster().pods(namespace, selector)

    def pods_on(self, node: str) -> list[Pod]:
        return self._cluster().pods_on(node)

    def evict(self, pod: Pod) -> None:
        self._cluster().evict(pod)

    def service_selector(self, namespace: str, service: str) -> Mapping[str, str] | None:
        return self._cluster().service_selector(namespace, service)

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        return self._cluster().workload(kind, namespace, name)

    def workload_of(self, pod: Pod) -> Workload | None:
        return self._cluster().workload_of(pod)

    def change_workload(self, workload: Workload, **change: Any) -> None:
        self._cluster().change_workload(workload, **change)

    def node(self, name: str) -> Node | None:
        return self._cluster().node(name)

    def change_node(self, node: Node, **change: Any) -> None:
        self._cluster().change_node(node, **change)

    def tell(self, note: Note) -> None:
        self._cluster().tell(note)


@dataclass
class LazyWebhooks:
    """`AllowedWebhooks`, made by the first call: a job without webhooks needs no HTTP client."""

    allowed: tuple[str, ...]
    _made: Webhooks | None = field(default=None)

    def post(self, url: str, body: bytes, *, timeout_ms: int, key: str) -> None:
        if self._made is None:
            from waypost.repair.webhooks import AllowedWebhooks

            self._made = AllowedWebhooks(self.allowed)
        self._made.post(url, body, timeout_ms=timeout_ms, key=key)
