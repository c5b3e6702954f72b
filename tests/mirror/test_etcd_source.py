"""What etcd has is told as it changes, by a real etcd that is cut, compacted and emptied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.client.registry.cut import Relay
from tests.contracts.conftest import eventually
from tests.contracts.registry_servers import EtcdServer
from tests.mirror.mirrored import Mirrored
from waypost.client.registry.etcd.gateway import EtcdGateway
from waypost.client.registry.etcd.layouts import KitexLayout, Layout, WaypostLayout
from waypost.client.registry.instance import Instance
from waypost.mirror.etcd import EtcdSource
from waypost.model.lifecycle import Status

pytestmark = pytest.mark.e2e

LAYOUT = WaypostLayout()
LONG, SHORT = timedelta(minutes=10), timedelta(milliseconds=200)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def relay(server: EtcdServer) -> Iterator[Relay]:
    relay = Relay(server.address)
    yield relay
    relay.close()


Mirror = Callable[..., Mirrored]


@pytest.fixture
def mirror(relay: Relay) -> Iterator[Mirror]:
    opened: list[EtcdSource] = []

    def start(layout: Layout = LAYOUT, *, grace: timedelta = LONG, **known: set[int]) -> Mirrored:
        before = {service: frozenset(("10.0.0.1", port) for port in ports) for service, ports in known.items()}
        mirrored, gateway = Mirrored(before), EtcdGateway(f"http://{relay.address}")
        source = EtcdSource(gateway, layout, mirrored, known=before, grace=grace)
        opened.append(source)
        source.start()
        return mirrored

    yield start
    for source in opened:
        source.close()


class Writer:
    """Registers in etcd as anybody could."""

    def __init__(self, server: EtcdServer, layout: Layout = LAYOUT) -> None:
        self.gateway, self._layout = EtcdGateway(server.url), layout

    def put(self, service: str, port: int, status: Status = Status.UP) -> None:
        id = f"10.0.0.1:{port}"
        one = Instance(id=id, name=service, address="10.0.0.1", port=port, status=status)
        self.gateway.put(self._layout.key(one), self._layout.encode(one), 0)

    def drop(self, service: str, port: int) -> None:
        self.gateway.delete(self._layout.key_of(service, f"10.0.0.1:{port}"))


@pytest.fixture
def writer(server: EtcdServer) -> Iterator[Writer]:
    writer = Writer(server)
    yield writer
    writer.gateway.close()


def test_it_tells_what_is_there_and_what_changes(writer: Writer, mirror: Mirror) -> None:
    writer.put("pay", 1)
    mirrored = mirror()
    mirrored.becomes(pay={1})
    writer.put("pay", 2)
    writer.put("cart", 3)
    mirrored.becomes(pay={1, 2}, cart={3})
    writer.put("pay", 1, Status.DRAINING)
    mirrored.becomes(pay={2}, cart={3})
    writer.drop("pay", 2)
    mirrored.becomes(cart={3})


def test_kitex_is_mirrored_too(server: EtcdServer, mirror: Mirror) -> None:
    writer = Writer(server, KitexLayout())
    writer.put("pay", 8080)
    mirror(KitexLayout()).becomes(pay={8080})
    writer.gateway.close()


def test_it_goes_on_where_another_ended(writer: Writer, mirror: Mirror) -> None:
    writer.put("pay", 1)
    writer.put("cart", 2)
    mirrored = mirror(pay={1}, gone={7}, cart={9})

    mirrored.becomes(pay={1}, cart={2})
    assert all("pay" not in told for told in mirrored.told)


def test_what_happened_while_it_was_cut_is_told(writer: Writer, relay: Relay, mirror: Mirror) -> None:
    writer.put("pay", 1)
    mirrored = mirror()
    mirrored.becomes(pay={1})
    for n in range(2, 5):
        relay.cut(refuse=True)
        writer.put("pay", n)
        writer.drop("pay", n - 1)
        relay.mend()
        mirrored.becomes(pay={n})


def test_history_that_is_gone_is_made_good_by_a_list(writer: Writer, relay: Relay, mirror: Mirror) -> None:
    writer.put("pay", 1)
    writer.put("cart", 1)
    mirrored = mirror()
    mirrored.becomes(pay={1}, cart={1})
    relay.cut(refuse=True)
    writer.drop("cart", 1)
    writer.put("pay", 2)
    revision = writer.gateway.list("/").revision
    writer.gateway._call("/v3/kv/compaction", {"revision": str(revision), "physical": True})
    relay.mend()

    mirrored.becomes(pay={1, 2})


def test_an_etcd_that_was_emptied_takes_nobody_away_at_once(server: EtcdServer, writer: Writer, mirror: Mirror) -> None:
    writer.put("pay", 1)
    writer.put("pay", 2)
    writer.put("cart", 2)
    mirrored = mirror()
    mirrored.becomes(pay={1, 2}, cart={2})

    server.wipe()
    server.start()
    writer.put("pay", 3)

    mirrored.becomes(pay={1, 2, 3}, cart={2})
    writer.put("pay", 1)
    writer.drop("pay", 1)
    mirrored.becomes(pay={2, 3}, cart={2})


def test_after_a_grace_a_service_that_is_back_is_believed_and_one_that_is_not_stays(
    server: EtcdServer, writer: Writer, mirror: Mirror
) -> None:
    writer.put("pay", 1)
    writer.put("cart", 2)
    mirrored = mirror(grace=SHORT)
    mirrored.becomes(pay={1}, cart={2})

    server.wipe()
    server.start()
    writer.put("pay", 3)

    mirrored.becomes(pay={3}, cart={2})
    writer.put("cart", 4)
    mirrored.becomes(pay={3}, cart={4})
    writer.drop("cart", 4)
    mirrored.becomes(pay={3})


def test_an_empty_etcd_is_not_believed_at_the_start(writer: Writer, mirror: Mirror) -> None:
    mirrored = mirror(pay={1}, cart={2})
    eventually(lambda: mirrored.told, within=60)  # it has looked
    writer.put("pay", 5)

    mirrored.becomes(pay={1, 5}, cart={2})


def test_what_cannot_be_read_takes_nobody_with_it(writer: Writer, mirror: Mirror) -> None:
    writer.put("pay", 1)
    for key in ("/services/pay/spoiled", "/services/Not_A_Name/x", "/services/pay/a/b", "/services/lonely"):
        writer.gateway.put(key, b"{", 0)

    mirror().becomes(pay={1})
