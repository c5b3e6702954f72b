"""The witness against a producer of plain lists and a clock moved by hand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from waypost.witness import PERIOD_S, Witness, round_of_records


def test_a_round_reaches_every_shard_and_every_partition() -> None:
    records = list(round_of_records(128, [0, 1, 2, 3], turn=0))

    assert Counter(key for key, _ in records) == {f"_witness/{i}".encode(): 1 for i in range(128)}
    assert {partition for _, partition in records} == {0, 1, 2, 3}


def test_more_partitions_than_shards_leave_none_out() -> None:
    records = list(round_of_records(2, list(range(7)), turn=3))

    assert sorted(partition for _, partition in records) == list(range(7))
    assert {key for key, _ in records} == {b"_witness/0", b"_witness/1"}


def test_a_shard_visits_every_partition_in_time() -> None:
    visited = {dict(round_of_records(4, [0, 1, 2, 3], turn))[b"_witness/0"] for turn in range(4)}

    assert visited == {0, 1, 2, 3}


class FakeTime(threading.Event):
    """A stop signal whose waiting moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


class FakeProducer:
    def __init__(self, time: FakeTime, partitions: Callable[[], Sequence[int]] = lambda: [0, 1]) -> None:
        self.time, self.known, self.closed = time, partitions, False
        self.sent: list[tuple[float, bytes, int]] = []
        self.slow_s = 0.0
        self.lost_so_far: Callable[[], int] = lambda: 0

    def partitions(self) -> Sequence[int]:
        return self.known()

    def send(self, key: bytes, value: bytes, partition: int) -> None:
        self.time.now += self.slow_s
        self.sent.append((self.time.now, key, partition))

    def lost(self) -> int:
        return self.lost_so_far()

    def close(self) -> None:
        self.closed = True


def stop_at(
    witness: Witness, time: FakeTime, at: float, then: Callable[[], Sequence[int]]
) -> Callable[[], Sequence[int]]:
    def partitions() -> Sequence[int]:
        if time.now >= at:
            witness.stop()
        return then()

    return partitions


def test_two_rounds_a_second() -> None:
    time = FakeTime()
    producer = FakeProducer(time)
    witness = Witness(connect=lambda: producer, shards=2, clock=lambda: time.now, stopped=time)
    producer.known = stop_at(witness, time, 5.0, lambda: [0, 1])

    witness.run()

    rounds = Counter(at for at, _, _ in producer.sent)
    assert sorted(rounds) == [i * PERIOD_S for i in range(11)]
    assert producer.closed


def test_an_outage_is_waited_out_and_never_made_up_for() -> None:
    time = FakeTime()
    producer = FakeProducer(time)
    attempts = []

    def connect() -> FakeProducer:
        attempts.append(time.now)
        if time.now < 60.0:
            raise OSError("no broker")
        return producer

    witness = Witness(connect=connect, shards=2, clock=lambda: time.now, stopped=time)
    producer.known = stop_at(witness, time, 62.0, lambda: [0, 1])
    witness.run()

    assert len(attempts) <= 31
    assert max(Counter(int(at / PERIOD_S) for at, _, _ in producer.sent).values()) == 2
    assert min(at for at, _, _ in producer.sent) >= 60.0


def test_new_partitions_are_served_from_the_next_round() -> None:
    time = FakeTime()
    producer = FakeProducer(time)
    witness = Witness(connect=lambda: producer, shards=4, clock=lambda: time.now, stopped=time)
    producer.known = stop_at(witness, time, 3.0, lambda: [0, 1] if time.now < 2.0 else [0, 1, 2])

    witness.run()

    assert {p for at, _, p in producer.sent if at < 2.0} == {0, 1}
    assert {p for at, _, p in producer.sent if at >= 2.0} == {0, 1, 2}


def test_a_round_that_takes_too_long_is_cut_short() -> None:
    time = FakeTime()
    producer = FakeProducer(time)
    producer.slow_s = 0.2
    witness = Witness(connect=lambda: producer, shards=128, clock=lambda: time.now, stopped=time)
    producer.known = stop_at(witness, time, 1.0, lambda: [0, 1])

    witness.run()

    assert len(producer.sent) < 12


def test_a_sign_of_life_is_given_only_while_nothing_is_lost() -> None:
    time = FakeTime()
    producer = FakeProducer(time)
    # Everything sent between second 2 and second 4 is lost, and that is found out a second later.
    producer.lost_so_far = lambda: sum(1 for at, _, _ in producer.sent if 2.0 <= at < 4.0 and at <= time.now - 1.0)
    signs: list[float] = []
    witness = Witness(
        connect=lambda: producer,
        shards=2,
        clock=lambda: time.now,
        stopped=time,
        on_round=lambda: signs.append(time.now),
    )
    producer.known = stop_at(witness, time, 7.0, lambda: [0, 1])

    witness.run()

    assert [at for at in signs if 3.0 <= at < 5.0] == []
    assert len([at for at in signs if at < 3.0]) == 6
    assert len([at for at in signs if at >= 5.0]) == 5
