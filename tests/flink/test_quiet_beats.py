"""An unchanged beat costs nothing but its place in a row, and its part of a window, that come anyway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flink.logs import PARTITIONS, SHARDS, T0, register
from tests.flink.mini_cluster import HEARTBEAT, REGISTRY, MiniCluster, Planned, Report, Tables, Topics
from tests.wire.events import as_bytes
from waypost.model.health_window import WindowPlan
from waypost.model.names import ServiceKey

pytestmark = pytest.mark.flink

INSTANCES = 100
SECONDS = 20
PLAN = WindowPlan(size_ms=10_000, buckets=2, tick_ms=1000)
WINDOWS = sum(PLAN.bucket(ServiceKey("default", "a")) in PLAN.due(T0 + (n + 1) * 1000) for n in range(SECONDS))
"""How many windows of the service end within the log."""


def registrations() -> list[Planned]:
    return [
        Planned(REGISTRY, T0 + n, n % PARTITIONS, b"default/a", as_bytes(register("a", f"a-{n}")))
        for n in range(INSTANCES)
    ]


def quiet_beats(beats: int) -> list[Planned]:
    """Two witnesses a second for every shard, one more that ends the last tick, and `beats` unchanged beats."""
    log = []
    for half in range(2 * SECONDS + 1):
        for shard in range(SHARDS):
            where = (shard + half) % PARTITIONS
            log.append(Planned(HEARTBEAT, T0 + 500 * half, where, b"_witness/%d" % shard, b"{}"))
    for n in range(beats):
        at = T0 + 200 + n * (SECONDS * 1000 - 400) // beats
        log.append(Planned(HEARTBEAT, at, n % PARTITIONS, b"a-%d" % (n % INSTANCES), b'{"cpu":0.4}'))
    return sorted(log, key=lambda record: record.at)


def test_ten_times_the_beats_cost_no_call_no_record_and_no_change_more(
    mini_cluster: MiniCluster,
    make_topics: Callable[[], Topics],
    tables_of: Callable[[Topics], Tables],
    tmp_path: Path,
) -> None:
    reports: list[dict[str, Report]] = []
    writes: list[int] = []
    metas: list[dict[str, str]] = []
    for beats in (1_000, 10_000):
        topics = make_topics()
        tables = tables_of(topics)
        with mini_cluster.running(topics, f"window.size_ms={PLAN.size_ms}", f"window.buckets={PLAN.buckets}") as job:
            registered = topics.write(registrations())
            job.until(lambda tables=tables: sum(map(len, tables.routes().values())) == INSTANCES)
            job.until_leased(record.stamp for record in registered)
            written = len(tables.changes())
            topics.write(quiet_beats(beats))
            job.until(lambda job=job: len(job.windows()) == WINDOWS)
            job.stop_with_savepoint(tmp_path / str(beats))
            reports.append(job.reports())

        assert len(tables.routes()[tables.services()[0]]) == INSTANCES
        assert topics.dead() == []
        writes.append(len(tables.changes()) - written)
        metas.append(tables.meta(ServiceKey("default", "a")))
        told = [window for _, window in job.windows()]
        assert len(told) == len({window.end for window in told}) == WINDOWS

    few, many = reports
    assert few["ticks"].calls == many["ticks"].calls == SECONDS * SHARDS
    assert few["gate"].calls == many["gate"].calls == SECONDS * SHARDS
    # The registrations, and how far the gate has decided, twice a minute; no call per beat.
    assert few["routes"].calls == many["routes"].calls == INSTANCES + WINDOWS + 1
    assert few["odd-beats"].calls == many["odd-beats"].calls == 0
    assert writes == [0, 0]
    assert int(metas[1]["window_beats"]) == 10 * int(metas[0]["window_beats"])
    for report in (*few.values(), *many.values()):
        # Thread mode: Python runs inside the JVM. In process mode these would be processes of python3.
        assert report.executables == {"java"}
        assert report.pemja
