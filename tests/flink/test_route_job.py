"""The real job on a generated log against the slow reading of the same log, with a savepoint in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flink.logs import LAGGING_PARTITION, LOADED, PARTITIONS, SHARDS, T0, GeneratedLog, a_log
from tests.flink.mini_cluster import (
    HEARTBEAT,
    ISOLATION,
    REGISTRY,
    MiniCluster,
    Planned,
    Running,
    Tables,
    Topics,
)
from tests.model import oracle
from tests.model.oracle import Dead, Record
from tests.wire.events import as_bytes
from waypost.model.events import InstanceEvent
from waypost.model.health_window import WindowPlan
from waypost.model.lifecycle import view
from waypost.model.names import ServiceKey
from waypost.model.route_table import digest, format_digest

pytestmark = [pytest.mark.flink, pytest.mark.timeout(900)]

SECONDS = 200
PLAN = WindowPlan(size_ms=10_000, buckets=8, tick_ms=1000)
SETTINGS = (
    "routes.coalesce_ms=50",
    f"window.size_ms={PLAN.size_ms}",
    f"window.buckets={PLAN.buckets}",
    # Which lapses are held depends on who is registered by then, and here all registrations are read first.
    "brake.enabled=false",
    "damping.enabled=false",
)
Seen = dict[ServiceKey, dict[str, Any]]


def wanted(records: list[Record], topics: Topics, now: int = 0) -> tuple[Seen, Seen]:
    """Routes and instances as the log means them; `now`, epoch ms, ends isolations."""
    log = oracle.Log.of(records, registry=topics.name(REGISTRY), isolation=topics.name(ISOLATION), shards=SHARDS)
    routes: Seen = {}
    instances: Seen = {}
    for service, table in oracle.final(log, now=now).items():
        routes[service] = {
            i: (k.attributes.address, k.attributes.port, k.attributes.weight) for i, k in table.items() if k.is_routable
        }
        instances[service] = {}
        for i, k in table.items():
            assert k.lease is not None, f"{i}: the log leaves open whether this lease lapsed"
            facts = (k.declared, k.health, k.lease)
            instances[service][i] = (*facts, *view(*facts, isolated=k.isolation is not None))
    return routes, instances


def found(tables: Tables) -> tuple[Seen, Seen]:
    """Routes and instances as a gateway and a person see them."""
    routes = {s: {i: (e.address, e.port, e.weight) for i, e in table.items()} for s, table in tables.routes().items()}
    instances = {
        s: {i: (k.declared, k.health, k.lease, k.status, k.reason) for i, k in table.items()}
        for s, table in tables.instances().items()
    }
    return routes, instances


def wanted_windows(records: list[Record], topics: Topics) -> oracle.Windows:
    """The windows of the services whose instances only beat, up to the last tick that every partition completes."""
    log = oracle.Log.of(records, registry=topics.name(REGISTRY), shards=SHARDS)
    found = oracle.windows(log, PLAN, until=T0 + (SECONDS - 1) * 1000)
    return {(service, end): window for (service, end), window in found.items() if _is_loaded(service)}


def found_windows(*runs: Running) -> oracle.Windows:
    """The windows that the route fold was told of; none of them twice."""
    found: oracle.Windows = {}
    for service, window in [pair for run in runs for pair in run.windows() if _is_loaded(pair[0])]:
        assert (service, window.end) not in found
        assert window.start == window.end - PLAN.size_ms
        found[service, window.end] = {i: tally for i, tally in window.tallies.items() if tally.beats}
    return {key: window for key, window in found.items() if window}


def _is_loaded(service: ServiceKey) -> bool:
    return service.service.startswith("load-")


def expected_dead(log: GeneratedLog, written: list[Record], topics: Topics) -> list[Dead]:
    """The poison, what no registration is there for, and nothing else."""
    places = dict(zip(log.records, _in_order(log, written, topics), strict=True))
    refused = [(places[planned], reason) for planned, reason in log.poison]
    refused += [(places[planned], "unknown-instance") for planned in log.unknown]
    story = oracle.told(oracle.Log.of(written, registry=topics.name(REGISTRY), shards=SHARDS).events)
    at = {record.stamp: record for record in written if record.topic == topics.name(REGISTRY)}
    refused += [(at[stamp], reason) for stamp, reason in story.dead]
    return sorted(Dead(r.topic, r.stamp.partition, r.stamp.offset, reason) for r, reason in refused)


def _in_order(log: GeneratedLog, written: list[Record], topics: Topics) -> list[Record]:
    """The written records in the order of the planned ones: each partition keeps its own."""
    queues: dict[tuple[str, int], list[Record]] = {}
    for record in written:
        queues.setdefault((record.topic, record.stamp.partition), []).append(record)
    return [queues[topics.name(planned.topic), planned.partition].pop(0) for planned in log.records]


def write(topics: Topics, records: list[Planned], job: Running, tables: Tables) -> None:
    """Registrations first, so that a lease is known before the ticks that could end it; then the heartbeats, one
    partition far behind the others. (The other orders are for the model's tests: here they would race.)"""
    registrations = topics.write(r for r in records if r.topic == REGISTRY)
    events = oracle.Log.of(registrations, registry=topics.name(REGISTRY), shards=SHARDS).events
    job.until_leased(event.stamp for event in events if isinstance(event, InstanceEvent))
    visible = {_fence(r) for r in records if r.key == FENCE}
    job.until(lambda: visible <= tables.routes().get(ServiceKey("default", "z"), {}).keys())
    heartbeats = [r for r in records if r.topic == HEARTBEAT]
    topics.write(r for r in heartbeats if r.partition != LAGGING_PARTITION)
    topics.write(r for r in heartbeats if r.partition == LAGGING_PARTITION)


FENCE = b"default/z"


def fences(records: list[Planned], part: int) -> list[Planned]:
    """A set of one endpoint at the end of every partition: when it is visible, the registrations before it are."""
    last = max(r.at for r in records if r.topic == REGISTRY)
    return [
        Planned(
            REGISTRY,
            last + 1,
            p,
            FENCE,
            as_bytes(
                {"service": "z", "endpoints": [f"10.9.{part}.{p}:80"], "source": f"{part}-{p}", "last_updated": 1}
            ),
        )
        for p in range(PARTITIONS)
    ]


def _fence(record: Planned) -> str:
    return str(json.loads(record.value or b"{}")["endpoints"][0])


@pytest.mark.parametrize("seed", [20261122])
def test_redis_shows_what_the_log_means_and_dead_letters_hold_the_poison(
    seed: int,
    mini_cluster: MiniCluster,
    make_topics: Callable[[], Topics],
    tables_of: Callable[[Topics], Tables],
    tmp_path: Path,
) -> None:
    log, topics = a_log(seed, SECONDS), make_topics()
    tables = tables_of(topics)
    middle = T0 + SECONDS * 500
    first = [r for r in log.records if r.at < middle]
    second = [r for r in log.records if r.at >= middle]
    first, second = first + fences(first, 1), second + fences(second, 2)
    log.records = first + second

    with mini_cluster.running(topics, *SETTINGS) as job:
        before_savepoint = job
        write(topics, first, job, tables)
        job.until(lambda: any(dead.reason == "ambiguous-namespace" for dead in topics.dead()))  # ticks are coming
        savepoint = job.stop_with_savepoint(tmp_path / "savepoints")
    before = {s: int(tables.meta(s)["revision"]) for s in tables.services()}

    with mini_cluster.running(topics, *SETTINGS, execution_state__recovery_path=savepoint) as job:
        write(topics, second, job, tables)
        goal = wanted(topics.written, topics)
        poison = expected_dead(log, topics.written, topics)
        job.until(lambda: found(tables) == goal and len(topics.dead()) >= len(poison))
        windows = wanted_windows(topics.written, topics)
        job.until(lambda: found_windows(before_savepoint, job).keys() >= windows.keys())
        job.cancel()

    assert found(tables) == goal
    assert topics.dead() == poison
    assert found_windows(before_savepoint, job) == windows
    assert len(windows) > 3 * (SECONDS // 10 - 4)
    for service in {service for service, _ in windows}:
        end = max(end for of, end in windows if of == service)
        meta = tables.meta(service)
        assert (meta["window_start"], meta["window_end"]) == (str(end - PLAN.size_ms), str(end))
        assert meta["window_beats"] == str(sum(tally.beats for tally in windows[service, end].values()))
        assert meta["window_instances"] == str(len(windows[service, end]))
        assert meta["drift"] == str(LOADED // 3 - len(windows[service, end]))
    for service, table in goal[0].items():
        meta = tables.meta(service)
        assert meta["endpoints"] == str(len(table))
        assert meta["digest"] == format_digest(digest(tables.route_texts(service)))
        assert int(meta["revision"]) >= before.get(service, 0)
    by_service: dict[str, list[int]] = {}
    for change in tables.changes():
        by_service.setdefault(change["service"], []).append(int(change["revision"]))
    assert all(revisions == sorted(revisions) for revisions in by_service.values())
