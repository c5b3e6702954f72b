"""What the roster has to tell goes to the log in batches, through any outage, and is written down for a successor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from tests.agent.members import CART, P1, P2, a_member
from waypost.agent.member import Who
from waypost.agent.roster import Roster, Stage
from waypost.agent.state_file import read_state
from waypost.agent.teller import BATCH_FROM, Teller
from waypost.client.connection import Backoff
from waypost.client.event_sink import MemorySink, Record
from waypost.client.registrar import Topics
from waypost.errors import RegistryUnavailable
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_heartbeat
from waypost.wire.registry import decode_registration

AWAY = RegistryUnavailable("no broker")
CEILING = timedelta(seconds=30)


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


class Sink(MemorySink):
    """Counts batches, and calls a test before each."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.before: Callable[[], None] = lambda: None

    def write_all(self, records: Sequence[Record]) -> None:
        self.batches += 1
        self.before()
        super().write_all(records)


class World:
    def __init__(self, file: Path | None = None) -> None:
        self.clock, self.sink = Clock(), Sink()
        self.roster = Roster("shop", "agent", jitter=lambda: 0.9)
        self.teller = Teller(
            self.roster,
            self.sink,
            namespace="shop",
            node="n1",
            file=file,
            backoff=Backoff(first=timedelta(0), ceiling=timedelta(0)),
            now=self.clock,
        )

    def register(self, *those: Who) -> None:
        self.teller.change(lambda roster: [roster.register(a_member(who)) for who in those])

    def all_told(self) -> None:
        assert self.teller.wait(lambda roster: all(each.is_told for each in roster), CEILING)

    def beat(self) -> None:
        """Let the time of the next beats come, and wait until they are written."""
        before = self.teller.written.beats
        self.clock.at += 1_000.0
        self.teller.change(lambda _: None)
        assert self.teller.wait(lambda _: self.teller.written.beats > before, CEILING)

    def of(self, topic: str) -> list[Record]:
        return [record for record in self.sink.records if record.topic == topic]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state")
    world.teller.start()
    yield world
    world.teller.close()


def test_registrations_are_one_batch_of_records_the_job_accepts(world: World) -> None:
    world.register(P1, P2, CART)
    world.all_told()

    events = [decode_registration(record.value, Stamp(0)) for record in world.of(Topics().registry)]
    assert [(str(e.service), e.instance, e.source) for e in events] == [  # type: ignore[union-attr]
        ("shop/payments", "p-1", "agent"), ("shop/payments", "p-2", "agent"), ("shop/cart", "c-1", "agent"),
    ]  # fmt: skip
    assert [record.key for record in world.of(Topics().registry)] == [b"shop/payments", b"shop/payments", b"shop/cart"]
    assert len({e.request_id for e in events}) == 3
    assert world.sink.batches == 1


def test_few_beat_under_their_own_ids(world: World) -> None:
    world.register(P1)
    world.all_told()
    world.beat()

    (record,) = world.of(Topics().heartbeat)
    assert (record.key, orjson.loads(record.value)) == (b"p-1", {"service": "payments", "namespace": "shop"})


def test_many_beat_in_one_record_of_their_node(world: World) -> None:
    those = [Who("payments", f"p-{n}") for n in range(BATCH_FROM)]
    world.register(*those)
    world.all_told()
    world.beat()

    (record,) = world.of(Topics().heartbeat)
    assert record.key == b"n1"
    assert orjson.loads(record.value)["node"] == "n1"
    beats = decode_heartbeat(record.key, record.value)
    assert [id for id, _ in beats.beats] == [who.instance for who in those]
    assert {(beat.namespace, beat.service) for _, beat in beats.beats} == {("shop", "payments")}
    assert not beats.errors


