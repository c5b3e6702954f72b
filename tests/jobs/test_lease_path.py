"""Lease fold and gate as Flink drives them: what they keep is enough to go on after a crash between any two records.

What they decide is tested with `waypost.model.leases` and `waypost.model.gate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyflink.common import Row

from jobs.operators.gate import LapseGate
from jobs.operators.leases import LeaseFold
from tests.jobs.fakes import Checkpoint, Clock, Subtask
from tests.jobs.world import JOB, REGISTRY
from tests.model.events import T0, at, deregistered, registered
from waypost.model.brake import BrakeRules
from waypost.model.damping import DampingRules
from waypost.model.events import InstanceEvent, LeaseTransition
from waypost.model.fencing import WriterId
from waypost.model.health_window import WindowPlan
from waypost.model.shards import shard_of
from waypost.settings import Leases
from waypost.wire.glue import ENTRY, encode_entry
from waypost.wire.registry import encode_registration
from waypost.wire.transitions import decode_transitions

SHARDS = 2
INSTANCES = [f"p-{n}" for n in range(8)]
LEASE_S = 5
SECONDS = 40


class Task(Subtask):
    """An operator whose records have a key of their own, and leave as they are."""

    def __init__(self, operator: Any, state: Checkpoint) -> None:
        self.left: list[Any] = []
        super().__init__(operator, WriterId(JOB, 0), Clock(T0), state)

    def take(self, key: str, value: Any) -> list[Any]:
        self.key = key
        process = getattr(self._operator, "process_element1", None) or self._operator.process_element
        return list(process(value, self) or ())


class LeasePath:
    """Lease fold and gate, one after the other, and a crash whenever one is asked for."""

    def __init__(self) -> None:
        self._leases, self._gate = Checkpoint(), Checkpoint()
        self.crash()

    def crash(self) -> None:
        """Begin anew from what was kept."""
        windows = WindowPlan(size_ms=10_000, buckets=2, tick_ms=1000)
        self._leases, self._gate = self._leases.copy(), self._gate.copy()
        self._lease_task = Task(LeaseFold(REGISTRY, SHARDS, windows), self._leases)
        gate = LapseGate(Leases(shards=SHARDS), BrakeRules(hold_ms=15_000), DampingRules())
        self._gate_task = Task(gate, self._gate)

    def take(self, row: Row) -> list[LeaseTransition]:
        """Fold one row of a shard, and return what the route fold is told because of it."""
        told = []
        for left in self._lease_task.take(str(row[0]), row):
            if isinstance(left, bytes):
                for batch in self._gate_task.take("", left):
                    told += decode_transitions(batch[2])
        return told


def entries(shard: int, *found: tuple[str, Any, str]) -> str | None:
    return ENTRY.join(encode_entry(i, stamp, text) for i, stamp, text in found if shard_of(i, SHARDS) == shard) or None


def told_by_log(event: InstanceEvent) -> Row:
    text = encode_registration(event).decode()
    return Row(shard_of(event.instance, SHARDS), 0, encode_entry("k", event.stamp, text))


def is_silent(instance: str, second: int) -> bool:
    """p-0 dies for good at 6. At 14 most fall silent together: three come back at 24, p-4 and p-5 never do."""
    number = INSTANCES.index(instance)
    return (number == 0 and second > 6) or (1 <= number <= 5 and 14 < second <= (24 if number <= 3 else SECONDS))


def log() -> Iterator[Row]:
    """The rows of both shards: registrations, ticks with beats, a deregistration, a silence and its end."""
    for number, instance in enumerate(INSTANCES):
        yield told_by_log(registered(at(0, number), instance, lease_seconds=LEASE_S))
    for second in range(1, SECONDS + 1):
        if second == 20:
            yield told_by_log(deregistered(at(19.5), "p-7"))
        if second == 22:
            yield told_by_log(registered(at(21.5), "p-8", lease_seconds=LEASE_S))
        beats = [(i, at(second - 0.5, n), "{}") for n, i in enumerate(INSTANCES) if not is_silent(i, second)]
        beats += [("p-9", at(second - 0.5), "{}")] if second == 3 else []  # nobody's
        for shard in range(SHARDS):
            yield Row(shard, T0 + second * 1000, entries(shard, *beats))


def test_the_log_of_these_tests_has_everything_in_it() -> None:
    path = LeasePath()
    told: dict[tuple[int, str], set[str]] = {}
    for row in log():
        for transition in path.take(row):
            told.setdefault(((row[1] - T0) // 1000, transition.fact.value), set()).add(transition.instance)

    assert told == {
        (11, "lapsed"): {"p-0"},
        (19, "held"): {"p-0", "p-1", "p-2", "p-3", "p-4", "p-5"},  # the first one is taken back
        (25, "renewed"): {"p-1", "p-2", "p-3"},
        (25, "lapsed"): {"p-0", "p-4", "p-5"},
        (26, "lapsed"): {"p-0"},  # told once more when its hold would be over
        (27, "lapsed"): {"p-8"},  # registered in the meantime, and never beat
        (34, "lapsed"): {"p-4", "p-5"},
    }


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_a_crash_between_any_two_records_changes_nothing(every: int) -> None:
    plain, crashing = LeasePath(), LeasePath()

    for number, row in enumerate(log()):
        if number % every == 0:
            crashing.crash()
        assert crashing.take(row) == plain.take(row), f"row {number}: {row}"


@pytest.mark.parametrize("moment", range(8, 8 + 2 * SECONDS, 5))
def test_one_crash_at_any_moment_changes_nothing(moment: int) -> None:
    plain, crashing = LeasePath(), LeasePath()

    for number, row in enumerate(log()):
        if number == moment:
            crashing.crash()
        assert crashing.take(row) == plain.take(row), f"row {number}: {row}"
