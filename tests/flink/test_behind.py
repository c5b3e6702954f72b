"""A log written long ago: the job is behind with every registration, gathers them, and means the same by them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.flink.logs import BAD_REGISTRATIONS, T0, a_log, register
from tests.flink.mini_cluster import REGISTRY, MiniCluster, Planned, Tables, Topics
from tests.flink.test_route_job import expected_dead, fences, found, wanted

pytestmark = [pytest.mark.flink, pytest.mark.timeout(900)]

LONG_AGO = 1_700_000_000_000
CROWD = 400


def in_the_past(record: Planned) -> Planned:
    return record._replace(at=record.at - T0 + LONG_AGO)


def test_gathered_registrations_mean_what_they_mean_one_by_one(
    mini_cluster: MiniCluster, make_topics: Callable[[], Topics], tables_of: Callable[[Topics], Tables]
) -> None:
    log, topics = a_log(20261123), make_topics()
    tables = tables_of(topics)
    log.records = [r for r in log.records if r.topic == REGISTRY]
    log.poison = [(r, why) for r, why in log.poison if r.topic == REGISTRY]
    log.unknown = []
    for n in range(CROWD):
        odd = "\ufffd" if n % 100 == 0 else ""
        value = json.dumps(register("crowd", f"c-{n}", note=odd), ensure_ascii=False).encode()
        log.add(REGISTRY, 150 + n / 1000, n % 4, None, value)
    # What SQL cannot tell the service of, and what it can but the fold cannot read.
    for n, value in enumerate((b'{"service":"' + b"a." * 100_000 + b'a"}', b'{"service":{"a":1}}', b'{"service":5}')):
        log.refuse(REGISTRY, 151 + n, 0, b"\xff\x1e", value, ("bad-service", "wrong-type", "wrong-type")[n])
    log.refuse(REGISTRY, 155, 1, b"k", b'{"service":"crowd","instance":"c-1","x":"\x1e"}', "bad-json")
    log.records.sort(key=lambda r: r.at)
    log.records += fences(log.records, 1)

    with mini_cluster.running(topics, "routes.coalesce_ms=50") as job:
        topics.write(map(in_the_past, log.records))
        goal = wanted(topics.written, topics)
        poison = expected_dead(log, topics.written, topics)
        job.until(lambda: found(tables) == goal and len(topics.dead()) >= len(poison))
        job.cancel()
        calls = job.reports()["routes"].calls

    assert topics.dead() == poison
    assert {reason for _, reason in log.poison} >= {reason for _, reason in BAD_REGISTRATIONS}
    assert calls < CROWD / 4
