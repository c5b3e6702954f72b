"""Discovery from a real name server (NSD) on loopback: the contract, every kind of record, and its TTL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.contracts.registry_contract import DiscovererContract, World, eventually, exactly, follow
from tests.contracts.registry_servers import NsdServer
from waypost.client.registry.dns import DnsDiscoverer
from waypost.client.registry.instance import Instance
from waypost.errors import InvalidPort, RegistryUnavailable, UnknownService

pytestmark = pytest.mark.e2e

A_WHILE = timedelta(milliseconds=200)


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NsdServer]:
    server = NsdServer(tmp_path_factory.mktemp("nsd"))
    server.set("up", "1 A 10.0.0.1")
    server.start()
    eventually(lambda: found(server, "up", port=1))
    yield server
    server.kill()


def found(server: NsdServer, service: str, **settings: Any) -> dict[str, tuple[int, int]]:
    """Ask anew, with an empty cache; address → port and weight."""
    with DnsDiscoverer(("127.0.0.1", server.port), domain="test", **settings) as discoverer:
        try:
            return {i.address: (i.port, i.weight) for i in discoverer.discover(service)}
        except (UnknownService, RegistryUnavailable):
            return {}


class DnsWorld(World):
    has_list = False

    def __init__(self, server: NsdServer) -> None:
        self._server = server
        self._there: dict[str, Instance] = {}
        self.service = f"svc-{uuid.uuid4().hex[:8]}"
        self.discoverer = DnsDiscoverer(("127.0.0.1", server.port), domain="test", port=8080)

    def instance(self, number: int, **fields: Any) -> Instance:
        address = f"10.1.0.{number}"
        return Instance(id=f"{address}:8080", name=self.service, address=address, port=8080)

    def put(self, instance: Instance) -> None:
        self._there[instance.id] = instance
        self._write()

    def remove(self, instance: Instance) -> None:
        del self._there[instance.id]
        self._write()

    def _write(self) -> None:
        self._server.set(self.service, *(f"1 A {instance.address}" for instance in self._there.values()))


class TestDns(DiscovererContract):
    @pytest.fixture
    def world(self, nsd: NsdServer) -> Iterator[DnsWorld]:
        world = DnsWorld(nsd)
        yield world
        world.close()


def test_srv_records_have_ports_weights_and_priorities(nsd: NsdServer) -> None:
    nsd.set("a", "1 A 10.2.0.1")
    nsd.set("b", "1 A 10.2.0.2", "1 AAAA 2001:db8::2")
    nsd.set("spare", "1 A 10.2.0.9")
    nsd.set("_http._tcp.web", "1 SRV 10 70 8081 a", "1 SRV 10 30 8082 b", "1 SRV 20 100 8083 spare")

    eventually(lambda: len(found(nsd, "web", prefix="_http._tcp")) == 3)

    assert found(nsd, "web", prefix="_http._tcp") == {
        "10.2.0.1": (8081, 70),
        "10.2.0.2": (8082, 30),
        "2001:db8::2": (8082, 30),
    }


def test_srv_records_without_weights_are_equal(nsd: NsdServer) -> None:
    nsd.set("plain-a", "1 A 10.3.0.1")
    nsd.set("plain", "1 SRV 0 0 9000 plain-a")

    eventually(lambda: found(nsd, "plain"))
    assert found(nsd, "plain") == {"10.3.0.1": (9000, 100)}


def test_aliases_are_followed(nsd: NsdServer) -> None:
    nsd.set("real", "1 A 10.4.0.1")
    nsd.set("alias", "1 CNAME alias2")
    nsd.set("alias2", "1 CNAME real")

    eventually(lambda: found(nsd, "alias", port=80))
    assert found(nsd, "alias", port=80) == {"10.4.0.1": (80, 100)}


def test_an_alias_that_leads_in_a_circle_is_an_error_in_time(nsd: NsdServer) -> None:
    nsd.set("round", "1 CNAME about")
    nsd.set("about", "1 CNAME round")
    nsd.set("after-round", "1 A 10.0.0.3")
    eventually(lambda: found(nsd, "after-round", port=1))

    with (
        DnsDiscoverer(("127.0.0.1", nsd.port), domain="test", port=80) as discoverer,
        pytest.raises((RegistryUnavailable, UnknownService)),
    ):
        discoverer.discover("round")


def test_an_address_without_a_port_is_an_error_that_says_what_to_do(nsd: NsdServer) -> None:
    with (
        DnsDiscoverer(("127.0.0.1", nsd.port), domain="test") as discoverer,
        pytest.raises(InvalidPort, match="port="),
    ):
        discoverer.discover("up")


def test_an_answer_is_kept_for_its_ttl_and_no_longer(nsd: NsdServer) -> None:
    nsd.set("long", "3600 A 10.5.0.1")
    nsd.set("short", "1 A 10.5.0.1")
    eventually(lambda: found(nsd, "short", port=80) and found(nsd, "long", port=80))
    with DnsDiscoverer(("127.0.0.1", nsd.port), domain="test", port=80) as discoverer:
        assert discoverer.discover("long")[0].address == "10.5.0.1"
        with discoverer.watch("short") as watch:
            first = Instance(id="10.5.0.1:80", name="short", address="10.5.0.1", port=80)
            follow(watch, exactly(first))

            nsd.set("long", "3600 A 10.5.0.2")
            nsd.set("short", "1 A 10.5.0.2")
            eventually(lambda: "10.5.0.2" in found(nsd, "long", port=80))

            follow(watch, exactly(Instance(id="10.5.0.2:80", name="short", address="10.5.0.2", port=80)))
        assert discoverer.discover("long")[0].address == "10.5.0.1"


def test_a_server_that_is_gone_leaves_what_was_last_known(nsd: NsdServer, tmp_path_factory: Any) -> None:
    server = NsdServer(tmp_path_factory.mktemp("gone"))
    server.set("kept", "1 A 10.6.0.1")
    server.start()
    eventually(lambda: found(server, "kept", port=80))
    discoverer = DnsDiscoverer(("127.0.0.1", server.port), domain="test", port=80, timeout=timedelta(milliseconds=500))
    with discoverer, discoverer.watch("kept") as watch:
        kept = Instance(id="10.6.0.1:80", name="kept", address="10.6.0.1", port=80)
        follow(watch, exactly(kept))

        server.kill()

        eventually(lambda: watch.stale_since is not None)
        assert watch.poll(A_WHILE) == []
        assert watch.snapshot.callable == {kept.id: kept}
        server.start()
        eventually(lambda: watch.stale_since is None)
    server.kill()
