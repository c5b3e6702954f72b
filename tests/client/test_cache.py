"""The cache: local lookups, the last known good table, and what it refuses to believe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contracts.registry_contract import eventually
from waypost.client.cache import ServiceCache
from waypost.client.registry.instance import Instance
from waypost.client.registry.memory import MemoryRegistry
from waypost.errors import RegistryUnavailable, UnknownService
from waypost.model.lifecycle import Status

ONE = Instance(id="p-1", name="payments", address="10.1.2.3", port=8080, zone="a", metadata={"v": "1"})
TWO = replace(ONE, id="p-2", address="10.1.2.4")
SOON = timedelta(seconds=60)
Open = Callable[..., ServiceCache]


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def open_cache() -> Iterator[Open]:
    opened: list[ServiceCache] = []

    def make(registry: MemoryRegistry, file: Path | None = None) -> ServiceCache:
        opened.append(ServiceCache(registry, file=file))
        return opened[-1]

    yield make
    for cache in opened:
        cache.close()


def shows(cache: ServiceCache, *instances: Instance, stale: bool = False) -> Callable[[], bool]:
    def holds() -> bool:
        table = cache.lookup("payments")
        return table.instances == instances and table.is_stale is stale

    return holds


def test_a_table_follows_the_registry(registry: MemoryRegistry, open_cache: Open) -> None:
    registry.register(ONE)
    cache = open_cache(registry)
    cache.follow("payments", wait=SOON)
    assert shows(cache, ONE)()

    registry.register(TWO)
    eventually(shows(cache, ONE, TWO))
    registry.update("payments", "p-1", status=Status.DRAINING)
    eventually(shows(cache, TWO))
    registry.deregister("payments", "p-2")
    eventually(shows(cache))


def test_nobody_waits_for_a_service_that_is_not_there(registry: MemoryRegistry, open_cache: Open) -> None:
    cache = open_cache(registry)
    cache.follow("payments", wait=SOON)

    assert shows(cache)()
    with pytest.raises(UnknownService, match="follow"):
        cache.lookup("other")


def test_an_outage_takes_nobody_away_and_is_shown(registry: MemoryRegistry, open_cache: Open) -> None:
    registry.register(ONE)
    cache = open_cache(registry)
    cache.follow("payments", wait=SOON)

    registry.failure = RegistryUnavailable("away")
    eventually(shows(cache, ONE, stale=True))
    table = cache.lookup("payments")
    assert table.stale_since is not None
    assert table.age(table.stale_since + 1_500) == timedelta(seconds=1.5)

    registry.failure = None
    eventually(shows(cache, ONE))
    assert cache.lookup("payments").age(0) == timedelta(0)


def test_tables_survive_a_restart(registry: MemoryRegistry, open_cache: Open, tmp_path: Path) -> None:
    file = tmp_path / "tables.json"
    registry.register(ONE)
    first = open_cache(registry, file)
    first.follow("payments", wait=SOON)
    first.close()

    # Another life of the registry, which knows nothing: an empty table is refused.
    other = MemoryRegistry()
    second = open_cache(other, file)
    second.follow("payments")
    assert shows(second, ONE, stale=True)()
    eventually(lambda: second._followers["payments"]._watch is not None)
    assert shows(second, ONE, stale=True)()

    other.register(TWO)
    eventually(shows(second, TWO))
    other.deregister("payments", "p-2")
    eventually(shows(second))


def test_a_restart_with_the_same_registry_goes_on(registry: MemoryRegistry, open_cache: Open, tmp_path: Path) -> None:
    file = tmp_path / "tables.json"
    registry.register(ONE)
    first = open_cache(registry, file)
    first.follow("payments", wait=SOON)
    first.close()
    registry.deregister("payments", "p-1")

    second = open_cache(registry, file)
    second.follow("payments", wait=SOON)

    # It was followed all the way: now an empty table is true.
    eventually(shows(second))


def test_changes_are_saved_while_it_runs(registry: MemoryRegistry, open_cache: Open, tmp_path: Path) -> None:
    file = tmp_path / "tables.json"
    cache = open_cache(registry, file)
    cache.follow("payments", wait=SOON)
    registry.register(ONE)

    eventually(lambda: file.exists() and "p-1" in file.read_text())
    assert json.loads(file.read_text())["services"]["payments"]["instances"][0]["address"] == "10.1.2.3"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version":2}',
        '{"version":1,"written":1,"services":{"payments":{"position":"x","instances":[{}]}}}',
        '{"version":1,"written":-1,"services":{}}',
        '{"version":1,"written":1,"services":{"Bad_Name":{}}}',
        "\ud7ff" * 3,
    ],
)
def test_a_spoiled_file_is_as_good_as_none(
    registry: MemoryRegistry, open_cache: Open, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "tables.json"
    file.write_text(content)
    registry.register(ONE)

    cache = open_cache(registry, file)
    cache.follow("payments", wait=SOON)

    assert shows(cache, ONE)()


def test_a_clock_that_jumps_takes_nobody_away_and_no_age_is_negative(tmp_path: Path) -> None:
    wall, file = [1_795_298_407_272], tmp_path / "tables.json"
    now_ms = lambda: wall[0]  # noqa: E731
    registry = MemoryRegistry(now_ms=now_ms)
    registry.register(ONE)
    with closing(ServiceCache(registry, file=file, now_ms=now_ms)) as cache:
        cache.follow("payments", wait=SOON)
        for jump in (-86_400_000, 0, 864_000_000, -8_640_000_000):
            wall[0] += jump
            registry.failure = RegistryUnavailable("away")
            eventually(shows(cache, ONE, stale=True))
            wall[0] -= 3_600_000
            assert cache.lookup("payments").age(wall[0]) == timedelta(0)
            registry.failure = None
            eventually(shows(cache, ONE))
    wall[0] -= 31_536_000_000
    registry.failure = RegistryUnavailable("away")
    with closing(ServiceCache(registry, file=file, now_ms=now_ms)) as cache:
        cache.follow("payments")
        assert shows(cache, ONE, stale=True)()
        assert cache.lookup("payments").age(wall[0]) == timedelta(0)