def test_an_outage_is_outlived_and_nothing_piles_up(world: World) -> None:
    world.sink.failure = AWAY
    world.register(P1, P2)
    assert world.teller.wait(lambda _: world.teller.written.failures >= 3, CEILING)
    assert world.teller.written.is_failing
    for _ in range(50):
        world.teller.change(lambda roster: roster.drain(P1))
        world.register(P1)
    world.teller.change(lambda roster: roster.drain(P2))

    world.sink.failure = None
    world.all_told()

    words = [orjson.loads(record.value) for record in world.of(Topics().registry)]
    of_p1, of_p2 = (
        [f"{w['op']} {w.get('status', '')}".strip() for w in words if w["instance"] == id] for id in ("p-1", "p-2")
    )
    # What was under way when Kafka came back may be told too; the hundred words in between are not.
    assert of_p1 in (["register UP"], ["register UP", "register UP"], ["register DRAINING", "register UP"])
    assert of_p2 in (["register DRAINING"], ["register UP", "drain"])
    assert not world.teller.written.is_failing


def test_beats_that_were_lost_are_made_good_by_one(world: World) -> None:
    world.register(P1)
    world.all_told()
    world.sink.failure = AWAY
    for _ in range(5):
        failures = world.teller.written.failures
        world.clock.at += 1_000.0
        world.teller.change(lambda _: None)
        assert world.teller.wait(lambda _, n=failures: world.teller.written.failures > n, CEILING)

    world.sink.failure = None
    assert world.teller.wait(lambda _: world.teller.written.beats == 1, CEILING)

    assert len(world.of(Topics().heartbeat)) == 1


def test_a_drain_that_comes_while_a_registration_is_written_follows_it(world: World) -> None:
    is_writing, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        world.sink.before = lambda: None
        is_writing.set()
        assert go_on.wait(CEILING.total_seconds())

    world.sink.before = hold
    world.register(P1)
    assert is_writing.wait(CEILING.total_seconds())
    world.teller.change(lambda roster: roster.drain(P1))
    go_on.set()
    world.all_told()

    assert [orjson.loads(record.value)["op"] for record in world.of(Topics().registry)] == ["register", "drain"]


def test_what_may_be_on_the_log_is_written_down_before_it_is_told(tmp_path: Path) -> None:
    file = tmp_path / "state"
    world = World(file)
    seen: list[tuple[bool, Stage | None]] = []

    def look() -> None:
        told = read_state(file, "shop")[0].told
        seen.append((told.tried, told.stage))

    world.sink.before = look
    world.teller.start()
    try:
        world.register(P1)
        world.all_told()
    finally:
        world.teller.close()

    assert seen[0] == (True, None)
    assert [(s.told.tried, s.told.stage) for s in read_state(file, "shop")] == [(True, Stage.UP)]


def test_who_starts_after_a_crash_beats_for_everybody_at_once(tmp_path: Path) -> None:
    before = World(tmp_path / "state")
    before.teller.start()
    before.register(P1, CART)
    before.all_told()
    before.teller.close()

    after = World(tmp_path / "state")
    after.roster.restore(read_state(tmp_path / "state", "shop"))
    after.teller.start()
    try:
        assert after.teller.wait(lambda _: after.teller.written.beats == 2, CEILING)
    finally:
        after.teller.close()

    assert after.of(Topics().registry) == []


def test_closing_ends_a_retry(world: World) -> None:
    world.sink.failure = AWAY
    world.register(P1)
    assert world.teller.wait(lambda _: world.teller.written.failures >= 1, CEILING)
    world.teller.close()


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    world, wall = World(tmp_path / "state"), [0]
    world.teller._now_ms = lambda: wall[0]  # type: ignore[method-assign]
    world.teller.start()
    try:
        for number, at in enumerate((0, 4_300_000_000_000, 1_795_298_407_272, -1)):
            wall[0] = at
            world.register(Who("payments", f"p-{number}"))
            world.all_told()
        world.beat()
    finally:
        world.teller.close()

    assert len(world.of(Topics().registry)) == 4
    assert {record.key for record in world.of(Topics().heartbeat)} == {b"p-0", b"p-1", b"p-2", b"p-3"}
