"""Weights that follow the load, through the real graph: from `cpu` in beats to `weight` in the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.flink.logs import PARTITIONS, T0, register
from tests.flink.mini_cluster import HEARTBEAT, REGISTRY, MiniCluster, Planned, Tables, Topics
from tests.flink.test_late_beats import witnesses
from tests.wire.events import as_bytes
from waypost.model.names import ServiceKey

pytestmark = pytest.mark.flink

A = ServiceKey("default", "a")
SECONDS = 90


def test_the_busiest_instance_gets_a_smaller_weight(
    mini_cluster: MiniCluster, make_topics: Callable[[], Topics], tables_of: Callable[[Topics], Tables]
) -> None:
    topics = make_topics()
    tables = tables_of(topics)
    fleet = [register("a", f"a-{n}", metadata={"waypost.io/weight": "load"} if n < 3 else {}) for n in range(4)]
    with mini_cluster.running(topics, "window.size_ms=10000") as job:
        registered = topics.write(
            Planned(REGISTRY, T0 + n, 0, b"default/a", as_bytes(doc)) for n, doc in enumerate(fleet)
        )
        job.until(lambda: len(tables.routes().get(A, {})) == 4)
        job.until_leased(record.stamp for record in registered)
        beats = [
            Planned(HEARTBEAT, T0 + 1000 * s + n, n % PARTITIONS, b"a-%d" % n, b'{"cpu":%.1f}' % (0.3 if n else 0.9))
            for s in range(1, SECONDS)
            for n in range(4)
        ]
        topics.write(sorted([*witnesses(0, SECONDS), *beats], key=lambda record: record.at))
        job.until(lambda: int(tables.meta(A).get("window_end", 0)) >= T0 + (SECONDS - 11) * 1000)
        job.cancel()

    weights = {instance: endpoint.weight for instance, endpoint in tables.routes()[A].items()}
    assert 10 <= weights.pop("a-0") < 80
    assert weights == {"a-1": 100, "a-2": 100, "a-3": 100}
    assert {known.weight for known in tables.instances()[A].values()} == {100}
    assert tables.meta(A)["rule"] == "load"
    assert len([c for c in tables.changes() if c["service"] == str(A)]) <= 4 + SECONDS // 10
