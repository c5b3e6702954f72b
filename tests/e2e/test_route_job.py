"""The whole job on real servers: what a producer writes, and what a gateway then reads.

The tests share one stack, so each uses services of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.flink_rest import records_in, restarts, running_job
from tests.e2e.log_writer import HEARTBEAT, REGISTRY, LogWriter
from tests.e2e.tables import PREFIX, Tables, eventually
from waypost.local.state import Stack

SHARDS = 128

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_both_forms_and_the_bare_heartbeat_work_as_written(log: LogWriter, tables: Tables) -> None:
    log.record(
        REGISTRY,
        b"anything",
        b'{"service":"webhook","endpoints":["10.1.2.3:8080","10.1.2.4:8080"],"status":"healthy","last_updated":1625097600}',
    )
    log.record(
        REGISTRY,
        b"default/as-written",
        b'{"op":"register","namespace":"default","service":"as-written","instance":"pod-7","address":"10.1.2.3",'
        b'"port":8080,"status":"UP","weight":100,"zone":"a","node":"n1","metadata":{"version":"2.1"},'
        b'"lease_seconds":4,"source":"agent","request_id":"\xe2\x80\xa6","ts":1795298407272}',
    )
    with log.beating("pod-7"):
        tables.wait_for("webhook", "10.1.2.3:8080", "10.1.2.4:8080")
        tables.wait_for("as-written", "pod-7")
        log.register("as-written", "quiet", 8081, lease=3)
        with log.beating("quiet"):
            tables.wait_for("as-written", "pod-7", "quiet")

        # The one that does not beat leaves; the beats of the other keep it, and prove that beats could arrive.
        tables.wait_for("as-written", "pod-7")

    assert tables.endpoints("webhook")["10.1.2.4:8080"] == ("10.1.2.4", 8080)
    assert tables.instance("as-written", "quiet")["reason"] == "lease-lapsed"
    assert tables.instance("as-written", "pod-7")["node"] == "n1"


def test_a_lapsed_instance_comes_back_with_its_first_beat(log: LogWriter, tables: Tables) -> None:
    log.register("comeback", "stays", 9001, lease=3)
    log.register("comeback", "returns", 9002, lease=3)
    with log.beating("stays"):
        with log.beating("returns"):
            tables.wait_for("comeback", "stays", "returns")
        tables.wait_for("comeback", "stays")
        change = tables.last_change()

        log.beat("returns")

        # It may have left again by the time that somebody looks: what was told of it counts.
        eventually(lambda: tables.was_in("comeback", "returns", change))


def test_total_silence_changes_nothing(log: LogWriter, tables: Tables) -> None:
    for n in range(3):
        log.register("silent", f"s{n}", 9100 + n, lease=2)
    with log.beating("s0", "s1", "s2"):
        tables.wait_for("silent", "s0", "s1", "s2")
    before = tables.last_change()
    marker = log.register("silent-clock", "c0", 9200)
    eventually(lambda: tables.answer(marker))

    # Ten leases later, on the log's own clock, with witnesses but nobody's beat:
    first = float(before.split("-")[0])
    eventually(lambda: float(tables.redis.time()[0]) * 1000 > first + 20_000)

    assert tables.ids("silent") == {"s0", "s1", "s2"}


def test_every_request_is_answered_and_a_drained_instance_leaves_at_once(log: LogWriter, tables: Tables) -> None:
    first = log.register("orders", "o1", 9301)
    second = log.register("orders", "o2", 9302)
    tables.wait_for("orders", "o1", "o2")

    drained = log.event("orders", op="drain", instance="o1")
    tables.wait_for("orders", "o2")
    again = log.event("orders", op="drain", instance="nobody")
    gone = log.event("orders", op="deregister", instance="o2")
    tables.wait_for("orders")

    assert tables.instance("orders", "o1")["status"] == "DRAINING"
    assert tables.instance("orders", "o2") == {}
    for request in (first, second, drained, gone):
        assert eventually(lambda r=request: tables.answer(r))["applied"] is True
    assert eventually(lambda: tables.answer(again)) == {
        "request_id": again,
        "applied": False,
        "reason": "unknown-instance",
    }


def test_checks_and_operators_speak_of_different_facts(log: LogWriter, tables: Tables) -> None:
    for n in (1, 2):
        log.register("facts", f"f{n}", 9400 + n)
    tables.wait_for("facts", "f1", "f2")

    log.event("facts", op="status", instance="f1", status="fail")
    tables.wait_for("facts", "f2")
    assert tables.instance("facts", "f1")["status"] == "DOWN"
    log.event("facts", op="status", instance="f1", status="pass")
    tables.wait_for("facts", "f1", "f2")
    log.event("facts", op="status", instance="f1", status="OUT_OF_SERVICE")
    tables.wait_for("facts", "f2")

    log.beat("f1", '{"status":"UP"}')
    lifted = log.event("facts", op="status", instance="f1", status="pass")
    eventually(lambda: tables.answer(lifted))

    assert tables.ids("facts") == {"f2"}
    assert tables.instance("facts", "f1")["status"] == "OUT_OF_SERVICE"


def test_a_check_does_not_empty_a_table_and_an_operator_does(log: LogWriter, tables: Tables) -> None:
    log.register("lone", "l1", 9411)
    tables.wait_for("lone", "l1")

    log.event("lone", op="status", instance="l1", status="fail")
    eventually(lambda: tables.instance("lone", "l1")["reason"] == "held")
    assert tables.ids("lone") == {"l1"}
    log.event("lone", op="status", instance="l1", status="OUT_OF_SERVICE")
    tables.wait_for("lone")


def test_a_node_batch_speaks_for_each_of_its_instances(log: LogWriter, tables: Tables) -> None:
    for n in range(3):
        log.register("batched", f"b{n}", 9500 + n)
    tables.wait_for("batched", "b0", "b1", "b2")

    log.beat("n1", '{"node":"n1","beats":[{"instance":"b0","cpu":0.4},{"instance":"b1","status":"fail"}]}')
    tables.wait_for("batched", "b0", "b2")
    log.beat("n1", '{"node":"n1","beats":[{"instance":"b1","status":"pass"}]}')
    tables.wait_for("batched", "b0", "b1", "b2")


POISON: list[tuple[str, bytes | None, bytes | None, str]] = [
    (REGISTRY, b"k", None, "tombstone"),
    (REGISTRY, b"k", b"\xff\xfe", "bad-utf8"),
    (REGISTRY, b"k", b"{", "bad-json"),
    (REGISTRY, b"k", b"[" * 50_000, "bad-json"),
    (REGISTRY, b"k", b"[]", "not-an-object"),
    (REGISTRY, b"k", b'{"service":"x","endpoints":null,"last_updated":1}', "endpoints-missing"),
    (REGISTRY, b"k", b'{"service":"x","endpoints":["1.2.3.4:0"],"last_updated":1}', "port-out-of-range"),
    (REGISTRY, b"k", b'{"service":"x","endpoints":["1.2.3.4:70000"],"last_updated":1}', "port-out-of-range"),
    (REGISTRY, b"k", b'{"service":"x","endpoints":["1.2.3.4:1"],"last_updated":99999999999}', "last-updated-in-future"),
    (REGISTRY, b"k", b'{"service":"../../etc","instance":"a","address":"1.2.3.4","port":1}', ""),
    (REGISTRY, b"k", b'{"service":"x","instance":"a b","address":"1.2.3.4","port":1}', ""),
    (REGISTRY, b"k", b'{"service":"x","instance":"a","address":"1.2.3.4","port":"80"}', "wrong-type"),
    (
        REGISTRY,
        b"k",
        b'{"service":"x","instance":"a","address":"1.2.3.4","port":1,"lease_seconds":1}',
        "lease-out-of-bounds",
    ),
    (REGISTRY, b"k", b'{"op":"explode","service":"x","instance":"a"}', "unknown-op"),
    (REGISTRY, b"k", b'{"op":"status","service":"x","instance":"a","status":"FINE"}', "unknown-status"),
    (
        REGISTRY,
        b"k",
        json.dumps(
            {
                "service": "x",
                "last_updated": 1,
                "endpoints": [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80" for n in range(5001)],
            }
        ).encode(),
        "too-many-endpoints",
    ),
    (REGISTRY, b"k", b'{"service":"x","pad":"' + b"x" * 262_144 + b'"}', "oversize"),
    (REGISTRY, b"k" * 900_000, b"{", "bad-json"),
    (HEARTBEAT, b"k" * 900_000, b"{}", ""),
    (HEARTBEAT, b"pod-9", None, "tombstone"),
    (HEARTBEAT, None, b"{}", "key-missing"),
    (HEARTBEAT, b"pod-9", b"\xff", "bad-utf8"),
    (HEARTBEAT, b"pod-9", b"{", "bad-json"),
    (HEARTBEAT, b"pod-9", b'{"cpu":"x"}', "wrong-type"),
    (HEARTBEAT, b"pod-9", b'{"cpu":1e400}', ""),
    (HEARTBEAT, b"pod-9", b'{"status":"FINE"}', "unknown-status"),
    (HEARTBEAT, b"a,b|c", b"{}", "bad-instance-id"),
    (HEARTBEAT, b"pod-9", b'{}\x1epod-8\x1f0\x1f0\x1f0\x1f{"status":"fail"}', "bad-json"),
    (HEARTBEAT, b"pod-9", b'{"pad":"' + b"x" * 65_536 + b'"}', "oversize"),
]


def test_no_poison_record_restarts_the_job_and_each_is_kept(stack: Stack, log: LogWriter, tables: Tables) -> None:
    job = eventually(lambda: running_job(stack))
    before = restarts(stack, job)

    wanted = [(*log.record(topic, key, value), reason) for topic, key, value, reason in POISON]
    stale = log.event("stale-set", endpoints=["10.0.0.1:80"], last_updated=200)
    older = log.event("stale-set", endpoints=["10.0.0.2:80"], last_updated=100)

    def all_kept() -> list[Any]:
        kept = {(d["topic"], d["partition"], d["offset"]): d["reason"] for d in log.dead_letters()}
        missing = [w for w in wanted if w[:3] not in kept or (w[3] and kept[w[:3]] != w[3])]
        return [] if missing else [kept]

    eventually(all_kept)
    assert eventually(lambda: tables.answer(stale))["applied"] is True
    assert eventually(lambda: tables.answer(older))["reason"] == "stale-last-updated"
    assert tables.ids("stale-set") == {"10.0.0.1:80"}
    assert running_job(stack) == job
    assert restarts(stack, job) == before


def test_ten_thousand_unchanged_beats_cost_the_route_fold_and_redis_nothing(
    stack: Stack, log: LogWriter, tables: Tables
) -> None:
    ids = [f"calm-{n}" for n in range(100)]
    for n, instance in enumerate(ids):
        log.register("calm", instance, 10_000 + n)
    log.register("calm", "steady", 10_100)
    tables.wait_for("calm", "steady", *ids)
    log.beat(ids[0], '{"status":"fail"}')
    eventually(lambda: ids[0] not in tables.ids("calm"))
    log.beat(ids[0], '{"status":"pass"}')
    eventually(lambda: ids[0] in tables.ids("calm"))
    job = eventually(lambda: running_job(stack))
    change, folded = tables.last_change(), records_in(stack, job, "route fold")
    rows, began = records_in(stack, job, "lease fold"), tables.event_time("calm")

    for n in range(10_000):
        log.beat(ids[n % 100], '{"cpu":0.4}')
    log.flush()
    for instance in ids:
        log.beat(instance, '{"status":"fail"}')
    # Each of these follows all unchanged beats of its instance in the same partition; once all have had their
    # effect, so have the unchanged ones.
    tables.wait_for("calm", "steady")

    # Every entry since is one of the failures, and nothing else. (Other tests' leases may lapse meanwhile.)
    entries = [json.loads(e["data"]) for _, e in tables.changes(after=change) if e["service"] == "default/calm"]
    assert [entry["set"] for entry in entries if entry["set"]] == []
    assert sorted(i for entry in entries for i in entry["delete"]) == sorted(ids)
    in_route_fold = eventually(lambda: records_in(stack, job, "route fold") - folded)
    in_lease_fold = records_in(stack, job, "lease fold") - rows
    # Metrics are up to a minute old, and twice a minute each service is told how far the gate has decided.
    assert in_route_fold < 1_000 + 4 * tables.redis.scard(f"{PREFIX}services")
    ticks = (tables.event_time("calm") - began) // 1000 + 60
    assert in_lease_fold <= SHARDS * ticks, "one row per shard and tick, however many beats"


DAMAGE: dict[str, Callable[[Any, str, str], object]] = {
    "field changed": lambda redis, key, _: redis.hset(f"{key}:route", "d3", '{"address":"6.6.6.6","port":1}'),
    "field deleted": lambda redis, key, _: redis.hdel(f"{key}:route", "d3"),
    "field added": lambda redis, key, _: redis.hset(f"{key}:route", "d99", '{"address":"6.6.6.6","port":1}'),
    "route deleted": lambda redis, key, _: redis.delete(f"{key}:route"),
    "meta deleted": lambda redis, key, _: redis.delete(f"{key}:meta"),
    "revision raised": lambda redis, key, _: redis.hincrby(f"{key}:meta", "revision", 5_000),
    "epoch raised": lambda redis, key, _: redis.hincrby(f"{key}:meta", "epoch", 5_000),
    "digest edited": lambda redis, key, _: redis.hset(f"{key}:meta", "digest", "0" * 16),
    "taken off the list": lambda redis, _, service: redis.srem(f"{PREFIX}services", f"default/{service}"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_table_damaged_by_hand_is_healed(log: LogWriter, tables: Tables, what: str) -> None:
    service = f"damaged-{what.replace(' ', '-')}"
    for n in range(20):
        last = log.register(service, f"d{n}", 11_500 + n)
    eventually(lambda: tables.answer(last))
    key, revision = f"{PREFIX}{{default/{service}}}", tables.revision(service)
    before = {part: tables.redis.hgetall(f"{key}:{part}") for part in ("route", "instances")}

    DAMAGE[what](tables.redis, key, service)

    above = revision + (5_000 if what == "revision raised" else 0)
    healed = eventually(lambda: tables.revision(service) > above and tables.redis.hgetall(f"{key}:meta"))
    assert healed["rule"] == "resync"
    assert {part: tables.redis.hgetall(f"{key}:{part}") for part in before} == before
    assert tables.redis.sismember(f"{PREFIX}services", f"default/{service}")


def test_the_job_refuses_topics_with_the_producers_clock(stack: Stack, tmp_path: Path) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    admin = KafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    try:
        topic = NewTopic(
            name="wrong-clock",
            num_partitions=1,
            replication_factor=1,
            topic_configs={"message.timestamp.type": "CreateTime"},
        )
        admin.create_topics([topic])
    finally:
        admin.close()

    refused = subprocess.run(
        [
            sys.executable,
            "-m",
            "jobs.route_table",
            "--set",
            f"kafka.bootstrap={stack.kafka_bootstrap}",
            "--set",
            "topics.heartbeat=wrong-clock",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert refused.returncode != 0
    assert "LogAppendTime" in refused.stderr
    assert "wrong-clock" in refused.stderr
