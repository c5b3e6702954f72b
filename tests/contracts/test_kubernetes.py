"""The contract of discoverers on Kubernetes: the fake API server, and the real one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.client.registry.slice_server import SliceServer
from tests.contracts.registry_contract import DiscovererContract, World
from tests.contracts.slices import endpoint_slice, write_kubeconfig
from waypost.client.registry.instance import Instance
from waypost.client.registry.opening import open_discoverer
from waypost.local.kubernetes import Kubernetes


class Slices(Protocol):
    """Who takes EndpointSlices."""

    def put(self, doc: dict[str, Any]) -> None: ...

    def drop(self, name: str) -> None: ...


class KubernetesWorld(World):
    """Two slices, so that what is in one is not lost when the other changes."""

    def __init__(self, slices: Slices, kubeconfig: Path, namespace: str) -> None:
        self._slices = slices
        self._instances: dict[str, Instance] = {}
        self.discoverer = open_discoverer(f"kubernetes:{namespace}?kubeconfig={kubeconfig}")
        self.service = f"svc-{uuid.uuid4().hex[:8]}"

    def instance(self, number: int, **fields: Any) -> Instance:
        said: dict[str, Any] = {"zone": "a", "metadata": {"node": f"node-{number}"}, **fields}
        return Instance(id=f"{self.service}-{number}", name=self.service, address=f"10.1.0.{number}", port=8080, **said)

    def put(self, instance: Instance) -> None:
        self._instances[instance.id] = instance
        self._write(instance)

    def remove(self, instance: Instance) -> None:
        del self._instances[instance.id]
        self._write(instance)

    def _write(self, changed: Instance) -> None:
        number = int(changed.id.rpartition("-")[2]) % 2
        those = [each for each in self._instances.values() if int(each.id.rpartition("-")[2]) % 2 == number]
        name = f"{self.service}-{number}"
        self._slices.put(endpoint_slice(self.service, *those, name=name)) if those else self._slices.drop(name)


class TestFake(DiscovererContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[KubernetesWorld]:
        server = SliceServer()
        world = KubernetesWorld(server, write_kubeconfig(tmp_path / "config", server.url), "shop")
        yield world
        world.close()
        server.stop()


class RealSlices:
    """EndpointSlices of a real API server, in a namespace of the test's own."""

    def __init__(self, cluster: Kubernetes, namespace: str) -> None:
        from kubernetes import client

        self._api = cluster.api_client()
        self._slices, self._namespace = client.DiscoveryV1Api(self._api), namespace
        self._there: set[str] = set()

    def put(self, doc: dict[str, Any]) -> None:
        name = doc["metadata"]["name"]
        if name in self._there:
            self._slices.replace_namespaced_endpoint_slice(name, self._namespace, doc)  # type: ignore[arg-type]
        else:
            self._slices.create_namespaced_endpoint_slice(self._namespace, doc)  # type: ignore[arg-type]
            self._there.add(name)

    def drop(self, name: str) -> None:
        if name in self._there:
            self._slices.delete_namespaced_endpoint_slice(name, self._namespace)
            self._there.remove(name)

    def close(self) -> None:
        self._api.close()


class TestReal(DiscovererContract):
    @pytest.fixture
    def world(self, kubernetes: Kubernetes, namespace: str) -> Iterator[KubernetesWorld]:
        slices = RealSlices(kubernetes, namespace)
        world = KubernetesWorld(slices, kubernetes.kubeconfig, namespace)
        yield world
        world.close()
        slices.close()
