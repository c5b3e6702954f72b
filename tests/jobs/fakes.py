"""A subtask of Flink without Flink: keyed state in dictionaries, timers, and a clock that only tests move.

What a checkpoint would hold is one `Checkpoint`, so a crash is: start a new operator over a copy of it.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pyflink.common import Row
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, StateDescriptor, ValueStateDescriptor

from jobs.operators.outputs import DEAD_LETTERS
from sinks.memory import MemoryRouteStore
from waypost.errors import PublicationRefused, StoreUnavailable
from waypost.model.fencing import Fenced, Opened, Outcome, Sight, StoredMeta, TablePart, WriterId, Written
from waypost.model.health_window import WindowStats
from waypost.model.names import ServiceKey
from waypost.model.route_table import Publication


class Clock:
    """The wall clock in ms, and how long the machine has run: timers follow the latter, as Java's do."""

    def __init__(self, wall: int) -> None:
        self.wall = wall
        self.uptime = 0
        self.spent_ms = 0.0
        """What a stopwatch in the operator would show: only what calls are said to cost."""

    def pass_time(self, ms: int) -> None:
        self.wall += ms
        self.uptime += ms

    def set_back(self, ms: int) -> None:
        """Do what NTP does to a clock that is ahead."""
        self.wall -= ms


