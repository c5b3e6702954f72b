"""What the job counts: when it counts, and that it counts nothing per heartbeat."""

from __future__ import annotations

from tests.jobs.fakes import Subtask
from tests.jobs.world import B, World, fold
from tests.model.events import SECOND, a_set
from waypost.model.names import ServiceKey

A = ServiceKey("default", "a")


def counted(task: Subtask, name: str) -> int:
    return task.metrics[f"waypost.{name}"]


def test_everything_exists_before_it_happens(world: World) -> None:
    metrics = world.start().metrics

    assert metrics["waypost.damage=entries-differ.audit_heals_total"] == 0
    assert {name for name in metrics if "le=" in name} >= {
        "waypost.le=5.change_latency_ms_bucket",
        "waypost.le=+Inf.change_latency_ms_bucket",
    }
    assert not any(metrics.values())


def test_change_counts_its_latency_from_the_oldest_record_until_it_is_written(world: World) -> None:
    task = world.start()
    world.register(task, ago=7)
    world.register(task, instance="p-2", ago=3)
    task.run_for(SECOND)

    assert counted(task, "change_latency_ms_count") == 2
    assert counted(task, "change_latency_ms_sum") == 7 + 3 + world.routes.coalesce_ms
    assert counted(task, "le=5.change_latency_ms_bucket") == 0
    assert counted(task, "le=10.change_latency_ms_bucket") == 1
    assert counted(task, "le=100.change_latency_ms_bucket") == 2
    assert counted(task, "le=+Inf.change_latency_ms_bucket") == 2


def test_rebuild_from_an_old_log_is_no_latency(world: World) -> None:
    task = world.start()

    world.register(task, ago=3_600 * SECOND)
    task.run_for(2 * SECOND)

    assert counted(task, "op=delta.publications_total") == 1
    assert counted(task, "change_latency_ms_count") == 0


def test_outage_shows_as_refused_writes_and_waiting_services(world: World) -> None:
    task = world.start()
    world.register(task)
    world.store.available = False
    world.register(task, instance="p-2")
    world.register(task, B)
    task.run_for(SECOND)

    assert counted(task, "dirty_services") == 2
    assert counted(task, "why=unavailable.refused_writes_total") >= 1

    world.store.available = True
    task.run_for(SECOND)

    assert counted(task, "dirty_services") == 0
    assert counted(task, "changed_endpoints_total") == 3
    assert counted(task, "services") == 2


def test_heal_is_counted_by_what_was_found(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(10 * SECOND)
    world.store.services[A].route.clear()

    task.run_for(world.routes.audit_ms + SECOND)

    assert counted(task, "damage=entries-missing.audit_heals_total") == 1
    assert counted(task, "audit_parts_total") >= 2


def test_job_that_lost_the_tables_says_so(world: World) -> None:
    task = world.start()
    world.register(task)
    other = world.start(job="b" * 32)
    world.register(other)

    world.register(task, instance="p-2")
    task.run_for(SECOND)

    assert counted(task, "passive") == 1
    assert counted(task, "why=fenced.refused_writes_total") == 1


def test_dead_letters_are_counted_by_reason(world: World) -> None:
    task = world.start()
    newer = a_set(world.stamp(), last_updated=200)
    fold(task, newer, a_set(world.stamp(), last_updated=100))

    assert counted(task, "reason=stale-last-updated.dead_letters_total") == 1
