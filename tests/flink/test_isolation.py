"""Isolation through the real graph: SQL that finds the nodes, the index, its state, and the ends by time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.flink.logs import register
from tests.flink.mini_cluster import ISOLATION, REGISTRY, MiniCluster, Planned, Running, Tables, Topics
from tests.flink.test_route_job import found, wanted
from tests.model.oracle import Dead
from waypost.model.lifecycle import Status
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import IsolatedBy

pytestmark = [pytest.mark.flink, pytest.mark.timeout(900)]

CROWD = 60
"""Services with an instance each on the node that is isolated."""
HOUR = 3_600_000
BAD: list[tuple[bytes | None, str]] = [
    (None, "tombstone"),
    (b"garbage", "bad-json"),
    (b'{"action":"isolate","by":"x","expires_at":9}', "no-target"),
    (b'{"action":"isolate","by":"x","node":"n1"}', "expiry-missing"),
    (b'{"action":"isolate","by":"x","node":"n1","expires_at":1}', "expired"),
    (b'{"action":"drain","by":"x","node":"n1"}', "unknown-action"),
]


def now() -> int:
    return time.time_ns() // 1_000_000


def key(service: str) -> ServiceKey:
    return ServiceKey("default", service)


def registered(docs: Iterable[dict[str, Any]]) -> list[Planned]:
    """Fresh registrations: they take the way of a change, not that of a storm."""
    at = now()
    return [
        Planned(REGISTRY, at, n % 4, b"k", json.dumps(doc, ensure_ascii=False).encode()) for n, doc in enumerate(docs)
    ]


def a_word(action: str, by: str = "operator:anna", *, for_ms: int = HOUR, **about: str) -> Planned:
    at = now()
    end = {"expires_at": at + for_ms} if action == "isolate" else {}
    value = json.dumps({"action": action, "by": by, "cause": "a test", **about, **end}).encode()
    return Planned(ISOLATION, at, 1, None, value)


def on(node: str, service: str, instance: str, **fields: Any) -> dict[str, Any]:
    return register(service, instance, node=node, lease_seconds=86_400, **fields)


def not_spared(tables: Tables, service: str) -> bool:
    return tables.meta(key(service))["protected"] == "0"


def until_as_meant(job: Running, tables: Tables, topics: Topics) -> None:
    job.until(lambda: found(tables) == wanted(topics.written, topics, now()))


def test_a_node_is_isolated_for_all_services_also_for_later_ones_and_across_a_restart(
    mini_cluster: MiniCluster,
    make_topics: Callable[[], Topics],
    tables_of: Callable[[Topics], Tables],
    tmp_path: Path,
) -> None:
    topics = make_topics()
    tables = tables_of(topics)
    settings = ("routes.coalesce_ms=50",)
    with mini_cluster.running(topics, *settings) as job:
        topics.write(
            registered(
                [
                    on("n1", "a", "a-1"),
                    on("n2", "a", "a-2"),
                    on("n2", "c", "c-1"),
                    # By the way of odd records, and with the name of the field spelled with an escape.
                    on("n1", "odd", "o-1", metadata={"note": "\ufffd"}),
                    on("n2", "odd", "o-2", metadata={"note": "\ufffd"}),
                    *(on("n1", f"s-{n}", f"s-{n}") for n in range(CROWD)),
                ]
            )
        )
        escaped = json.dumps(on("n1", "escaped", "e-1")).replace('"node"', '"\\u006eode"').encode()
        topics.write([Planned(REGISTRY, now(), 0, b"k", escaped)])
        until_as_meant(job, tables, topics)

        poison = topics.write(Planned(ISOLATION, now(), 0, b"node/n1", value) for value, _ in BAD)
        topics.write([a_word("isolate", node="n1")])
        until_as_meant(job, tables, topics)
        routes = tables.routes()
        assert routes[key("a")].keys() == {"a-2"}
        assert all(not routes[key(f"s-{n}")] for n in range(CROWD))
        assert not routes[key("escaped")]

        # Of a service that was there, of one that was elsewhere, and of one that is new.
        topics.write(registered([on("n1", "a", "a-3"), on("n1", "c", "c-2"), on("n1", "new", "new-1")]))
        until_as_meant(job, tables, topics)
        assert tables.instances()[key("new")]["new-1"].status is Status.OUT_OF_SERVICE
        savepoint = job.stop_with_savepoint(tmp_path / "savepoints")

    with mini_cluster.running(topics, *settings, execution_state__recovery_path=savepoint) as job:
        topics.write(registered([on("n1", "newer", "newer-1"), on("n1", "a", "a-4")]))
        until_as_meant(job, tables, topics)
        assert tables.routes()[key("a")].keys() == {"a-2"}
        [isolation] = {known.isolated for known in tables.instances()[key("newer")].values()}
        assert isinstance(isolation, IsolatedBy)
        assert (isolation.by, isolation.cause) == ("operator:anna", "a test")

        topics.write([a_word("release", node="n1")])
        until_as_meant(job, tables, topics)
        assert tables.routes()[key("a")].keys() == {"a-1", "a-2", "a-3", "a-4"}

        # A repair leaves the last endpoint. Cut short, both end without a release, read before that or after.
        topics.write([a_word("isolate", "repair", service="c", instance="c-1")])
        job.until(lambda: tables.routes()[key("c")].keys() == {"c-2"})
        topics.write([a_word("isolate", "repair", service="c", instance="c-2")])
        job.until(lambda: tables.meta(key("c"))["protected"] == "1")
        assert tables.routes()[key("c")].keys() == {"c-1", "c-2"}
        topics.write(
            a_word("isolate", "repair", service="c", instance=instance, for_ms=2_000) for instance in ("c-1", "c-2")
        )
        # One may end before the other: then it is the one in the table, and nothing has to be spared.
        job.until(lambda: tables.routes()[key("c")].keys() == {"c-1", "c-2"} and not_spared(tables, "c"))
        until_as_meant(job, tables, topics)
        job.until(lambda: len(topics.dead()) >= len(BAD))
        job.cancel()

    assert topics.dead() == sorted(
        Dead(r.topic, r.stamp.partition, r.stamp.offset, reason) for r, (_, reason) in zip(poison, BAD, strict=True)
    )
