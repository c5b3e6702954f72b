"""The manager: registered, found, checked, called."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.contracts.registry_contract import eventually
from waypost.client.balancers import RoundRobin
from waypost.client.discovery import DiscoveryManager
from waypost.client.failover import CallFailed
from waypost.client.health_checks import TcpProbe
from waypost.client.registry.environment import EnvironmentVariables
from waypost.client.registry.instance import Instance
from waypost.client.registry.memory import MemoryRegistry
from waypost.errors import NotSupported, RegistryUnavailable

OFTEN = timedelta(milliseconds=20)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def at(id: str, port: int) -> Instance:
    return Instance(id=id, name="svc", address="127.0.0.1", port=port)


def called(instance: Instance) -> str:
    socket.create_connection((instance.address, instance.port), 5).close()
    return instance.id


def test_who_is_registered_is_called_and_who_is_not_answering_is_passed_over(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]
    with DiscoveryManager(MemoryRegistry(), make_balancer=RoundRobin) as manager:
        manager.register(at("alive", listener.getsockname()[1]))
        manager.register(at("dead", dead))

        assert {manager.call("svc", called) for _ in range(4)} == {"alive"}


def test_health_checks_take_instances_out_and_never_all(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]
    registry = MemoryRegistry()
    with DiscoveryManager(registry, probe=TcpProbe(), interval=OFTEN) as manager:
        manager.register(at("alive", listener.getsockname()[1]))
        manager.register(at("dead", dead))
        eventually(lambda: [each.id for each in manager.table("svc").instances] == ["alive"])
        assert {manager.pick("svc").id for _ in range(20)} == {"alive"}

        manager.deregister("svc", "alive")
        eventually(lambda: [each.id for each in manager.table("svc").instances] == ["dead"])


def test_an_outage_of_the_registry_is_not_one_of_the_service(listener: socket.socket) -> None:
    registry = MemoryRegistry()
    with DiscoveryManager(registry) as manager:
        manager.register(at("alive", listener.getsockname()[1]))
        assert manager.call("svc", called) == "alive"

        registry.failure = RegistryUnavailable("away")

        eventually(lambda: manager.table("svc").is_stale)
        assert manager.call("svc", called) == "alive"
        registry.failure = None


def test_nobody_and_read_only_are_errors() -> None:
    with DiscoveryManager(EnvironmentVariables({})) as manager:
        with pytest.raises(CallFailed, match="nobody"):
            manager.pick("svc")
        with pytest.raises(CallFailed, match="nobody"):
            manager.call("svc", called)
        with pytest.raises(NotSupported):
            manager.register(at("x", 1))
