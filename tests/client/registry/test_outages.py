"""Outages of a registry many leases long: nobody is lost from a cache, and everybody is back afterwards by himself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.client.registry.cut import Relay
from tests.contracts.conftest import Server, valkey_binary
from tests.contracts.registry_contract import eventually, follow
from tests.contracts.registry_servers import EtcdServer
from tests.gateway.tables import TableWriter, an_endpoint
from waypost.client.cache import ServiceCache
from waypost.client.copies import EventKind
from waypost.client.event_sink import MemorySink
from waypost.client.registry.etcd.registry import EtcdRegistry
from waypost.client.registry.instance import Instance
from waypost.client.registry.log_and_tables import WaypostRegistry
from waypost.model.names import ServiceKey

LEASE = timedelta(seconds=6)
"""All are back long before the end of it, also on a busy machine."""
AWAY = 4
"""Leases."""
OWNERS, EACH = 4, 5
THOSE = tuple(
    Instance(id=f"p-{n:02}", name="payments", address=f"10.1.2.{n + 1}", port=8080) for n in range(OWNERS * EACH)
)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.e2e
@pytest.mark.parametrize("has_lost_its_data", [False, True], ids=["restarted", "emptied"])
def test_etcd_is_away_for_many_leases(etcd: EtcdServer, has_lost_its_data: bool) -> None:
    owners = [EtcdRegistry(etcd.url, lease=LEASE) for _ in range(OWNERS)]
    reader = EtcdRegistry(etcd.url)
    cache = ServiceCache(reader)
    seen: list[int] = []
    try:
        for number, instance in enumerate(THOSE):
            owners[number % OWNERS].register(instance)
        cache.follow("payments", wait=timedelta(seconds=60))
        eventually(lambda: cache.lookup("payments").instances == THOSE)

        etcd.wipe() if has_lost_its_data else etcd.kill()
        eventually(lambda: cache.lookup("payments").is_stale)
        over = time.monotonic() + AWAY * LEASE.total_seconds()
        while time.monotonic() < over:
            table = cache.lookup("payments")
            assert (table.instances, table.is_stale) == (THOSE, True)
            time.sleep(0.05)
        etcd.start()

        def is_back() -> bool:
            table = cache.lookup("payments")
            seen.append(len(table.instances))
            return table.instances == THOSE and not table.is_stale

        eventually(is_back)
        assert min(seen) == len(THOSE), "nobody was missed, also not while they came back one after the other"
        for owner in owners:
            for keeper, kept in owner._kept.values():
                assert owner.am_i_registered("payments", kept.instance.id)
                assert keeper.rewritten >= has_lost_its_data
    finally:
        cache.close()
        for registry in (*owners, reader):
            registry.close()


PAY = ServiceKey("default", "payments")


@pytest.fixture
def valkey_of_its_own(tmp_path: Path) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("cuts", [0, 20])
def test_of_ten_thousand_changes_of_a_table_none_is_lost(
    valkey_of_its_own: Server, cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told once and in order. A reader that was cut reads the table anew, which proves that it is not stale:
    what changed meanwhile is then one change per instance, to what it is now."""
    if not cuts:  # and none because the machine is busy
        monkeypatch.setattr("waypost.client.routes.TIMEOUT", timedelta(seconds=60))
    total, instances, at_once = 10_000, 4, 500
    relay = Relay(f"127.0.0.1:{valkey_of_its_own.port}")
    writer = TableWriter(valkey_of_its_own.url)
    up = {f"p-{n}": an_endpoint(80 + n, weight=0) for n in range(instances)}
    writer.publish(PAY, up)
    told: dict[str, list[int]] = {id: [] for id in up}
    written = 0
    try:
        with (
            WaypostRegistry(MemorySink(), f"redis://{relay.address}/0") as registry,
            registry.watch("payments") as watch,
        ):
            follow(watch, lambda held: len(held) == instances)
            over = time.monotonic() + 200
            while not all(numbers and numbers[-1] == total // instances for numbers in told.values()):
                assert time.monotonic() < over, {id: numbers[-1:] for id, numbers in told.items()}
                for n in range(written, min(written + at_once, total)):
                    if cuts and n % (total // cuts) == at_once // 2:
                        relay.cut()
                    id = f"p-{n % instances}"
                    up = {**up, id: an_endpoint(80 + n % instances, weight=n // instances + 1)}
                    writer.change(PAY, up, id)
                    written = n + 1
                for event in watch.poll(timedelta(milliseconds=200)):
                    assert event.kind is EventKind.UPDATE
                    told[event.instance.id].append(event.instance.weight)
    finally:
        writer.close()
        relay.close()

    for numbers in told.values():
        assert numbers == sorted(set(numbers))
    if not cuts:
        assert told == {id: list(range(1, total // instances + 1)) for id in up}


def test_redis_is_away_and_comes_back_empty_and_nobody_is_lost(valkey_of_its_own: Server) -> None:
    writer = TableWriter(valkey_of_its_own.url)
    up = {f"p-{n}": an_endpoint(80 + n) for n in range(3)}
    writer.publish(PAY, up)
    registry = WaypostRegistry(MemorySink(), valkey_of_its_own.url)
    cache = ServiceCache(registry)
    known = lambda: {each.id for each in cache.lookup("payments").instances}  # noqa: E731
    try:
        cache.follow("payments", wait=timedelta(seconds=60))
        assert known() == set(up)
        for _ in range(3):
            valkey_of_its_own.kill()
            eventually(lambda: cache.lookup("payments").is_stale)
            assert known() == set(up)
            valkey_of_its_own.start()
            assert known() == set(up)
            writer.rebuild()
            eventually(lambda: not cache.lookup("payments").is_stale)
            assert known() == set(up)
    finally:
        cache.close()
        registry.close()
        writer.close()
