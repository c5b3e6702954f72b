"""What a real etcd does to registrations and watches: cuts, ended leases, compaction, a lost store."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.client.registry.cut import Relay
from tests.contracts.registry_contract import eventually, exactly, follow
from tests.contracts.registry_servers import EtcdServer
from waypost.client.copies import EventKind
from waypost.client.registry.etcd.gateway import EtcdGateway
from waypost.client.registry.etcd.layouts import WaypostLayout
from waypost.client.registry.etcd.registry import EtcdRegistry
from waypost.client.registry.instance import Instance
from waypost.errors import NotSupported, RegistryUnavailable, WatchPositionLost

pytestmark = pytest.mark.e2e

SHORT = timedelta(seconds=2)
A_WHILE = timedelta(milliseconds=200)
ONE = Instance(id="p-1", name="payments", address="10.1.2.3", port=8080)
TWO = replace(ONE, id="p-2", address="10.1.2.4")


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


@pytest.fixture
def reader(server: EtcdServer) -> Iterator[EtcdRegistry]:
    with EtcdRegistry(server.url) as registry:
        yield registry


@pytest.fixture
def afar(relay: Relay) -> Iterator[EtcdRegistry]:
    """A registry behind the relay, with a lease of two seconds."""
    with EtcdRegistry(f"http://{relay.address}", lease=SHORT) as registry:
        yield registry


def compact(server: EtcdServer, revision: int) -> None:
    httpx.post(f"{server.url}/v3/kv/compaction", json={"revision": str(revision), "physical": True}).raise_for_status()


def test_who_was_away_longer_than_the_lease_is_registered_again(
    relay: Relay, afar: EtcdRegistry, reader: EtcdRegistry
) -> None:
    afar.register(ONE)
    with reader.watch("payments") as watch:
        follow(watch, exactly(ONE))

        relay.cut(refuse=True)
        follow(watch, exactly())
        with pytest.raises(RegistryUnavailable):
            afar.am_i_registered("payments", "p-1")
        relay.mend()

        follow(watch, exactly(ONE))
    assert afar.am_i_registered("payments", "p-1")


def test_who_was_deleted_by_somebody_else_is_registered_again(server: EtcdServer, afar: EtcdRegistry) -> None:
    afar.register(ONE)
    gateway = EtcdGateway(server.url)
    gateway.delete("/services/payments/p-1")
    eventually(lambda: gateway.get("/services/payments/p-1") is not None)
    gateway.close()


def test_a_lease_is_kept_for_many_times_its_length(server: EtcdServer, afar: EtcdRegistry) -> None:
    afar.register(ONE)
    ((keeper, _),) = afar._kept.values()
    pauses, last = [], time.monotonic()
    for renewed in range(1, 9):  # more than two leases
        eventually(lambda renewed=renewed: keeper.renewed >= renewed)  # type: ignore[misc]
        pauses.append(time.monotonic() - last)
        last = time.monotonic()

    # On a machine that stood still for a lease it had to be made anew, and was.
    assert keeper.rewritten == 0 or max(pauses) > SHORT.total_seconds() / 2
    eventually(lambda: afar.discover("payments") == (ONE,))


def test_a_killed_process_leaves_when_its_lease_ends(server: EtcdServer, reader: EtcdRegistry) -> None:
    program = (
        "import sys, datetime\n"
        "from waypost.client.registry.etcd.registry import EtcdRegistry\n"
        "from waypost.client.registry.instance import Instance\n"
        f"r = EtcdRegistry({server.url!r}, lease=datetime.timedelta(seconds=2))\n"
        "r.register(Instance(id='p-1', name='payments', address='10.1.2.3', port=8080))\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    with reader.watch("payments") as watch:
        follow(watch, exactly(ONE))
        process.kill()
        process.communicate()
        follow(watch, exactly())


def test_an_outage_of_etcd_takes_nobody_away(server: EtcdServer, relay: Relay) -> None:
    with (
        EtcdRegistry(f"http://{relay.address}", lease=timedelta(minutes=2)) as afar,
        EtcdRegistry(server.url) as reader,
        reader.watch("payments") as watch,
    ):
        afar.register(ONE)
        follow(watch, exactly(ONE))

        server.kill()
        eventually(lambda: watch.stale_since is not None)
        assert watch.poll(A_WHILE) == []
        assert watch.snapshot.callable == {"p-1": ONE}
        server.start()

        eventually(lambda: watch.stale_since is None)
        afar.register(TWO)
        assert [event.kind for event in follow(watch, exactly(ONE, TWO))] == [EventKind.ADD]


def test_an_etcd_that_lost_its_data_is_not_believed(server: EtcdServer, afar: EtcdRegistry) -> None:
    gateway, reader = EtcdGateway(server.url), afar
    gateway.put("/services/payments/p-1", WaypostLayout().encode(ONE), gateway.grant(timedelta(minutes=10)))
    with reader.watch("payments") as watch:
        follow(watch, exactly(ONE))

        server.wipe()
        server.start()
        # Looked at once and refused: the old cluster's revision is not this one's.
        eventually(lambda: watch.stale_since is not None)
        for _ in range(5):
            assert watch.poll(A_WHILE) == []
        assert watch.snapshot.callable == {"p-1": ONE}
        assert watch.stale_since is not None

        gateway.put("/services/payments/p-2", WaypostLayout().encode(TWO), gateway.grant(timedelta(minutes=10)))
        # Who comes back first does not get everybody's calls: the others have a lease's time.
        events = follow(watch, exactly(TWO))
        assert [(event.kind, event.instance.id) for event in events] == [
            (EventKind.ADD, "p-2"), (EventKind.DELETE, "p-1"),
        ]  # fmt: skip
        eventually(lambda: watch.stale_since is None)
    gateway.close()


def test_an_old_snapshot_before_a_compaction_is_an_error(server: EtcdServer, reader: EtcdRegistry) -> None:
    reader.register(ONE)
    old = reader.get_service("payments")
    for weight in range(1, 6):
        reader.update("payments", "p-1", weight=weight)
    compact(server, int(reader.get_service("payments").position.rpartition(".")[2]))

    with reader.watch("payments", after=old) as watch, pytest.raises(WatchPositionLost, match="compacted"):
        follow(watch, lambda held: False)


def test_a_watch_that_was_cut_during_a_compaction_tells_the_difference(
    server: EtcdServer, relay: Relay, afar: EtcdRegistry, reader: EtcdRegistry
) -> None:
    reader.register(ONE)
    with afar.watch("payments") as watch:
        follow(watch, exactly(ONE))
        relay.cut(refuse=True)
        eventually(lambda: watch.stale_since is not None)
        reader.deregister("payments", "p-1")
        reader.register(TWO)
        compact(server, int(reader.get_service("payments").position.rpartition(".")[2]))
        relay.mend()

        kinds = [event.kind for event in follow(watch, exactly(TWO))]
    assert kinds == [EventKind.DELETE, EventKind.ADD]


def test_ten_thousand_changes_with_cuts_are_all_told_once_and_in_order(
    server: EtcdServer, relay: Relay, afar: EtcdRegistry
) -> None:
    total, writers = 10_000, 4
    lease_of = EtcdGateway(server.url)
    lease = lease_of.grant(timedelta(minutes=10))
    told: dict[str, list[int]] = {}

    def write(writer: int) -> None:
        gateway, layout = EtcdGateway(server.url), WaypostLayout()
        for number in range(total // writers):
            changed = replace(ONE, id=f"p-{writer}", metadata={"number": str(number)})
            gateway.put(layout.key(changed), layout.encode(changed), lease)
        gateway.close()

    with afar.watch("payments") as watch:
        # Whatever is written before the first list would be one state, and not many changes.
        lease_of.put("/services/payments/first", WaypostLayout().encode(replace(ONE, id="first")), lease)
        follow(watch, lambda held: "first" in held)
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
        for thread in threads:
            thread.start()
        seen, cuts = 0, 0
        while seen < total:
            for event in watch.poll(timedelta(seconds=60)):
                told.setdefault(event.instance.id, []).append(int(event.instance.metadata["number"]))
                seen += 1
            if seen * 20 // total > cuts:
                cuts += 1
                relay.cut()
        for thread in threads:
            thread.join()

    assert cuts >= 10
    assert told == {f"p-{writer}": list(range(total // writers)) for writer in range(writers)}
    lease_of.close()


def test_the_last_of_two_writers_of_one_id_is_who_is_seen(server: EtcdServer, reader: EtcdRegistry) -> None:
    with EtcdRegistry(server.url) as other:
        reader.register(ONE)
        other.register(replace(ONE, address="10.7.7.7"))
        reader.update("payments", "p-1", weight=3)

        assert other.discover("payments") == (replace(ONE, address="10.7.7.7", weight=3),)


def test_values_that_cannot_be_read_take_no_other_with_them(server: EtcdServer, reader: EtcdRegistry) -> None:
    gateway = EtcdGateway(server.url)
    lease = gateway.grant(timedelta(minutes=10))
    for name, value in (
        ("bad", b"{"), ("empty", b""), ("list", b"[]"), ("binary", b"\xff\x00"), ("port", b'{"address":"10.0.0.1"}'),
        ("huge", b'{"address":"10.0.0.1","port":1,"metadata":{"x":"' + b"y" * 70_000 + b'"}}'),
        ("p-1/below", WaypostLayout().encode(ONE)), ("no id!", WaypostLayout().encode(ONE)),
    ):  # fmt: skip
        gateway.put(f"/services/payments/{name}", value, lease)
    reader.register(ONE)

    assert reader.discover("payments") == (ONE,)
    assert reader.list_services() == ("payments",)
    with reader.watch("payments") as watch:
        follow(watch, exactly(ONE))
        gateway.put("/services/payments/p-1", b"spoiled", lease)
        follow(watch, exactly())
    gateway.close()


def test_a_registry_that_never_was_is_an_error_in_time() -> None:
    with EtcdRegistry("http://127.0.0.1:9") as nowhere:
        for call in (
            lambda: nowhere.register(ONE),
            lambda: nowhere.discover("payments"),
            lambda: nowhere.list_services(),
            lambda: nowhere.deregister("payments", "p-1"),
        ):
            with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:9"):
                call()
        with nowhere.watch("payments") as watch:
            assert watch.poll(A_WHILE) == []
            eventually(lambda: watch.stale_since is not None)
        assert nowhere._kept == {}


def test_kitex_has_no_place_for_some_things(server: EtcdServer) -> None:
    from waypost.client.registry.etcd.layouts import KitexLayout

    with EtcdRegistry(server.url, layout=KitexLayout()) as registry:
        for refused in (ONE, replace(ONE, id="10.1.2.3:8080", zone="a")):
            with pytest.raises(NotSupported):
                registry.register(refused)
        assert registry.list_services() == ()
