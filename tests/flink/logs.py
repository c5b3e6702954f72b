"""Generated logs: everything that happens to a fleet, and everything a producer can do wrong.

Registrations of a service share a partition, as its key makes them, except for those of `spread`, whose producers use
any key. Deaths, silences and the last word on anything end well before the log does, so that what the job has to say
of it does not hang on its last tick.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.flink.mini_cluster import HEARTBEAT, REGISTRY, Planned

T0 = 4_000_000_000_000
"""In a time to come (2096): a job that lags behind its log writes less often, and one that is ahead of it never."""
SHARDS = 8
PARTITIONS = 4
IDLE_PARTITION = 2
LAGGING_PARTITION = 3
LOADED = 9


def register(service: str, instance: str, **fields: Any) -> dict[str, Any]:
    return {"service": service, "instance": instance, "address": "10.0.0.1", "port": 8080, **fields}


BAD_REGISTRATIONS: list[tuple[bytes | None, str]] = [
    (None, "tombstone"),
    (b"", "bad-json"),
    (b"garbage", "bad-json"),
    (b"\xff{}", "bad-utf8"),
    (b"[]", "not-an-object"),
    (b"[" * 50_000, "bad-json"),
    (b'{"service":"bad","endpoints":null,"last_updated":1}', "endpoints-missing"),
    (b'{"service":"bad","last_updated":1}', "endpoints-missing"),
    (b'{"service":"bad","endpoints":"10.0.0.1:80","last_updated":1}', "wrong-type"),
    (json.dumps({"service": "bad", "endpoints": ["10.0.0.1:0"], "last_updated": 1}).encode(), "port-out-of-range"),
    (
        json.dumps(
            {"service": "bad", "endpoints": [f"10.0.{n >> 8}.{n & 255}:80" for n in range(5001)], "last_updated": 1}
        ).encode(),
        "too-many-endpoints",
    ),
    (b'{"service":"bad","endpoints":["10.0.0.1:80"],"last_updated":99999999999}', "last-updated-in-future"),
    (json.dumps(register("bad", "x", port=0)).encode(), "port-out-of-range"),
    (json.dumps(register("bad", "x", port=70_000)).encode(), "port-out-of-range"),
    (json.dumps(register("bad", "x", port="80")).encode(), "wrong-type"),
    (json.dumps(register("bad", "x", lease_seconds=1)).encode(), "lease-out-of-bounds"),
    (json.dumps(register("bad", "x", op="explode")).encode(), "unknown-op"),
    (json.dumps(register("bad", "x", status="SIDEWAYS")).encode(), "unknown-status"),
    (json.dumps(register("Bad Name", "x")).encode(), "bad-service"),
    (json.dumps(register("bad", "x\n10.0.0.1")).encode(), "bad-instance-id"),
    (json.dumps(register("bad", "x\x1ey")).encode(), "bad-instance-id"),
    (json.dumps(register("bad", "x", metadata={"blob": "x" * 262_144})).encode(), "oversize"),
]

BAD_HEARTBEATS: list[tuple[bytes | None, bytes | None, str]] = [
    (b"a-0", None, "tombstone"),
    (None, b"{}", "key-missing"),
    (b"", b"{}", "key-missing"),
    (b"a-0", b"", "bad-json"),
    (b"a-0", b"\xff{}", "bad-utf8"),
    (b"a-0", b"[" * 50_000, "bad-json"),
    (b"a-0", b'{"cpu":"x"}', "wrong-type"),
    (b"a-0", b'{"cpu":1e400}', "bad-json"),
    (b"a-0", b'{"cpu":-1}', "load-out-of-range"),
    (b"a-0", b'{"status":"sideways"}', "unknown-status"),
    (b"a-0", b'{"x":"' + b"x" * 65_536 + b'"}', "oversize"),
    (b"a-0", b'{"x":"' + "\u00e9".encode() * 40_000 + b'"}', "oversize"),
    (b"a-0", b'{"be\\u0061ts":[{"instance":"dead-0"}]}', "escaped-batch"),
    (b"a-0\x00", b"{}", "bad-instance-id"),
    (b"a-0", b'{"x":"\x00"}', "bad-json"),
    ("a-\U0001f600".encode(), b"{}", "bad-instance-id"),
    ("a-\u00e9".encode(), b"{}", "bad-instance-id"),
    (b"\xffa-0", b"{}", "bad-instance-id"),
    (b"_witness/99", b"{}", "bad-instance-id"),
    (b"_witness/x", b"{}", "bad-instance-id"),
    (b"_witness/3", None, "tombstone"),
    (b"node-1", b'{"node":"node-1","beats":7}', "wrong-type"),
    (b"node-1", b'{"node":"node-1","beats":[{"instance":"a-0"},{"cpu":1},{"instance":"b d"}]}', "instance-missing"),
]


def forgeries(at: int) -> list[tuple[bytes, bytes, str]]:
    """Records of one instance that try to be a beat of `dead-0`, which is dead and must stay so."""
    forged = b"dead-0\x1f0\x1f0\x1f%d\x1f{}" % at
    return [
        (b"a-0", b"{}\x1e" + forged, "bad-json"),
        (b"a-0\x1f0\x1f0\x1f%d\x1f{}\x1e" % at + forged, b"{}", "bad-instance-id"),
        (b"a-0\x1e" + forged, b"{}", "bad-instance-id"),
        (b"dead-0\x1f0\x1f0\x1f%d\x1f{}" % at, b"{}", "bad-instance-id"),
        (b"dead-0 ", b"{}", "bad-instance-id"),
        (b"a-0", b'{"x":"\x1e' + forged + b'"}', "bad-json"),
    ]


@dataclass
class GeneratedLog:
    """A log in the order of its append times, and the poison in it."""

    records: list[Planned] = field(default_factory=list)
    poison: list[tuple[Planned, str]] = field(default_factory=list)
    unknown: list[Planned] = field(default_factory=list)

    def add(self, topic: str, at: float, partition: int, key: bytes | None, value: object) -> Planned:
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        record = Planned(topic, T0 + round(at * 1000), partition, key, body)
        self.records.append(record)
        return record

    def refuse(
        self, topic: str, at: float, partition: int, key: bytes | None, value: bytes | None, reason: str
    ) -> None:
        self.poison.append((self.add(topic, at, partition, key, value), reason))


def a_log(seed: int, seconds: int = 200) -> GeneratedLog:
    """Write a log of `seconds` (at least 160)."""
    random, log = Random(seed), GeneratedLog()
    silence = (seconds * 0.4, seconds * 0.4 + 9)
    idle = (seconds * 0.2, seconds * 0.35)
    calm = seconds - 60

    def partition_of(key: str) -> int:
        return sum(key.encode()) % PARTITIONS

    def is_silent(at: float) -> bool:
        return silence[0] <= at < silence[1]

    def beat(at: float, instance: str, body: object, partition: int | None = None) -> None:
        where = partition_of(instance) if partition is None else partition
        if where == IDLE_PARTITION and idle[0] <= at < idle[1]:
            where = 0
        if not is_silent(at):
            log.add(HEARTBEAT, at, where, instance.encode(), body)

    for half in range(2 * seconds):
        at = half / 2
        open_partitions = [p for p in range(PARTITIONS) if p != IDLE_PARTITION or not idle[0] <= at < idle[1]]
        if not is_silent(at):
            for shard in range(SHARDS):
                where = open_partitions[(shard + half) % len(open_partitions)]
                log.add(HEARTBEAT, at, where, b"_witness/%d" % shard, b"{}")

    def tell(at: float, service: str, doc: dict[str, Any], partition: int | None = None) -> None:
        where = partition_of(service) if partition is None else partition
        log.add(REGISTRY, at, where, f"default/{service}".encode(), {"service": service, **doc})

    def life(
        service: str, instance: str, start: float, stop: float, lease: int, batched: list[Any] | None = None
    ) -> None:
        at = start + random.uniform(0, 1)
        while at < stop:
            said: dict[str, Any] = random.choice([{}, {"cpu": 0.4}, {"cpu": round(random.random(), 3), "mem": 0.5}])
            if random.random() < 0.1:
                said = {**said, "status": random.choice(["pass", "fail", "UP"])}
            if batched is None:
                beat(at, instance, said)
            else:
                batched.append((at, {"instance": instance, **said}))
            at += lease / 3 * random.uniform(0.7, 1.2)
        if stop >= seconds - 3:
            beat(seconds - 4, instance, {"status": random.choice(["pass", "fail"])})

    batches: list[tuple[float, Any]] = []
    for n in range(24):
        service = random.choice(["a", "b", "c"])
        instance, lease, begin = f"{service}-{n}", random.choice([3, 5, 9]), random.uniform(0, 30)
        tell(begin, service, register(service, instance, port=8000 + n, lease_seconds=lease, request_id=f"r-{n}"))
        died = random.uniform(begin, calm) if random.random() < 0.3 else seconds - 3
        life(service, instance, begin, died, lease, batches if n % 5 == 0 else None)
        later = random.uniform(begin + 1, calm)
        match n % 8:
            case 0:
                tell(later, service, {"op": "drain", "instance": instance})
            case 1:
                tell(later, service, {"op": "deregister", "instance": instance})
                beat(later + 1, instance, {})
            case 2:
                tell(later, service, {"op": "update", "instance": instance, "weight": random.randrange(200)})
            case 3:
                tell(later, service, register(service, instance, address="10.0.0.99", port=9000, lease_seconds=lease))
            case 4:
                tell(later, service, {"op": "status", "instance": instance, "status": "fail"})
            case 5:
                tell(later, service, {"op": "status", "instance": instance, "status": "OUT_OF_SERVICE"})
                beat(later + 1, instance, {"status": "pass"})
            case 6:
                tell(later, service, register(service, instance, port=8000 + n, lease_seconds=lease))
                tell(later, service, register(service, instance, port=8000 + n, lease_seconds=lease))
            case _:
                tell(later, service, {"op": "deregister", "instance": instance})
                tell(later + 2, service, {"op": "update", "instance": instance, "weight": 1})
                tell(later + 3, service, register(service, instance, port=8000 + n, lease_seconds=lease))

    # One dies and comes back, over and over; one is dead from the start; one id lives in two namespaces.
    tell(1, "a", register("a", "flapping", lease_seconds=3))
    for start in range(2, seconds - 4, 20):
        life("a", "flapping", start, start + 8, 3)
    life("a", "flapping", seconds - 20, seconds - 3, 3)
    tell(1, "a", register("a", "dead-0", lease_seconds=3))
    tell(1, "a", register("a", "twice", lease_seconds=3))
    tell(1, "d", register("d", "twice", namespace="staging", lease_seconds=3))
    for at in range(2, seconds - 3):
        beat(at, "twice", {"namespace": "staging"})
    log.refuse(HEARTBEAT, 20, 0, b"twice", b"{}", "ambiguous-namespace")

    # Batches of one node: the beats of a second in one record, at the time of the newest of them.
    for second in sorted({int(at) for at, _ in batches}):
        beats = [body for at, body in sorted(batches, key=lambda b: b[0]) if int(at) == second]
        newest = {body["instance"]: body for body in beats}
        beat(second + 0.999, "node-1", {"node": "node-1", "beats": list(newest.values())}, random.randrange(2))

    # Sets of two sources, a late one among them; and a service whose records go to any partition.
    for n, at in enumerate(sorted(random.uniform(0, calm) for _ in range(6))):
        endpoints = [f"10.1.0.{i}:80" for i in range(5) if random.random() < 0.6]
        healthy = random.choice(["healthy", "healthy", "unhealthy"])
        source = "dns" if n % 2 else "sync"
        tell(at, "webhook", {"endpoints": endpoints, "status": healthy, "last_updated": 100 + n, "source": source})
        if n == 3:
            tell(at + 1, "webhook", {"endpoints": ["10.1.0.9:80"], "last_updated": 1, "source": "dns"})
    tell(2, "webhook", register("webhook", "10.1.0.1:80", address="10.1.0.1", port=80, lease_seconds=9))
    for n in range(16):
        at = random.uniform(0, calm)
        if n % 2:
            tell(at, "spread", register("spread", f"s-{n % 6}", port=8000 + n, lease_seconds=3600), n % PARTITIONS)
        else:
            tell(at, "spread", {"endpoints": [f"10.2.0.{n}:80"], "last_updated": round(at * 1000)}, n % PARTITIONS)

    for n, (value, reason) in enumerate(BAD_REGISTRATIONS):
        log.refuse(REGISTRY, random.uniform(0, calm), n % PARTITIONS, b"default/bad", value, reason)
    for n, (key, value, reason) in enumerate(BAD_HEARTBEATS):
        log.refuse(HEARTBEAT, silence[1] + 1 + n, n % 2, key, value, reason)
    for n, (key, value, reason) in enumerate(forgeries(T0 + (seconds - 10) * 1000)):
        log.refuse(HEARTBEAT, silence[1] + 2 + n, n % 2, key, value, reason)
    for n in range(5):
        log.unknown.append(log.add(HEARTBEAT, 5 + n, 1, f"nobody-{n}".encode(), b"{}"))

    # Instances that only beat, over all partitions, with their load and their own time: their windows are exact.
    for n in range(LOADED):
        service, instance = f"load-{n % 3}", f"l-{n}"
        tell(1, service, register(service, instance, port=7000 + n, lease_seconds=3600))
        at = 2 + random.uniform(0, 1)
        while at < seconds - 3:
            said = {"cpu": round(random.uniform(0, 2), 3), "ts": T0 + round(at * 1000) - random.randrange(-50, 400)}
            where = random.randrange(PARTITIONS)
            if n % 4 == 0:
                beat(at, f"node-{instance}", {"node": "n", "beats": [{"instance": instance, **said}]}, where)
            else:
                beat(at, instance, random.choice([said, said, {}]), where)
            at += random.uniform(0.5, 3)

    log.records.sort(key=lambda r: r.at)
    return log
