"""Tables that somebody damaged by hand: that they are noticed and written again, and what looking for them costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sinks.memory import StoredService
from tests.jobs.test_route_fold import decoded, restarted
from tests.jobs.world import B, World
from tests.model.events import SECOND
from waypost.errors import PublicationRefused
from waypost.model.fencing import TablePart
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp
from waypost.wire.route_changes import Chunk

A = ServiceKey("default", "a")
INTACT = {f"p-{n}" for n in range(5)}


@pytest.fixture
def task(world: World):  # type: ignore[no-untyped-def]
    task = world.start()
    for instance in sorted(INTACT):
        world.register(task, instance=instance)
    world.register(task, B)
    task.run_for(10 * SECOND)
    world.store.written.clear()
    return task


def clear_all(stored: StoredService) -> None:
    stored.route.clear()
    stored.meta.clear()
    stored.instances.clear()


def to_meta(**fields: str) -> Callable[[StoredService], None]:
    return lambda stored: stored.meta.update(fields)


DAMAGE: dict[str, Callable[[StoredService], object]] = {
    "entry changed": lambda stored: stored.route.update({"p-1": stored.route["p-1"].replace("8080", "8081")}),
    "entry deleted": lambda stored: stored.route.pop("p-1"),
    "entry added": lambda stored: stored.route.update({"p-9": stored.route["p-1"]}),
    "entry renamed": lambda stored: stored.route.update({"p-9": stored.route.pop("p-1")}),
    "two entries changed alike": lambda stored: stored.route.update(
        {"p-1": stored.route["p-1"].replace("8080", "1"), "p-2": stored.route["p-2"].replace("8080", "1")}
    ),
    "route deleted": lambda stored: stored.route.clear(),
    "meta deleted": lambda stored: stored.meta.clear(),
    "instances deleted": lambda stored: stored.instances.clear(),
    "all keys of the service deleted": clear_all,
    "taken off the list": lambda stored: setattr(stored, "listed", False),
    "revision raised": lambda stored: stored.meta.update(revision=str(int(stored.meta["revision"]) + 1_000_000)),
    "revision lowered": to_meta(revision="1"),
    "epoch raised": lambda stored: stored.meta.update(epoch=str(int(stored.meta["epoch"]) + 86_400_000)),
    "epoch lowered": to_meta(epoch="1"),
    "digest edited": to_meta(digest="0" * 16),
    "position edited": to_meta(position="9999999999999:0:0:0"),
    "endpoints edited": to_meta(endpoints="4"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_healed_by_one_snapshot_within_audit_ms(world: World, task, what: str) -> None:  # type: ignore[no-untyped-def]
    stored = world.store.services[A]
    before = stored.route.copy(), stored.instances.copy(), world.revision()
    DAMAGE[what](stored)

    task.run_for(world.routes.audit_ms + SECOND)

    stored = world.store.services[A]
    assert (stored.route, stored.instances) == before[:2]
    assert stored.listed
    assert int(stored.meta["revision"]) > before[2]
    assert stored.meta["endpoints"] == "5"
    [healed] = [p.what for p in world.store.written if p.what.service == A]
    assert (healed.op, healed.rule) == (ChangeOp.SNAPSHOT, "resync")
    assert [(c.topic, c.offset) for c in healed.causes] == [("service-registry", 5)]
    task.run_for(5 * world.routes.audit_ms)
    assert [p.what for p in world.store.written if p.what.service == A] == [healed], "healed is healed"


def test_audit_log_tells_of_a_heal(world: World, task) -> None:  # type: ignore[no-untyped-def]
    world.store.services[A].route.pop("p-1")

    task.run_for(world.routes.audit_ms + SECOND)

    last = decoded(task)[-1]
    assert isinstance(last, Chunk)
    assert (last.record.rule, last.record.op) == ("resync", ChangeOp.SNAPSHOT)


def test_nothing_is_healed_while_nothing_is_damaged(world: World, task) -> None:  # type: ignore[no-untyped-def]
    for number in range(60):
        world.register(task, instance=f"q-{number}")
        task.run_for(311)

    assert {p.what.op for p in world.store.written} == {ChangeOp.DELTA}
    assert world.store.calls["part"] > 10


def test_damage_is_noticed_after_a_restart_too(world: World, task) -> None:  # type: ignore[no-untyped-def]
    again = restarted(world, task)
    again.run_for(2 * world.routes.audit_ms)
    world.store.services[A].route.pop("p-1")

    again.run_for(world.routes.audit_ms + SECOND)

    assert world.table() == INTACT


def test_write_whose_answer_got_lost_is_not_taken_for_damage(world: World, task) -> None:  # type: ignore[no-untyped-def]
    world.store.loses_next_answer = True
    world.register(task, instance="late")
    task.run_for(SECOND)
    first = [p.what.op for p in world.store.written]

    task.run_for(3 * world.routes.audit_ms)

    assert first == [ChangeOp.DELTA, ChangeOp.SNAPSHOT], "found out by the next write"
    assert [p.what.op for p in world.store.written] == first


def test_table_under_steady_change_is_compared_too() -> None:
    world = World()
    world.store.part_costs_ms = 0.1
    task = world.start()
    for number in range(1_200):  # two parts
        world.register(task, instance=f"p-{number:04}")
    world.store.part_costs_ms = 9.0  # 180 ms apart
    task.run_for(10 * SECOND)
    hidden = world.store.services[A].route["p-0100"]
    world.store.services[A].route["p-0100"] = hidden.replace("8080", "1")
    world.store.written.clear()

    for number in range(200):
        world.register(task, instance=f"p-{200 + number:04}")
        task.run_for(60)

    assert world.store.services[A].route["p-0100"] == hidden
    assert [p.what.op for p in world.store.written].count(ChangeOp.SNAPSHOT) == 1


def test_comparing_takes_its_share_of_the_time_and_no_more() -> None:
    world = World(audit_ms=SECOND, audit_percent=5)
    world.store.part_costs_ms = 5.0
    task = world.start()
    for number in range(40):  # 200 ms of work, wanted every second
        world.register(task, ServiceKey("default", f"s{number}"))
    task.run_for(10 * SECOND)
    world.clock.spent_ms = 0.0
    world.store.calls.clear()

    task.run_for(60 * SECOND)

    assert 0.045 <= world.clock.spent_ms / 60_000 <= 0.055
    assert world.store.calls["part"] >= 540


def test_every_table_has_its_turn_when_the_budget_is_short() -> None:
    world = World(audit_ms=SECOND, audit_percent=5)
    task = world.start()
    services = [ServiceKey("default", f"s{number}") for number in range(100)]
    for service in services:
        world.register(task, service)
    task.run_for(2 * SECOND)
    world.store.part_costs_ms = 2.0  # a round of all takes 4 s
    task.run_for(5 * SECOND)
    for service in services:
        world.store.services[service].route.clear()

    task.run_for(6 * SECOND)

    assert [service for service in services if world.table(service) != {"p-1"}] == []


def test_dear_parts_become_smaller(world: World, task) -> None:  # type: ignore[no-untyped-def]
    for number in range(1_500):
        world.register(task, instance=f"q-{number}")
    task.run_for(10 * SECOND)
    world.store.part_costs_ms = 40.0
    counts: list[int] = []
    read = world.store.part

    def noted(service: ServiceKey, cursor: str, count: int) -> TablePart:
        if service == A:
            counts.append(count)
        return read(service, cursor, count)

    world.store.part = noted  # type: ignore[method-assign]
    task.run_for(20 * SECOND)

    assert counts[0] == 1_000
    assert min(counts) <= 125
    world.store.part_costs_ms = 0.1
    task.run_for(60 * SECOND)
    assert counts[-1] == 1_000


def test_table_that_cannot_be_read_is_written_again_with_pauses(world: World, task) -> None:  # type: ignore[no-untyped-def]
    def refused(service: ServiceKey, *_: object) -> TablePart:
        raise PublicationRefused("WRONGTYPE")

    world.store.part = refused  # type: ignore[method-assign,assignment]
    world.store.refused = {A}
    task.run_for(60 * SECOND)

    assert 2 < len(world.store.refusals) < 20


def test_silent_job_audits_nothing(world: World, task) -> None:  # type: ignore[no-untyped-def]
    other = world.start(job="b" * 32)
    world.register(other, instance="of-the-other")
    other.run_for(SECOND)
    task.run_for(3 * world.routes.audit_ms)
    world.store.calls.clear()

    task.run_for(2 * world.routes.audit_ms)

    assert world.store.calls.keys() == {"look"}
