"""What Kubernetes has is told as it changes, by an API server that ends watches, forgets history and is emptied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.client.registry.cut import Relay
from tests.client.registry.slice_server import SliceServer
from tests.contracts.conftest import eventually
from tests.contracts.slices import endpoint_slice, write_kubeconfig
from tests.mirror.mirrored import Mirrored
from waypost.client.registry.instance import Instance
from waypost.client.registry.kubernetes.address import KubernetesAddress
from waypost.client.registry.kubernetes.slice_api import SliceApi
from waypost.client.registry.kubernetes.slices import ANY_PORT, PortChoice
from waypost.errors import RegistryUnavailable
from waypost.mirror.kubernetes import KubernetesSource
from waypost.model.lifecycle import Status

LONG, SHORT = timedelta(minutes=10), timedelta(milliseconds=200)


@pytest.fixture
def server() -> Iterator[SliceServer]:
    server = SliceServer(page=2)
    yield server
    server.stop()


@pytest.fixture
def relay(server: SliceServer) -> Iterator[Relay]:
    relay = Relay(server.url.removeprefix("http://"))
    yield relay
    relay.close()


Mirror = Callable[..., Mirrored]
Make = Callable[..., tuple[KubernetesSource, Mirrored]]


@pytest.fixture
def make(relay: Relay, tmp_path: Path) -> Iterator[Make]:
    opened: list[KubernetesSource] = []
    where = KubernetesAddress(kubeconfig=write_kubeconfig(tmp_path / "config", f"http://{relay.address}"))

    def made(
        selector: str = "", port: PortChoice = ANY_PORT, grace: timedelta = LONG, **known: set[int]
    ) -> tuple[KubernetesSource, Mirrored]:
        before = {service: frozenset(("10.0.0.1", port) for port in ports) for service, ports in known.items()}
        mirrored = Mirrored(before)
        source = KubernetesSource(SliceApi.at(where), mirrored, known=before, selector=selector, port=port, grace=grace)
        opened.append(source)
        return source, mirrored

    yield made
    for source in opened:
        source.close()


@pytest.fixture
def mirror(make: Make) -> Mirror:
    def started(*args: Any, **kwargs: Any) -> Mirrored:
        source, mirrored = make(*args, **kwargs)
        source.start()
        return mirrored

    return started


def put(server: SliceServer, service: str, port: int, status: Status = Status.UP, **labels: str) -> None:
    """Write a slice of one endpoint; services have one per port."""
    one = Instance(
        id=f"{service}-{port}", name=service, address="10.0.0.1", port=port, status=status, metadata={"node": "n"}
    )
    server.put(endpoint_slice(service, one, name=one.id, **labels))


def test_it_tells_what_is_there_and_what_changes(server: SliceServer, mirror: Mirror) -> None:
    put(server, "pay", 1)
    mirrored = mirror()
    mirrored.becomes(pay={1})
    put(server, "pay", 2)
    put(server, "cart", 3)
    mirrored.becomes(pay={1, 2}, cart={3})
    put(server, "pay", 1, Status.DRAINING)
    mirrored.becomes(pay={2}, cart={3})
    put(server, "pay", 1)
    put(server, "pay", 2, Status.DOWN)
    mirrored.becomes(pay={1}, cart={3})
    server.drop("pay-1")
    server.drop("pay-2")
    mirrored.becomes(cart={3})


def test_only_selected_services_are_told(server: SliceServer, mirror: Mirror) -> None:
    put(server, "pay", 1, tier="edge")
    put(server, "cart", 2)
    mirrored = mirror("tier=edge", old={9})
    mirrored.becomes(pay={1})
    put(server, "ship", 3, tier="edge")
    put(server, "cart", 4)
    mirrored.becomes(pay={1}, ship={3})


def test_one_look_tells_all(server: SliceServer, make: Make) -> None:
    for n in range(1, 6):
        put(server, f"s{n}", n)
    source, mirrored = make(gone={7}, s1={1})
    source.look()
    assert mirrored.ports() == {f"s{n}": {n} for n in range(1, 6)}
    assert all("s1" not in told for told in mirrored.told)
    server.stop()
    with pytest.raises(RegistryUnavailable):
        source.look()


def test_a_service_that_does_not_say_where_it_listens_stays_as_it_was(server: SliceServer, mirror: Mirror) -> None:
    both: list[dict[str, Any]] = [{"name": "http", "port": 1}, {"name": "metrics", "port": 2}]
    one = Instance(id="p", name="pay", address="10.0.0.1", port=1, metadata={"node": "n"})
    server.put(endpoint_slice("pay", one, ports=both))
    put(server, "cart", 3)
    mirrored = mirror(pay={9})
    mirrored.becomes(pay={9}, cart={3})
    mirror(port=PortChoice(name="metrics", if_several=True)).becomes(pay={2}, cart={3})
    server.put(endpoint_slice("pay", one, ports=both[:1]))
    mirrored.becomes(pay={1}, cart={3})
    server.put(endpoint_slice("pay", one, ports=both))
    put(server, "cart", 4)
    mirrored.becomes(pay={1}, cart={3, 4})


def test_what_happened_while_it_was_cut_is_told(server: SliceServer, relay: Relay, mirror: Mirror) -> None:
    put(server, "pay", 1)
    mirrored = mirror()
    mirrored.becomes(pay={1})
    for n in range(2, 5):
        relay.cut(refuse=True)
        put(server, "pay", n)
        server.drop(f"pay-{n - 1}")
        relay.mend()
        mirrored.becomes(pay={n})


def test_history_that_is_gone_is_made_good_by_a_list(server: SliceServer, relay: Relay, mirror: Mirror) -> None:
    put(server, "pay", 1)
    put(server, "cart", 1)
    mirrored = mirror()
    mirrored.becomes(pay={1}, cart={1})
    relay.cut(refuse=True)
    server.drop("cart-1")
    put(server, "pay", 2)
    server.compact()
    relay.mend()

    mirrored.becomes(pay={1, 2})
    server.say_error(500, "InternalError")
    put(server, "pay", 3)
    mirrored.becomes(pay={1, 2, 3})
    server.end_watches()
    put(server, "pay", 4)
    mirrored.becomes(pay={1, 2, 3, 4})


def test_an_api_server_that_was_emptied_takes_nobody_away_at_once(server: SliceServer, mirror: Mirror) -> None:
    put(server, "pay", 1)
    put(server, "pay", 2)
    put(server, "cart", 2)
    mirrored = mirror()
    mirrored.becomes(pay={1, 2}, cart={2})

    eventually(lambda: any("watch" in query for query in server.asked), within=60)  # or nothing tells it of the end
    server.wipe()
    put(server, "pay", 3)

    mirrored.becomes(pay={1, 2, 3}, cart={2})
    put(server, "pay", 1)
    server.drop("pay-1")
    mirrored.becomes(pay={2, 3}, cart={2})


def test_after_a_grace_a_service_that_is_back_is_believed_and_one_that_is_not_stays(
    server: SliceServer, mirror: Mirror
) -> None:
    put(server, "pay", 1)
    put(server, "cart", 2)
    mirrored = mirror(grace=SHORT)
    mirrored.becomes(pay={1}, cart={2})

    eventually(lambda: any("watch" in query for query in server.asked), within=60)  # or nothing tells it of the end
    server.wipe()
    put(server, "pay", 3)

    mirrored.becomes(pay={3}, cart={2})
    put(server, "cart", 4)
    mirrored.becomes(pay={3}, cart={4})
    server.drop("cart-4")
    mirrored.becomes(pay={3})


def test_an_empty_namespace_is_not_believed_at_the_start(server: SliceServer, mirror: Mirror) -> None:
    mirrored = mirror(pay={1}, cart={2})
    eventually(lambda: mirrored.told, within=60)  # it has looked
    put(server, "pay", 5)

    mirrored.becomes(pay={1, 5}, cart={2})


def test_two_mirrors_come_to_the_same(server: SliceServer, mirror: Mirror) -> None:
    put(server, "pay", 1)
    one, other = mirror(), mirror()
    for n in range(2, 6):
        put(server, "pay", n)
        server.drop(f"pay-{n - 1}")
    for mirrored in (one, other):
        mirrored.becomes(pay={5})
    assert one.sets == other.sets
