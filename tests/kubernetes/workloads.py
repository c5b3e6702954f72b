"""Deployments, budgets and evictions in one namespace, and what the API server says about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kubernetes import client

from waypost.local.kubernetes import Kubernetes


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """One namespace of a cluster, seen with the administrator's eyes."""

    cluster: Kubernetes
    name: str
    api: client.ApiClient

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    def deploy(self, app: str, *, replicas: int, on_node: str | None = None) -> list[client.V1Pod]:
        """Make a Deployment and a Service of the same name; return its pods when all are Ready."""
        labels = {"app": app}
        template = client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(
                containers=[client.V1Container(name="main", image="registry.invalid/nothing:1")],
                node_selector={"kubernetes.io/hostname": on_node} if on_node else None,
            ),
        )
        metadata = client.V1ObjectMeta(name=app, labels=labels)
        deployment = client.V1DeploymentSpec(
            replicas=replicas, selector=client.V1LabelSelector(match_labels=labels), template=template
        )
        service = client.V1ServiceSpec(selector=labels, ports=[client.V1ServicePort(name="http", port=8080)])
        client.AppsV1Api(self.api).create_namespaced_deployment(
            self.name, client.V1Deployment(metadata=metadata, spec=deployment)
        )
        self.core.create_namespaced_service(self.name, client.V1Service(metadata=metadata, spec=service))
        self.cluster.wait_until(lambda: len(self.ready_pods(app)) == replicas, f"{replicas} pods of {app} are Ready")
        return self.ready_pods(app)

    def pods(self, app: str) -> list[client.V1Pod]:
        return list(self.core.list_namespaced_pod(self.name, label_selector=f"app={app}").items)

    def ready_pods(self, app: str) -> list[client.V1Pod]:
        """Return those that are Ready and not about to go."""
        staying = (pod for pod in self.pods(app) if pod.metadata.deletion_timestamp is None)
        return [pod for pod in staying if condition(pod, "Ready") == "True"]

    def endpoints(self, service: str) -> dict[str, bool]:
        """Return address → ready, over all EndpointSlices of the service."""
        selector = f"kubernetes.io/service-name={service}"
        slices = client.DiscoveryV1Api(self.api).list_namespaced_endpoint_slice(self.name, label_selector=selector)
        return {
            address: bool(endpoint.conditions.ready)
            for piece in slices.items
            for endpoint in piece.endpoints or ()
            for address in endpoint.addresses
        }

    def budget(self, app: str, *, min_available: int) -> None:
        """Make a PodDisruptionBudget and return when the control plane counts every pod that is Ready now."""
        healthy = len(self.ready_pods(app))
        policy = client.PolicyV1Api(self.api)
        spec = client.V1PodDisruptionBudgetSpec(
            min_available=min_available, selector=client.V1LabelSelector(match_labels={"app": app})
        )
        body = client.V1PodDisruptionBudget(metadata=client.V1ObjectMeta(name=app), spec=spec)
        policy.create_namespaced_pod_disruption_budget(self.name, body)

        def is_counted() -> bool:
            status = policy.read_namespaced_pod_disruption_budget(app, self.name).status
            return status is not None and status.observed_generation == 1 and status.current_healthy == healthy

        self.cluster.wait_until(is_counted, f"the budget of {app} is counted")

    def evict(self, pod: client.V1Pod) -> None:
        """Ask for an eviction. Raises ApiException with status 429 when a budget refuses it."""
        metadata = client.V1ObjectMeta(name=pod.metadata.name, namespace=self.name)
        self.core.create_namespaced_pod_eviction(pod.metadata.name, self.name, client.V1Eviction(metadata=metadata))


@contextmanager
def opened(cluster: Kubernetes, name: str) -> Iterator[Namespace]:
    with cluster.api_client() as api:
        yield Namespace(cluster=cluster, name=name, api=api)


def condition(thing: client.V1Pod | client.V1Node, kind: str) -> str | None:
    """Return the status ("True", "False", "Unknown") of a condition of a pod or a node, None when it has none."""
    found = [c.status for c in thing.status.conditions or () if c.type == kind]
    return found[0] if found else None
