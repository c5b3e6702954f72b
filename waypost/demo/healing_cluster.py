"""The cluster that is repaired: Deployments on nodes, and what their pods say to the registry.

There is no container in a pod of kwok. So `PodAgents` speaks for the pods as the agent beside each would: it registers
a pod that is Ready, beats for it while its node lives, and deregisters one that goes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client

from waypost.client.event_sink import KafkaSink
from waypost.client.registrar import Registrar
from waypost.errors import RegistryUnavailable
from waypost.local.job_zip import source_root
from waypost.local.kubernetes import Kubernetes
from waypost.model.events import Attributes

log = logging.getLogger(__name__)

NAMESPACE = "shop"
LEASE_S = 60
"""Longer than a repair of a node takes: whoever is out of the tables was taken out, and has not run out."""
_LOOK_S = 0.2
_BEAT_S = 10.0


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod, as far as the show has to know it."""

    name: str
    uid: str
    service: str
    node: str
    address: str
    ready: bool
    leaving: bool


@dataclass(frozen=True)
class Shop:
    """The workloads of the show, seen with the administrator's eyes."""

    cluster: Kubernetes
    api: client.ApiClient
    services: tuple[str, ...]
    replicas: int

    def open(self) -> Path:
        """Make the namespace and its Deployments, and the account of the repair job; return its kubeconfig."""
        manifests = source_root() / "k8s" / "base" / "repair-account"
        for name in (NAMESPACE, "waypost"):
            self.cluster.kubectl("create", "namespace", name)
        self.cluster.kubectl("apply", "-k", str(manifests))
        self.cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(manifests / "binding.yaml"))
        account = self.cluster.service_account_kubeconfig("waypost", "waypost-repair")
        for service in self.services:
            self._deploy(service)
        wanted = len(self.services) * self.replicas
        self.cluster.wait_until(
            lambda: sum(pod.ready and not pod.leaving for pod in self.pods()) == wanted, f"{wanted} pods are Ready"
        )
        return account

    def pods(self) -> list[Pod]:
        found = client.CoreV1Api(self.api).list_namespaced_pod(NAMESPACE).items
        return [_pod(one) for one in found]

    def generation(self, service: str) -> int:
        """Return how often the Deployment was changed."""
        found: Any = client.AppsV1Api(self.api).read_namespaced_deployment(service, NAMESPACE)
        return int(found.metadata.generation)

    def is_cordoned(self, node: str) -> bool:
        found: Any = client.CoreV1Api(self.api).read_node(node)
        return bool(found.spec.unschedulable)

    def _deploy(self, service: str) -> None:
        labels = {"app": service}
        spread = client.V1TopologySpreadConstraint(
            max_skew=1, topology_key="kubernetes.io/hostname", when_unsatisfiable="ScheduleAnyway",
            label_selector=client.V1LabelSelector(match_labels=labels),
        )  # fmt: skip
        template = client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(
                containers=[client.V1Container(name="main", image="registry.invalid/nothing:1")],
                topology_spread_constraints=[spread],
            ),
        )
        metadata = client.V1ObjectMeta(name=service, labels=labels)
        deployment = client.V1DeploymentSpec(
            replicas=self.replicas, selector=client.V1LabelSelector(match_labels=labels), template=template
        )
        service_spec = client.V1ServiceSpec(selector=labels, ports=[client.V1ServicePort(name="http", port=8080)])
        client.AppsV1Api(self.api).create_namespaced_deployment(
            NAMESPACE, client.V1Deployment(metadata=metadata, spec=deployment)
        )
        client.CoreV1Api(self.api).create_namespaced_service(
            NAMESPACE, client.V1Service(metadata=metadata, spec=service_spec)
        )


def _pod(one: Any) -> Pod:
    conditions: Mapping[str, str] = {c.type: c.status for c in one.status.conditions or ()}
    return Pod(
        name=one.metadata.name,
        uid=one.metadata.uid,
        service=(one.metadata.labels or {}).get("app", ""),
        node=one.spec.node_name or "",
        address=one.status.pod_ip or "",
        ready=conditions.get("Ready") == "True",
        leaving=one.metadata.deletion_timestamp is not None,
    )


@dataclass
class PodAgents:
    """Speaks for all pods of the shop, from a thread of its own. `silent`: nodes whose agents are dead too."""

    shop: Shop
    registrar: Registrar
    silent: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, shop: Shop, bootstrap: str) -> PodAgents:
        return cls(shop, Registrar(KafkaSink(bootstrap, client_id="pod-agents"), namespace=NAMESPACE, source="agent"))

    def __post_init__(self) -> None:
        self._known: dict[str, Pod] = {}
        self._beaten_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod agents", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing more is said."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.registrar.close()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            try:
                self._look()
            except (client.ApiException, RegistryUnavailable, OSError) as error:
                log.warning("the pods' agents try again: %s", error)

    def _look(self) -> None:
        now = {pod.name: pod for pod in self.shop.pods() if pod.node not in self.silent}
        for name, pod in now.items():
            if pod.ready and not pod.leaving and pod.address and name not in self._known:
                self.registrar.register(pod.service, name, _attributes(pod))
                self._known[name] = pod
        for name, pod in list(self._known.items()):
            if pod.node not in self.silent and (name not in now or now[name].leaving):
                self.registrar.deregister(pod.service, name)
                del self._known[name]
        if time.monotonic() - self._beaten_at >= _BEAT_S:
            self._beaten_at = time.monotonic()
            for name, pod in self._known.items():
                if pod.node not in self.silent:
                    self.registrar.beat(name)


def _attributes(pod: Pod) -> Attributes:
    return Attributes(address=pod.address, port=8080, node=pod.node, metadata={"pod": pod.name}, lease_seconds=LEASE_S)
