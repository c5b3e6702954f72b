"""etcd over TLS, and at several addresses of which some do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.client.registry.cut import Relay
from tests.contracts.registry_contract import exactly, follow
from tests.contracts.registry_servers import Certificates, EtcdServer
from waypost.client.registry.etcd.gateway import EtcdGateway, Tls
from waypost.client.registry.etcd.registry import EtcdRegistry
from waypost.client.registry.instance import Instance
from waypost.client.registry.opening import open_registry
from waypost.errors import RegistryUnavailable

pytestmark = pytest.mark.e2e

ONE = Instance(id="p-1", name="payments", address="10.1.2.3", port=8080)
TWO = Instance(id="p-2", name="payments", address="10.1.2.4", port=8080)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def relays(plain: EtcdServer) -> Iterator[tuple[Relay, Relay]]:
    relays = Relay(plain.address), Relay(plain.address)
    yield relays
    for relay in relays:
        relay.close()


def test_over_tls_both_sides_show_who_they_are(tmp_path: Path) -> None:
    certificates = Certificates.made_in(tmp_path)
    server = EtcdServer(tmp_path, certificates)
    c = certificates
    server.start()
    try:
        with open_registry(f"etcds://{server.address}?ca={c.ca}&cert={c.client}&key={c.client_key}") as registry:
            with registry.watch("payments") as watch:
                registry.register(ONE)
                follow(watch, exactly(ONE))
            assert registry.discover("payments") == (ONE,)

        for stranger in (Tls(ca=c.ca), Tls(), None):
            gateway = EtcdGateway(server.url if stranger else server.url.replace("https", "http"), tls=stranger)
            with pytest.raises(RegistryUnavailable):
                gateway.list("/services/")
            gateway.close()
    finally:
        server.kill()


def test_the_next_address_takes_over_from_one_that_is_cut(plain: EtcdServer, relays: tuple[Relay, Relay]) -> None:
    first, second = relays
    urls = (f"http://{first.address}", f"http://{second.address}")
    with (
        EtcdRegistry(*urls, lease=timedelta(seconds=2)) as registry,
        EtcdRegistry(plain.url) as other,
        registry.watch("payments") as watch,
    ):
        registry.register(ONE)
        follow(watch, exactly(ONE))
        for cut, whole in ((first, second), (second, first)):
            whole.mend()
            cut.cut(refuse=True)
            # What was said meanwhile is heard, and what is said goes through.
            other.register(TWO)
            follow(watch, exactly(ONE, TWO))
            registry.update("payments", "p-1", weight=7)
            assert registry.am_i_registered("payments", "p-1")
            other.deregister("payments", "p-2")
            registry.update("payments", "p-1", weight=100)
            follow(watch, exactly(ONE))


def test_an_error_names_every_address_that_was_asked() -> None:
    gateway = EtcdGateway("http://127.0.0.1:1", "http://127.0.0.1:2")
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:1 .*127\.0\.0\.1:2 "):
        gateway.list("/services/")
    gateway.close()
