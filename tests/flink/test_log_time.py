"""The log's time through the real graph: silences, an absent log, still partitions, wrong clocks, late beats.

One log and one run, for a start of the job costs more than half an hour of silence does here. Seconds of the log:

    0          30            70        100            1900      1930                1970      1990        2050
    ├─ beats ──┼─ witnesses ─┼─ beats ─┼── nothing ───┼─ beats ─┼─ a partition idle ─┼─ a service falls silent ─┤
               │  only       │         │   at all     │         │  one lagging       │ held, released           │

The brake is on, as by default, but for the limit of the fleet: a wrongful expiry of many would be seen as `held`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.flink.logs import IDLE_PARTITION, LAGGING_PARTITION, PARTITIONS, SHARDS, T0, register
from tests.flink.mini_cluster import HEARTBEAT, REGISTRY, MiniCluster, Planned, Running, Tables, Topics
from tests.model import oracle
from tests.wire.events import as_bytes
from waypost.model.events import Op
from waypost.model.names import ServiceKey
from waypost.wire.changes import decode_change

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1200)]

SILENT, BACK, AWAY, AGAIN, STILL, MOVING, RELEASED, END = 30, 70, 100, 1900, 1930, 1970, 1995, 2050
BEATING = [(0, SILENT), (BACK, AWAY), (AGAIN, STILL), (STILL, MOVING), (MOVING, RELEASED), (RELEASED, END)]
WITNESSED = [(0, AWAY), *BEATING[2:]]
FIRST = 0.2
"""How long after a silence the first beat of all comes."""
NEVER = 10_000.0

CLOCKS = {
    "behind": lambda at: at - 90_000,
    "ahead": lambda at: at + 90_000,
    "hour": lambda at: at + 59 * 60_000,
    "future": lambda _: 4_102_444_800_000,  # the year 2100
    "negative": lambda _: -1,
    "ancient": lambda _: -(2**53),
    "dead": lambda _: 4_102_444_800_000,
}


class Instance:
    """An instance that beats every `lease / 3` seconds while it may, and when it does not.

    `delay` is how much later than the first of all it comes back after each silence; `stops` the second from which on
    it is dead."""

    def __init__(self, service: str, name: str, n: int, lease: int = 6, delay: float = 0, stops: float = NEVER) -> None:
        self.service, self.name, self.lease, self.n = service, f"{service}-{name}", lease, n
        self._delay, self._stops = delay, stops
        self._clock = CLOCKS[name] if service == "clocks" else None

    def registration(self) -> Planned:
        said = {} if self._clock is None else {"ts": self._clock(T0)}
        doc = register(self.service, self.name, lease_seconds=self.lease, **said)
        return Planned(REGISTRY, T0, 0, f"default/{self.service}".encode(), as_bytes(doc))

    def beats(self, start: float, stop: float) -> Iterator[Planned]:
        at = start + FIRST + self.n / 100 + (self._delay if start in (BACK, AGAIN) else 0)
        while at < min(stop, self._stops):
            when = T0 + round(at * 1000)
            said = {"cpu": 0.4} if self._clock is None else {"ts": self._clock(when)}
            where = self.n % PARTITIONS
            if where == IDLE_PARTITION and start == STILL:
                where = 0
            yield Planned(HEARTBEAT, when, where, self.name.encode(), as_bytes(said))
            at += self.lease / 3


FLEET = [
    Instance("fleet", "steady", 0),
    Instance("fleet", "in-time", 1, delay=5.5),  # with a lease of 6 s
    Instance("fleet", "slow", 2, lease=15, delay=14),
    Instance("fleet", "tardy", 3, delay=9),
    Instance("fleet", "gone", 4, stops=SILENT),
    Instance("fleet", "gone-slow", 5, lease=15, stops=SILENT),
    Instance("fleet", "gone-later", 6, stops=AWAY),
    Instance("fleet", "dead-in-stillness", 7, stops=STILL),
    *[Instance("clocks", name, 8 + n, stops=90 if name == "dead" else NEVER) for n, name in enumerate(CLOCKS)],
    Instance("left", "steady", 15),
    Instance("left", "deregistered", 16),  # and goes on beating
    *[Instance("held", str(n), 17 + n, stops=1972 if n < 4 else 2010 if n == 4 else NEVER) for n in range(6)],
]
FLEET_HISTORY = [
    # One lease after the first beat that followed the silence, at 70.2 and 1900.2.
    ("gone", "out", 77),
    ("tardy", "out", 77),
    ("tardy", "in", 79),
    ("gone-slow", "out", 86),
    ("gone-later", "out", 1907),
    ("tardy", "out", 1907),
    ("tardy", "in", 1909),
    # One lease after its own last beat, at 1928.27, whenever that was found out.
    ("dead-in-stillness", "out", 1935),
]
CLOCKS_HISTORY = [("dead", "out", 95)]


def heartbeats(start: int, stop: int) -> list[Planned]:
    """Return beats and witnesses of a span, in the order of their times."""
    records = [beat for a, b in BEATING if start <= a < stop for one in FLEET for beat in one.beats(a, b)]
    for a, b in WITNESSED:
        for half in range(2 * max(a, start), 2 * min(b, stop)):
            partitions = [p for p in range(PARTITIONS) if p != IDLE_PARTITION or not STILL <= half / 2 < MOVING]
            for shard in range(SHARDS):
                where = partitions[(shard + half) % len(partitions)]
                records.append(Planned(HEARTBEAT, T0 + 500 * half, where, b"_witness/%d" % shard, b"{}"))
    return sorted(records, key=lambda r: r.at)


def history(tables: Tables, service: str) -> list[tuple[str, str, int]]:
    """Return who left or entered a table after everybody was in it, and in which second of the log."""
    found: list[tuple[str, str, int]] = []
    table: set[str] = set()
    for change in map(decode_change, tables.changes()):
        if change.service != ServiceKey("default", service):
            continue
        second = (change.event_time - T0) // 1000
        found += [(i, "in", second) for i in sorted(change.delta.set.keys() - table) if second]
        found += [(i, "out", second) for i in sorted(change.delta.delete)]
        assert service == "held" or not any('"held":true' in text for text in change.delta.set.values())
        table = (table | change.delta.set.keys()) - set(change.delta.delete)
    return [(i.removeprefix(f"{service}-"), what, second) for i, what, second in found]


def write_up_to(topics: Topics, job: Running, records: list[Planned], partitions: set[int]) -> None:
    """Write what is for these partitions, and return when the job has read it."""
    before = len(topics.dead())
    mine = [r for r in records if r.partition in partitions]
    # A record that is refused without waiting for its tick.
    topics.write([*mine, *(Planned(HEARTBEAT, mine[-1].at, p, b"fence", b"\x1f") for p in sorted(partitions))])
    job.until(lambda: len(topics.dead()) == before + len(partitions))


def table(tables: Tables, service: str) -> dict[str, bool]:
    """Return who is in a table, and whether it is held."""
    return {i: endpoint.held for i, endpoint in tables.routes().get(ServiceKey("default", service), {}).items()}


def test_leases_count_the_time_in_which_beats_could_arrive_and_nothing_else(
    mini_cluster: MiniCluster, make_topics: Callable[[], Topics], tables_of: Callable[[Topics], Tables]
) -> None:
    topics = make_topics()
    tables = tables_of(topics)
    names = {one.name for one in FLEET}

    def tell(at: int, partition: int, value: bytes) -> Any:
        [record] = topics.write([Planned(REGISTRY, T0 + at * 1000, partition, None, value)])
        return record.stamp

    with mini_cluster.running(topics, "brake.fleet_percent=100") as job:
        registered = topics.write(one.registration() for one in FLEET)
        job.until_leased(record.stamp for record in registered)
        job.until(lambda: set().union(*tables.routes().values()) == names)

        # A job that is behind writes what several ticks mean at once: who went and came back was never away, then.
        beats, written = heartbeats(0, STILL), T0
        for second in sorted({entry[2] for entry in [*FLEET_HISTORY[:-1], *CLOCKS_HISTORY]}):
            end = T0 + 1000 * (second + 2)
            topics.write([record for record in beats if written <= record.at < end])
            written = end
            for service, meant in (("fleet", FLEET_HISTORY), ("clocks", CLOCKS_HISTORY)):
                told = [entry for entry in meant if entry[2] <= second]
                job.until(lambda service=service, told=told: history(tables, service) == told)
        topics.write([record for record in beats if written <= record.at])
        job.until_leased(
            [tell(STILL - 1, 0, as_bytes({"op": "deregister", "service": "left", "instance": "left-deregistered"}))]
        )

        still = heartbeats(STILL, MOVING)
        for readable in (set(range(PARTITIONS)) - {IDLE_PARTITION, LAGGING_PARTITION}, {LAGGING_PARTITION}):
            write_up_to(topics, job, still, readable)
            assert history(tables, "fleet") == FLEET_HISTORY[:-1], "time passed although a partition stood still"
        topics.write(heartbeats(MOVING, RELEASED))
        job.until(lambda: FLEET_HISTORY[-1] in history(tables, "fleet"))
        job.until(lambda: sum(table(tables, "held").values()) == 4)
        escaped = b'{"\\u006fp":"unprotect","service":"held"}'
        assert json.loads(escaped)["op"] == Op.UNPROTECT.value
        released = tell(RELEASED - 5, 1, escaped)
        job.until(lambda: table(tables, "held") == {"held-4": False, "held-5": False})
        assert job.reports()["odd-registrations"].calls == 1, "the gate was not told"
        job.until_leased([released])

        late = [Planned(HEARTBEAT, T0 + at * 1000, 1, b"left-deregistered", b"{}") for at in (10, 1920, 1940, 1980)]
        topics.write([*late, *heartbeats(RELEASED, END)])
        job.until(lambda: ("4", "out", 2016) in history(tables, "held"))
        job.cancel()

    assert history(tables, "fleet") == FLEET_HISTORY
    assert history(tables, "clocks") == CLOCKS_HISTORY
    assert history(tables, "left") == [("deregistered", "out", STILL - 1)]
    assert table(tables, "held") == {"held-5": False}, "one more that dies is no part of what was released"
    assert {d.reason for d in topics.dead()} == {"bad-json"}, "the fences, and nothing else"
    log = oracle.Log.of(topics.written, registry=topics.name(REGISTRY), shards=SHARDS)
    for service, meant in oracle.final(log).items():
        found = {i: (k.lease, k.routable) for i, k in tables.instances()[service].items()}
        assert found == {i: (k.lease, k.is_routable) for i, k in meant.items()}, service
