"""The contract of registries on the fake, a file, environment variables, and a real etcd with both layouts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.registry_contract import DiscovererContract, RegistryContract, RegistryWorld, World
from tests.contracts.registry_servers import EtcdServer
from waypost.client.registry.environment import EnvironmentVariables
from waypost.client.registry.etcd.layouts import KitexLayout, Layout, WaypostLayout
from waypost.client.registry.etcd.registry import EtcdRegistry
from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import ServiceRegistry
from waypost.client.registry.memory import MemoryRegistry
from waypost.client.registry.static_file import StaticFile


def a_service() -> str:
    return f"svc-{uuid.uuid4().hex[:8]}"


def an_instance(service: str, number: int, **fields: Any) -> Instance:
    said: dict[str, Any] = {"weight": 50, "zone": "a", "metadata": {"version": "1"}, **fields}
    return Instance(id=f"{service}-{number}", name=service, address=f"10.1.0.{number}", port=8080, **said)


class MemoryWorld(RegistryWorld):
    def __init__(self) -> None:
        self.registry = self.discoverer = MemoryRegistry()
        self.service = a_service()

    def instance(self, number: int, **fields: Any) -> Instance:
        return an_instance(self.service, number, **fields)

    def another(self) -> AbstractContextManager[ServiceRegistry]:
        return nullcontext(self.registry)


class TestMemory(RegistryContract):
    @pytest.fixture
    def world(self) -> Iterator[MemoryWorld]:
        world = MemoryWorld()
        yield world
        world.close()


class FileWorld(World):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._instances: dict[str, Instance] = {}
        self._write({})
        self.discoverer = StaticFile(path)
        self.service = a_service()

    def instance(self, number: int, **fields: Any) -> Instance:
        return an_instance(self.service, number, **fields)

    def put(self, instance: Instance) -> None:
        self._instances[instance.id] = instance
        self._write({self.service: list(self._instances.values())})

    def remove(self, instance: Instance) -> None:
        del self._instances[instance.id]
        self._write({self.service: list(self._instances.values())})

    def _write(self, services: dict[str, list[Instance]]) -> None:
        names = ("id", "address", "port", "weight", "zone", "metadata")
        content = {s: [{n: getattr(i, n) for n in names} for i in found] for s, found in services.items()}
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps(content))
        scratch.replace(self._path)


class TestFile(DiscovererContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[FileWorld]:
        world = FileWorld(tmp_path / "services.yaml")
        yield world
        world.close()


class EnvironmentWorld(World):
    holds_many = False

    def __init__(self) -> None:
        self._environ: dict[str, str] = {}
        self.discoverer = EnvironmentVariables(self._environ)
        self.service = a_service()

    def instance(self, number: int, **fields: Any) -> Instance:
        return Instance(id=f"10.1.0.{number}:6379", name=self.service, address=f"10.1.0.{number}", port=6379)

    def put(self, instance: Instance) -> None:
        stem = self.service.upper().replace("-", "_")
        self._environ.update({f"{stem}_SERVICE_PORT": str(instance.port), f"{stem}_SERVICE_HOST": instance.address})

    def remove(self, instance: Instance) -> None:
        del self._environ[f"{self.service.upper().replace('-', '_')}_SERVICE_HOST"]


class TestEnvironment(DiscovererContract):
    @pytest.fixture
    def world(self) -> Iterator[EnvironmentWorld]:
        world = EnvironmentWorld()
        yield world
        world.close()


class EtcdWorld(RegistryWorld):
    def __init__(self, url: str, layout: Layout) -> None:
        self._place = url, layout
        self.registry = self.discoverer = EtcdRegistry(url, layout=layout, lease=timedelta(seconds=30))
        self.service = a_service()

    def instance(self, number: int, **fields: Any) -> Instance:
        return an_instance(self.service, number, **fields)

    def another(self) -> AbstractContextManager[ServiceRegistry]:
        url, layout = self._place
        return EtcdRegistry(url, layout=layout, lease=timedelta(seconds=30))


class KitexWorld(EtcdWorld):
    has_status = False
    has_ids = False

    def instance(self, number: int, **fields: Any) -> Instance:
        said: dict[str, Any] = {"weight": 50, "metadata": {"version": "1"}, **fields}
        return Instance(id=f"10.1.0.{number}:8080", name=self.service, address=f"10.1.0.{number}", port=8080, **said)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.kill()


@pytest.mark.e2e
class TestEtcd(RegistryContract):
    @pytest.fixture(params=[(EtcdWorld, WaypostLayout), (KitexWorld, KitexLayout)], ids=["waypost", "kitex"])
    def world(self, request: pytest.FixtureRequest, etcd: EtcdServer) -> Iterator[EtcdWorld]:
        kind: Callable[[str, Layout], EtcdWorld]
        kind, layout = request.param
        world = kind(etcd.url, layout())
        yield world
        world.close()
