"""One route store, one clock, and whatever subtasks of the route fold a test starts."""

from __future__ import annotations

import orjson
from pyflink.common import Row

from jobs.operators.routes import RouteFold
from schemas.flink_types import DECIDED, ISOLATIONS, LEASES, REGISTRATIONS
from tests.jobs.fakes import Checkpoint, Clock, ProbedStore, Subtask
from tests.model.events import T0, registered
from waypost.model.events import InstanceEvent, LeaseTransition, SetEvent
from waypost.model.fencing import WriterId
from waypost.model.isolation import Isolation
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.settings import Routes
from waypost.wire.glue import encode_entry
from waypost.wire.isolation import encode_isolation
from waypost.wire.registry import encode_registration
from waypost.wire.transitions import encode_transitions

JOB, OTHER_JOB = "a" * 32, "b" * 32
REGISTRY, HEARTBEAT, ISOLATION = "service-registry", "service-heartbeat", "service-isolation"
A, B, C, D = (ServiceKey("default", name) for name in "abcd")


class World:
    """One store, one clock, and whatever subtasks are started."""

    def __init__(self, **settings: int) -> None:
        self.routes = Routes(**settings)
        self.clock = Clock(T0)
        self.store = ProbedStore(self.clock)
        self.store.part_costs_ms = 0.1
        self._offset = 0

    def start(self, state: Checkpoint | None = None, *, job: str = JOB, attempt: int = 0) -> Subtask:
        operator = RouteFold(
            REGISTRY,
            HEARTBEAT,
            ISOLATION,
            self.routes,
            lambda: self.store,
            stopwatch=lambda: self.clock.spent_ms / 1000,
            clock=lambda: self.clock.uptime / 1000,
        )
        return Subtask(operator, WriterId(job, attempt), self.clock, state)

    def stamp(self, ago: int = 0) -> Stamp:
        self._offset += 1
        return Stamp(self.clock.wall - ago, 0, self._offset)

    def register(
        self,
        task: Subtask,
        service: ServiceKey = A,
        instance: str = "p-1",
        *,
        ago: int = 0,
        request_id: str = "",
        node: str = "",
    ) -> InstanceEvent:
        """Log a registration `ago` ms before now and fold it now."""
        event = registered(self.stamp(ago), instance, service=service, request_id=request_id, node=node)
        fold(task, event)
        return event

    def table(self, service: ServiceKey = A) -> set[str]:
        stored = self.store.services.get(service)
        return set() if stored is None else set(stored.route)

    def revision(self, service: ServiceKey = A) -> int:
        return int(self.store.services[service].meta["revision"])

    def answers(self) -> dict[str, str]:
        found = [answer for entry in self.store.changes for answer in orjson.loads(entry["answers"])]
        assert len({answer["request_id"] for answer in found}) == len(found)
        return {answer["request_id"]: answer["reason"] for answer in found}


def fold(task: Subtask, *events: InstanceEvent | SetEvent | LeaseTransition | Isolation) -> None:
    for event in events:
        stamp, service = event.stamp, str(event.service)
        if isinstance(event, Isolation):
            column = encode_entry("any", stamp, encode_isolation(event).decode())
            task.process(Row(service, ISOLATIONS, column.encode()))
        elif isinstance(event, LeaseTransition):
            task.process(Row(service, LEASES, encode_transitions([event])))
        else:
            column = encode_entry("any", stamp, encode_registration(event).decode())
            task.process(Row(service, REGISTRATIONS, column.encode()))


def decided(task: Subtask, service: ServiceKey, until: int) -> None:
    """Say what the gate says when it has caught up."""
    task.process(Row(str(service), DECIDED, str(until).encode()))