@dataclass
class Checkpoint:
    """Keyed state by (state, key), and timers in the order they were set."""

    values: dict[tuple[str, str], bytes] = field(default_factory=dict)
    maps: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    lists: dict[tuple[str, str], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    timers: dict[tuple[int, str], None] = field(default_factory=dict)

    def copy(self) -> Checkpoint:
        return copy.deepcopy(self)


class _Value:
    def __init__(self, name: str, task: Subtask) -> None:
        self._name, self._task = name, task

    def value(self) -> bytes | None:
        return self._task.state.values.get((self._name, self._task.key))

    def update(self, value: bytes) -> None:
        assert type(value) is bytes
        self._task.state.values[self._name, self._task.key] = value

    def clear(self) -> None:
        self._task.state.values.pop((self._name, self._task.key), None)


class _Map:
    def __init__(self, name: str, task: Subtask) -> None:
        self._name, self._task = name, task

    @property
    def _entries(self) -> dict[str, bytes]:
        return self._task.state.maps[self._name, self._task.key]

    def get(self, key: str) -> bytes | None:
        return self._entries.get(key)

    def put(self, key: str, value: bytes) -> None:
        assert type(key) is str
        assert type(value) is bytes
        self._entries[key] = value

    def remove(self, key: str) -> None:
        self._entries.pop(key, None)

    def contains(self, key: str) -> bool:
        return key in self._entries

    def keys(self) -> Iterator[str]:
        return iter(self._entries)

    def values(self) -> Iterator[bytes]:
        return iter(self._entries.values())


class _List:
    def __init__(self, name: str, task: Subtask) -> None:
        self._name, self._task = name, task

    def get(self) -> list[bytes]:
        return list(self._task.state.lists[self._name, self._task.key])

    def add(self, value: bytes) -> None:
        assert type(value) is bytes
        self._task.state.lists[self._name, self._task.key].append(value)

    def update(self, values: list[bytes]) -> None:
        assert all(type(value) is bytes for value in values)
        self._task.state.lists[self._name, self._task.key] = list(values)

    def clear(self) -> None:
        self._task.state.lists.pop((self._name, self._task.key), None)


class FakeMetrics:
    """A metric group; what is counted ends up in one mapping, by the path of groups and the name."""

    def __init__(self, values: Counter[str], path: str = "") -> None:
        self._values, self._path = values, path

    def add_group(self, name: str, extra: str | None = None) -> FakeMetrics:
        return FakeMetrics(self._values, f"{self._path}{name}." if extra is None else f"{self._path}{name}={extra}.")

    def counter(self, name: str) -> SimpleNamespace:
        path = self._path + name
        self._values[path] += 0
        return SimpleNamespace(inc=lambda n=1: self._values.update({path: n}))

    def distribution(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(update=lambda value: self._values.__setitem__(self._path + name, value))


class FakeRuntimeContext:
    """As much of PyFlink's context as operators use, with the Java one inside."""

    def __init__(self, task: Subtask, writer: WriterId) -> None:
        self._task = task
        self._runtime_context = SimpleNamespace(
            getJobInfo=lambda: SimpleNamespace(getJobId=lambda: writer.job_id),
            getTaskInfo=lambda: SimpleNamespace(getAttemptNumber=lambda: writer.attempt),
        )

    def get_metrics_group(self) -> FakeMetrics:
        return FakeMetrics(self._task.metrics)

    def get_keyed_state_backend(self) -> SimpleNamespace:
        java = SimpleNamespace(getCurrentKey=lambda: self._task.key, setCurrentKey=self._task.turn_to)
        return SimpleNamespace(_keyed_state_backend=java)

    def get_state(self, descriptor: ValueStateDescriptor) -> _Value:
        return _Value(_name(descriptor), self._task)

    def get_map_state(self, descriptor: MapStateDescriptor) -> _Map:
        return _Map(_name(descriptor), self._task)

    def get_list_state(self, descriptor: ListStateDescriptor) -> _List:
        return _List(_name(descriptor), self._task)


def _name(descriptor: StateDescriptor) -> str:
    return str(descriptor.get_name())


class Subtask:
    """One operator instance. It is context and timer service in one.

    Like Flink it schedules the earliest timer only, by the time that is left until it, and one timer per
    (timestamp, key). It adds no millisecond to the delay.
    """

    def __init__(self, operator: Any, writer: WriterId, clock: Clock, state: Checkpoint | None = None) -> None:
        self.clock = clock
        self.state = Checkpoint() if state is None else state
        self.key = ""
        self.records: list[tuple[bytes, bytes]] = []
        self.rows: list[Row] = []
        """What `records` are, with all their fields."""
        self.dead_letters: list[tuple[bytes, bytes]] = []
        self.timers_set = 0
        self.metrics: Counter[str] = Counter()
        self._operator = operator
        self._head: tuple[int, int] | None = None
        operator.open(FakeRuntimeContext(self, writer))
        self._schedule()

    # -- what Flink calls ------------------------------------------------------------------------------

    def process(self, row: Row, side: int = 0) -> None:
        """Hand over a row at one of the inputs; without `side`, to the first one when it has two fields."""
        self.key = row[0]
        is_first = side == 1 or (not side and len(row) == 2)
        process = self._operator.process_element1 if is_first else self._operator.process_element2
        self._collect(process(row, self))

    def run_for(self, ms: int) -> None:
        """Let time pass, firing timers on the way."""
        run_for(ms, self)

    @property
    def next_due(self) -> int | None:
        return None if self._head is None else self._head[1]

    def fire(self) -> None:
        """Fire the scheduled timer and all that are not later."""
        assert self._head is not None
        limit, self._head = self._head[0], None
        fired = 0
        while due := sorted((t for t in self.state.timers if t[0] <= limit), key=lambda t: t[0]):
            fired += 1
            assert fired < 10_000, "the operator keeps setting timers that are due"
            timestamp, self.key = due[0]
            del self.state.timers[due[0]]
            self._collect(self._operator.on_timer(timestamp, self))
        self._schedule()

    def _schedule(self) -> None:
        first = min((timestamp for timestamp, _ in self.state.timers), default=None)
        if first is None:
            self._head = None
        elif self._head is None or first < self._head[0]:
            self._head = first, self.clock.uptime + max(0, first - self.clock.wall)

    def _collect(self, results: Iterator[Any] | None) -> None:
        for result in results or ():
            tag, row = result if isinstance(result, tuple) else (None, result)
            assert isinstance(row, Row)
            assert tag is None or tag is DEAD_LETTERS
            (self.records if tag is None else self.dead_letters).append((row[0], row[1]))
            if tag is None:
                self.rows.append(row)

    # -- what the operator calls -----------------------------------------------------------------------

    def turn_to(self, key: str) -> None:
        self.key = key

    def timer_service(self) -> Subtask:
        return self

    def get_current_key(self) -> str:
        return self.key

    def current_processing_time(self) -> int:
        return self.clock.wall

    def register_processing_time_timer(self, timestamp: int) -> None:
        if (timestamp, self.key) not in self.state.timers:
            self.timers_set += 1
            self.state.timers[timestamp, self.key] = None
            self._schedule()

    def delete_processing_time_timer(self, timestamp: int) -> None:
        self.state.timers.pop((timestamp, self.key), None)
        self._head = None
        self._schedule()


def run_for(ms: int, *tasks: Subtask) -> None:
    """Let time pass for several subtasks that share a clock."""
    [clock] = {id(task.clock): task.clock for task in tasks}.values()
    end = clock.uptime + ms
    while True:
        due = [(task.next_due, index) for index, task in enumerate(tasks) if task.next_due is not None]
        at, index = min(due, default=(end + 1, 0))
        if at > end:
            break
        clock.pass_time(max(0, at - clock.uptime))
        tasks[index].fire()
    clock.pass_time(end - clock.uptime)


@dataclass(frozen=True)
class Publishing:
    """One publication that the store took, and when."""

    at: int
    epoch: int
    what: Publication


class ProbedStore(MemoryRouteStore):
    """A memory store that counts, refuses, and loses answers on demand."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.written: list[Publishing] = []
        self.refused: set[ServiceKey] = set()
        self.refusals: list[int] = []
        self.loses_next_answer = False
        self.part_costs_ms = 0.0
        self._clock = clock

    def open(self, writer: WriterId, now_ms: int, above: int = 0) -> Opened | Fenced:
        self.calls["open"] += 1
        return super().open(writer, now_ms, above)

    def look(self, epoch: int = 0) -> Sight:
        self.calls["look"] += 1
        return super().look(epoch)

    def meta(self, service: ServiceKey) -> StoredMeta | None:
        self.calls["meta"] += 1
        return super().meta(service)

    def part(self, service: ServiceKey, cursor: str, count: int) -> TablePart:
        self.calls["part"] += 1
        self._clock.spent_ms += self.part_costs_ms
        return super().part(service, cursor, count)

    def publish(self, publication: Publication, epoch: int, now_ms: int) -> Outcome:
        self.calls["publish"] += 1
        if publication.service in self.refused:
            self.refusals.append(self._clock.wall)
            raise PublicationRefused("this service was told to be refused")
        outcome = super().publish(publication, epoch, now_ms)
        if isinstance(outcome, Written):
            self.written.append(Publishing(self._clock.wall, epoch, publication))
        if self.loses_next_answer:
            self.loses_next_answer = False
            raise StoreUnavailable("the answer got lost")
        return outcome

    def refresh(self, service: ServiceKey, stats: WindowStats, epoch: int) -> Outcome:
        self.calls["refresh"] += 1
        return super().refresh(service, stats, epoch)

    def written_of(self, service: ServiceKey) -> list[Publishing]:
        return [p for p in self.written if p.what.service == service]

    def backup(self) -> Callable[[], None]:
        """Return what brings the store back to how it is now, as loading yesterday's dump does."""
        names = ("services", "changes", "_owner", "_epoch", "_generation")
        kept = {name: copy.deepcopy(getattr(self, name)) for name in names}

        def restore() -> None:
            for name, value in kept.items():
                setattr(self, name, copy.deepcopy(value))

        return restore
