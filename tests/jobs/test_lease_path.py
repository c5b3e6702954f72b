"""Lease fold and gate as Flink drives them: what they keep is enough to go on after a crash between any two records.

What they decide is tested with `waypost.model.leases` and `waypost.model.gate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyflink.common import Row

from jobs.operators.gate import LapseGate
from jobs.operators.leases import _PER_TICK, _TURNS, LeaseFold
from schemas.flink_types import DECIDED, LEASES
from tests.jobs.fakes import Checkpoint, Clock, Subtask
from tests.jobs.world import JOB, REGISTRY
from tests.model.events import SERVICE, T0, at, deregistered, registered
from waypost.model.brake import BrakeRules
from waypost.model.damping import DampingRules
from waypost.model.events import InstanceEvent, LeaseTransition
from waypost.model.fencing import WriterId
from waypost.model.health_window import WindowPlan
from waypost.model.shards import shard_of
from waypost.settings import Leases
from waypost.wire import fold_state
from waypost.wire.glue import ENTRY, encode_entry
from waypost.wire.registry import encode_registration
from waypost.wire.transitions import decode_transitions

SHARDS = 2
INSTANCES = [f"p-{n}" for n in range(8)]
LEASE_S = 5
SECONDS = 40


class Task(Subtask):
    """An operator whose records have a key of their own, and leave as they are."""

    def __init__(self, operator: Any, state: Checkpoint, now: int = T0) -> None:
        self.left: list[Any] = []
        super().__init__(operator, WriterId(JOB, 0), Clock(now), state)

    def take(self, key: str, value: Any) -> list[Any]:
        self.key = key
        process = getattr(self._operator, "process_element1", None) or self._operator.process_element
        return list(process(value, self) or ())


class LeasePath:
    """Lease fold and gate, one after the other, and a crash whenever one is asked for."""

    def __init__(self) -> None:
        self._leases, self._gate = Checkpoint(), Checkpoint()
        self.decided: list[tuple[str, int]] = []
        """Of which service the route fold was told that all is decided, and until when: seconds."""
        self.crash()

    def crash(self, second: float = 0) -> None:
        """Begin anew from what was kept; it is `second` by the clock of the machine."""
        windows = WindowPlan(size_ms=10_000, buckets=2, tick_ms=1000)
        self._leases, self._gate = self._leases.copy(), self._gate.copy()
        self._lease_task = Task(LeaseFold(REGISTRY, SHARDS, windows), self._leases)
        gate = LapseGate(Leases(shards=SHARDS), BrakeRules(hold_ms=15_000), DampingRules(), catch_up_ms=180_000)
        self._gate_task = Task(gate, self._gate, T0 + round(second * 1000))

    def take(self, row: Row) -> list[LeaseTransition]:
        """Fold one row of a shard, and return what the route fold is told because of it."""
        told = []
        for left in self._lease_task.take(str(row[0]), row):
            if isinstance(left, bytes):
                for service, kind, body in self._gate_task.take("", left):
                    if kind == LEASES:
                        told += decode_transitions(body)
                    else:
                        assert kind == DECIDED
                        self.decided.append((service, (int(body) - T0) // 1000))
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


def decided_after(crash: int, *, at_second: float) -> list[int]:
    """Return the ticks of which the route fold is told that all until then is decided."""
    path = LeasePath()
    for row in log():
        if row[1] == T0 + crash * 1000:
            path.crash(at_second)
            path.decided.clear()
            crash = -1
        path.take(row)
    assert {service for service, _ in path.decided} <= {str(SERVICE)}
    return [second for _, second in path.decided]


def test_a_restored_gate_says_that_all_is_decided_until_its_restart_and_again_each_half_minute() -> None:
    assert decided_after(3, at_second=3) == [3, 33]
    assert decided_after(3, at_second=8.5) == [9, 39]
    assert decided_after(3, at_second=SECONDS) == [SECONDS]
    assert decided_after(3, at_second=SECONDS + 0.1) == []


def test_who_is_held_is_decided() -> None:
    assert decided_after(21, at_second=21) == [21]


def test_a_gate_without_state_says_nothing_of_the_lapses_of_all_times() -> None:
    path = LeasePath()
    for row in log():
        path.take(row)

    assert path.decided == []


@pytest.mark.parametrize("crash", [0, 3, 9])
def test_a_storm_of_registrations_is_folded_by_a_few_shards_in_each_tick(crash: int) -> None:
    """Each is saved as often as it folds some; nobody is forgotten, whenever it crashes, and an ordinary registration
    does not wait."""
    shards, tick_ms, state = 16, 1000, Checkpoint()
    fold = LeaseFold(REGISTRY, shards, WindowPlan(size_ms=60_000, buckets=2, tick_ms=tick_ms))
    task = Task(fold, state)
    each = 3 * _PER_TICK // shards
    for shard in range(1, shards):
        told = [encode_registration(registered(0, f"p-{shard}-{n}")).decode() for n in range(each)]
        column = ENTRY.join(encode_entry("any", at(0, offset=n), text) for n, text in enumerate(told))
        list(task.take(str(shard), Row(shard, 0, column)))
    one = encode_entry("any", at(0), encode_registration(registered(0, "p-0")).decode())
    list(task.take("0", Row(0, 0, one)))

    saved = dict.fromkeys(range(shards), 0)
    for number in range(1, 3 * _TURNS):
        if number == crash:
            state = state.copy()
            task = Task(LeaseFold(REGISTRY, shards, WindowPlan(size_ms=60_000, buckets=2, tick_ms=tick_ms)), state)
        for shard in range(shards):
            before = state.values.get(("directory", str(shard)))
            list(task.take(str(shard), Row(shard, T0 + number * tick_ms, None)))
            saved[shard] += state.values.get(("directory", str(shard))) != before
        assert _known(state, 0, shards) == 1
    assert all(_known(state, shard, shards) == each for shard in range(1, shards))
    assert max(saved.values()) <= 2
    assert not any(state.lists.values())


def _known(state: Checkpoint, shard: int, shards: int) -> int:
    """Return how many leases the state of a shard has."""
    directory, beats, unknown = (state.values.get((n, str(shard))) for n in ("directory", "last-beats", "unknown"))
    return len(fold_state.decode_shard(directory, beats, unknown, shards).leases)
