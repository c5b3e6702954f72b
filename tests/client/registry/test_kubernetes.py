"""Watches of Kubernetes through the accidents of an API server: history gone, errors, ends, outages, an old copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import ConfigException

from tests.client.registry.cut import Relay
from tests.client.registry.slice_server import SliceServer
from tests.contracts.registry_contract import A_WHILE, CEILING_S, eventually, exactly, follow
from tests.contracts.slices import endpoint_slice, write_kubeconfig
from waypost.client.registry.feed import Watch
from waypost.client.registry.instance import Instance
from waypost.client.registry.kubernetes.address import KubernetesAddress
from waypost.client.registry.kubernetes.discoverer import KubernetesDiscoverer
from waypost.client.registry.kubernetes.slice_api import SliceApi
from waypost.errors import InvalidName, InvalidPort, RegistryUnavailable, UnknownService, WatchPositionLost


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


def opened(url: str, directory: Path, **settings: Any) -> KubernetesDiscoverer:
    where = KubernetesAddress(kubeconfig=write_kubeconfig(directory / "config", url))
    return KubernetesDiscoverer(SliceApi.at(where), **settings)


@pytest.fixture
def found(relay: Relay, tmp_path: Path) -> Iterator[KubernetesDiscoverer]:
    with opened(f"http://{relay.address}", tmp_path, grace=timedelta(minutes=10)) as discoverer:
        yield discoverer


def pay(number: int, **fields: Any) -> Instance:
    said = {"zone": "a", "metadata": {"node": "node-1"}, **fields}
    return Instance(id=f"pay-{number}", name="pay", address=f"10.1.0.{number}", port=8080, **said)


def put(server: SliceServer, *instances: Instance, name: str = "pay-1", **said: Any) -> None:
    server.put(endpoint_slice("pay", *instances, name=name, **said))


@pytest.fixture
def watch(server: SliceServer, found: KubernetesDiscoverer) -> Iterator[Watch]:
    """A watch that has seen one instance."""
    put(server, pay(1))
    with found.watch("pay") as watch:
        follow(watch, exactly(pay(1)))
        eventually(lambda: followed(server) == 1)
        yield watch


def followed(server: SliceServer) -> int:
    return sum("watch" in query for query in server.asked)


def listed(server: SliceServer) -> int:
    return sum("labelSelector" in query and "watch" not in query for query in server.asked)


def test_pages_are_put_together(server: SliceServer, found: KubernetesDiscoverer) -> None:
    many = [pay(number) for number in range(1, 8)]
    for each in many:
        put(server, each, name=each.id)
    server.put(endpoint_slice("cart", name="cart-1"))

    assert found.discover("pay") == tuple(many)
    assert found.list_services() == ("cart", "pay")
    assert found.discover("cart") == ()
    with found.watch("pay") as watch:
        follow(watch, exactly(*many))


def test_a_watch_that_the_server_ends_goes_on_and_is_never_stale(server: SliceServer, watch: Watch) -> None:
    for number in range(2, 6):
        server.end_watches()
        put(server, pay(number))
        follow(watch, exactly(pay(number)))
        assert watch.stale_since is None
    assert listed(server) == 1


def test_history_that_is_gone_is_made_good_by_a_list(server: SliceServer, relay: Relay, watch: Watch) -> None:
    relay.cut(refuse=True)
    eventually(lambda: watch.stale_since is not None)
    put(server, pay(2))
    put(server, pay(3), name="pay-2")
    server.drop("pay-1")
    server.compact()
    relay.mend()

    follow(watch, exactly(pay(3)))
    assert listed(server) == 2
    eventually(lambda: watch.stale_since is None)


def test_any_error_event_is_made_good_by_a_list(server: SliceServer, watch: Watch) -> None:
    server.say_error(500, "InternalError")
    eventually(lambda: listed(server) == 2)
    put(server, pay(2))
    follow(watch, exactly(pay(2)))
    server.say_error(410, "Expired")
    eventually(lambda: listed(server) == 3)
    put(server, pay(3))
    follow(watch, exactly(pay(3)))
    eventually(lambda: watch.stale_since is None)


def test_an_outage_leaves_what_was_known_marked_stale(
    server: SliceServer, found: KubernetesDiscoverer, watch: Watch
) -> None:
    server.stop()
    eventually(lambda: watch.stale_since is not None)
    assert watch.poll(A_WHILE) == []
    assert watch.snapshot.callable == {"pay-1": pay(1)}
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        found.get_service("pay")
    with pytest.raises(RegistryUnavailable):
        found.list_services()

    put(server, pay(2))
    server.start()
    follow(watch, exactly(pay(2)))
    eventually(lambda: watch.stale_since is None)


def test_a_refusal_says_what_to_grant_and_is_got_over(
    server: SliceServer, found: KubernetesDiscoverer, watch: Watch
) -> None:
    server.refusal = 403, 'endpointslices.discovery.k8s.io is forbidden: User "x" cannot list'
    server.end_watches()
    with pytest.raises(RegistryUnavailable, match="grant get, list and watch on endpointslices"):
        found.get_service("pay")
    eventually(lambda: watch.stale_since is not None)

    server.refusal = None
    put(server, pay(2))
    follow(watch, exactly(pay(2)))


def test_credentials_that_cannot_be_renewed_are_an_outage(
    server: SliceServer, found: KubernetesDiscoverer, watch: Watch
) -> None:
    def fails(_: object) -> None:
        raise ConfigException("Token file exists but empty.")

    settings = found._api._client.configuration
    settings.refresh_api_key_hook = fails
    server.end_watches()
    eventually(lambda: watch.stale_since is not None)
    with pytest.raises(RegistryUnavailable, match="Token file"):
        found.get_service("pay")

    settings.refresh_api_key_hook = None
    put(server, pay(2))
    follow(watch, exactly(pay(2)))


def test_what_happens_while_it_is_cut_is_told_once(server: SliceServer, relay: Relay, watch: Watch) -> None:
    for number in range(2, 8):
        relay.cut(refuse=True)
        put(server, pay(number))
        relay.mend()
        follow(watch, exactly(pay(number)))
    assert listed(server) == 1


def test_a_bookmark_moves_the_position_on(server: SliceServer, found: KubernetesDiscoverer, watch: Watch) -> None:
    before = watch.snapshot.position
    server.bookmark()
    eventually(lambda: watch.poll(A_WHILE) == [] and watch.snapshot.position != before)
    bookmarked = watch.snapshot

    server.drop("pay-1")
    follow(watch, exactly())
    with found.watch("pay", after=bookmarked) as later:
        follow(later, exactly())


def test_an_old_snapshot_whose_history_is_gone_is_said(
    server: SliceServer, found: KubernetesDiscoverer, watch: Watch
) -> None:
    old = watch.snapshot
    put(server, pay(2))
    server.compact()
    with found.watch("pay", after=old) as later, pytest.raises(WatchPositionLost, match="no history"):
        polled(later)


def test_a_snapshot_of_a_later_version_or_another_port_is_said(
    server: SliceServer, found: KubernetesDiscoverer, watch: Watch, relay: Relay, tmp_path: Path
) -> None:
    snapshot = watch.snapshot
    other = KubernetesAddress(kubeconfig=tmp_path / "config", namespace="other")
    with KubernetesDiscoverer(SliceApi.at(other)) as elsewhere, pytest.raises(WatchPositionLost):
        elsewhere.watch("pay", after=snapshot)
    server.wipe()
    with found.watch("pay", after=snapshot) as later, pytest.raises(WatchPositionLost):
        polled(later)


def polled(watch: Watch) -> None:
    deadline = time.monotonic() + CEILING_S
    while time.monotonic() < deadline:
        watch.poll(A_WHILE)


def test_an_api_server_that_was_emptied_takes_nobody_away_at_once(server: SliceServer, watch: Watch) -> None:
    put(server, pay(1), pay(2))
    follow(watch, exactly(pay(1), pay(2)))
    server.wipe()
    eventually(lambda: watch.stale_since is not None)
    assert watch.poll(A_WHILE) == []
    since = watch.stale_since

    put(server, pay(3))
    follow(watch, exactly(pay(1), pay(2), pay(3)))
    assert watch.stale_since == since
    put(server, pay(2), pay(3))
    put(server, pay(3))  # 2 was there again, and went in front of our eyes
    follow(watch, exactly(pay(1), pay(3)))


def test_a_server_that_is_emptied_while_a_watch_opens_is_seen(server: SliceServer, watch: Watch) -> None:
    def empty() -> None:
        server.wipe()
        put(server, pay(2))

    server.before_watch = empty
    server.end_watches()
    follow(watch, exactly(pay(1), pay(2)))
    assert watch.stale_since is not None
    assert listed(server) == 2


def test_a_version_that_goes_back_in_an_open_watch_is_made_good_by_a_list(server: SliceServer, watch: Watch) -> None:
    server.wipe(ends_watches=False)
    server.bookmark()
    eventually(lambda: watch.stale_since is not None)
    assert watch.poll(A_WHILE) == []
    put(server, pay(2))
    follow(watch, exactly(pay(1), pay(2)))


def test_nobody_is_taken_away_by_a_server_that_is_emptied_again(
    server: SliceServer, found: KubernetesDiscoverer, watch: Watch
) -> None:
    [follower] = found._followers
    put(server, pay(1), pay(2))
    follow(watch, exactly(pay(1), pay(2)))
    server.wipe()
    put(server, pay(2))
    eventually(lambda: follower._missing._timer is not None)
    since = watch.stale_since
    server.wipe()
    eventually(lambda: follower._missing._timer is None)
    assert watch.poll(A_WHILE) == []
    assert watch.stale_since == since is not None

    put(server, pay(2))
    eventually(lambda: follower._missing._timer is not None)
    assert watch.snapshot.callable == {"pay-1": pay(1), "pay-2": pay(2)}


def test_after_a_grace_those_who_have_not_come_back_are_gone(server: SliceServer, relay: Relay, tmp_path: Path) -> None:
    with opened(f"http://{relay.address}", tmp_path, grace=A_WHILE) as found, found.watch("pay") as watch:
        put(server, pay(1), pay(2))
        follow(watch, exactly(pay(1), pay(2)))
        wiped = time.monotonic()
        server.wipe()
        put(server, pay(2))
        follow(watch, exactly(pay(2)))
        assert time.monotonic() - wiped >= A_WHILE.total_seconds()
        eventually(lambda: watch.stale_since is None)


def test_ports_that_become_ambiguous_leave_what_was_known(server: SliceServer, watch: Watch) -> None:
    both: list[dict[str, Any]] = [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}]
    put(server, pay(2), ports=both)
    eventually(lambda: watch.stale_since is not None)
    server.bookmark()
    assert watch.poll(A_WHILE) == []
    assert watch.snapshot.callable == {"pay-1": pay(1)}
    assert watch.stale_since is not None

    put(server, pay(2), ports=both[:1])
    follow(watch, exactly(pay(2)))
    assert watch.stale_since is None


def test_ports_that_were_never_clear_are_an_error(server: SliceServer, found: KubernetesDiscoverer) -> None:
    put(server, pay(1), ports=[{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}])
    with pytest.raises(InvalidPort, match="http, metrics"):
        found.get_service("pay")
    with found.watch("pay") as watch, pytest.raises(InvalidPort):
        polled(watch)


def test_a_slice_that_cannot_be_read_takes_nobody_with_it(server: SliceServer, watch: Watch) -> None:
    spoiled = endpoint_slice("pay", pay(2), name="pay-2")
    server.put({**spoiled, "endpoints": "?"})
    put(server, pay(3), name="pay-3")
    follow(watch, exactly(pay(1), pay(3)))


def test_a_moved_endpoint_is_never_gone(server: SliceServer, watch: Watch) -> None:
    put(server, pay(1), name="pay-2")
    server.drop("pay-1")
    put(server, pay(2), name="pay-3")
    events = follow(watch, exactly(pay(1), pay(2)))
    assert [event.instance.id for event in events] == ["pay-2"]


def test_many_events_with_cuts_lose_nothing(server: SliceServer, relay: Relay, watch: Watch) -> None:
    def write() -> None:
        for round in range(1, 301):
            put(server, pay(1, zone=str(round)), name="pay-1")
            if round % 50 == 0:
                relay.cut()
        put(server, pay(1, zone="last"))

    writer = threading.Thread(target=write)
    writer.start()
    events = follow(watch, exactly(pay(1, zone="last")))
    writer.join()
    assert [event.instance.zone for event in events] == [*(str(round) for round in range(1, 301)), "last"]


def test_a_name_that_no_service_can_have_is_refused(found: KubernetesDiscoverer) -> None:
    for ask in (found.get_service, found.watch):
        with pytest.raises(InvalidName, match="63"):
            ask("p" * 40 + "." + "p" * 40)


def test_a_service_that_went_is_unknown_again(server: SliceServer, found: KubernetesDiscoverer, watch: Watch) -> None:
    server.drop("pay-1")
    follow(watch, exactly())
    with pytest.raises(UnknownService):
        found.get_service("pay")
