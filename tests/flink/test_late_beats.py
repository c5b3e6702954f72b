"""A beat behind the watermark: SQL would drop it; here it is folded with the next tick and counted as late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flink.logs import PARTITIONS, SHARDS, T0, register
from tests.flink.mini_cluster import HEARTBEAT, REGISTRY, MiniCluster, Planned, Topics
from tests.wire.events import as_bytes

pytestmark = pytest.mark.flink


def witnesses(begin: int, end: int) -> list[Planned]:
    return [
        Planned(HEARTBEAT, T0 + 500 * half, (shard + half) % PARTITIONS, b"_witness/%d" % shard, b"{}")
        for half in range(2 * begin, 2 * end)
        for shard in range(SHARDS)
    ]


def test_late_beats_are_folded_and_counted(mini_cluster: MiniCluster, make_topics: Callable[[], Topics]) -> None:
    topics = make_topics()
    with mini_cluster.running(topics, "window.size_ms=10000", "window.buckets=1") as job:
        registered = topics.write(
            [Planned(REGISTRY, T0, 0, b"default/a", as_bytes(register("a", "a-0", lease_seconds=3600)))]
        )
        job.until_leased(record.stamp for record in registered)
        in_time = [Planned(HEARTBEAT, T0 + 5_000 + n, n % PARTITIONS, b"a-0", b'{"cpu":0.4}') for n in range(20)]
        topics.write(sorted([*witnesses(0, 30), *in_time], key=lambda record: record.at))
        job.until(lambda: any(window.end >= T0 + 20_000 for _, window in job.windows()))

        topics.write(Planned(HEARTBEAT, T0 + 6_000 + n, n % PARTITIONS, b"a-0", b'{"cpu":0.8}') for n in range(20))
        batch = as_bytes({"node": "n", "beats": [{"instance": "a-0", "cpu": 0.8}]})
        topics.write([Planned(HEARTBEAT, T0 + 7_000, 0, b"n", batch)])
        topics.write(witnesses(30, 60))
        job.until(lambda: any(window.end >= T0 + 50_000 for _, window in job.windows()))
        job.cancel()

    totals = {(window.end - T0) // 1000: window.total for _, window in job.windows()}
    assert sum(total.beats for total in totals.values()) == 41
    assert sum(total.late for total in totals.values()) == 21
    assert (totals[10].beats, totals[10].late, totals[10].cpu_mean) == (20, 0, 400)
    assert topics.dead() == []
