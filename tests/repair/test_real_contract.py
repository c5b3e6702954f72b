"""The contract of the door to a cluster, on a real control plane."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.repair.contract import ClusterContract
from waypost.repair.api_server import ApiServer, connect
from waypost.repair.objects import DEPLOYMENT, WORKLOADS, Pod
from waypost.repair.opt_out import OPT_OUT

pytest.importorskip("waypost.local.kubernetes", reason="comes with the real control plane")

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]


class RealStage:
    """One namespace. Workloads are made with the administrator's client, and everything waits for the controllers."""

    def __init__(self, kubernetes: Any, namespace: str, api: Any, cluster: ApiServer) -> None:
        from kubernetes import client

        self.namespace, self.cluster = namespace, cluster
        self._kubernetes = kubernetes
        self._apps, self._core, self._policy = client.AppsV1Api(api), client.CoreV1Api(api), client.PolicyV1Api(api)
        self._made: list[tuple[str, str]] = []

    def deploy(self, name: str, replicas: int, kind: str = DEPLOYMENT, *, recreate: bool = False) -> list[Pod]:
        labels = {"app": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "registry.invalid/nothing:1"}]},
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        meta = {"name": name, "labels": labels}
        service = {"metadata": meta, "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080}]}}
        self._core.create_namespaced_service(self.namespace, service)
        if kind == DEPLOYMENT:
            if recreate:
                spec |= {"strategy": {"type": "Recreate"}}
            body = {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec}
            self._apps.create_namespaced_deployment(self.namespace, body)
        else:
            body = {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": {**spec, "serviceName": name}}
            self._apps.create_namespaced_stateful_set(self.namespace, body)
        self._made.append((kind, name))
        self.settle()
        return sorted(self.cluster.pods(self.namespace, labels), key=lambda pod: pod.name)

    def budget(self, name: str, min_available: int) -> None:
        spec = {"minAvailable": min_available, "selector": {"matchLabels": {"app": name}}}
        body = {"metadata": {"name": name}, "spec": spec}
        self._policy.create_namespaced_pod_disruption_budget(self.namespace, body)

        def is_counted() -> bool:
            found = self._policy.read_namespaced_pod_disruption_budget(name, self.namespace).status
            return found is not None and found.observed_generation == 1 and found.current_healthy >= min_available

        self._kubernetes.wait_until(is_counted, f"the budget of {name} is counted")

    def settle(self) -> None:
        def is_settled() -> bool:
            for kind, name in self._made:
                workload = self.cluster.workload(kind, self.namespace, name)
                pods = self.cluster.pods(self.namespace, {"app": name})
                if workload is None or not workload.settled or len(pods) != workload.replicas:
                    return False
                if not all(pod.ready and not pod.deleting for pod in pods):
                    return False
            return True

        self._kubernetes.wait_until(is_settled, "every workload has what it shall have")

    def touch(self, kind: str, name: str) -> None:
        body = {"metadata": {"annotations": {"somebody": "else"}}}
        assert kind in WORKLOADS
        self._apps.patch_namespaced_deployment(name, self.namespace, body)

    def opt_out(self, kind: str, name: str, value: str) -> None:
        where = () if kind == "Node" else ("-n", self.namespace)
        self._kubernetes.kubectl("annotate", "--overwrite", kind.lower(), name, f"{OPT_OUT}={value}", *where)

    def a_node(self) -> str:
        return "node-1"

    def uncordon(self, name: str) -> None:
        taint = "node.kubernetes.io/unschedulable"

        def tainted() -> bool:
            return any(one.key == taint for one in self._core.read_node(name).spec.taints or ())

        self._kubernetes.wait_until(tainted, "the control plane has seen the cordon")
        self._kubernetes.kubectl("uncordon", name)
        self._kubernetes.wait_until(lambda: not tainted(), "the control plane has seen the uncordon")

    def now(self) -> int:
        return int(time.time() * 1000)


class TestRealControlPlane(ClusterContract):
    @pytest.fixture
    def stage(self, kubernetes: Any, namespace: str) -> Iterator[RealStage]:
        cluster = connect(kubernetes.kubeconfig, timeout_ms=10_000)
        with kubernetes.api_client() as api:
            yield RealStage(kubernetes, namespace, api, cluster)
        cluster.close()
