"""The route fold at the end of a window: what is written, how often, and what never is."""

from __future__ import annotations

import orjson
import pytest
from pyflink.common import Row

from jobs.operators import leased_table
from schemas.flink_types import WINDOW
from tests.jobs.fakes import Subtask
from tests.jobs.test_route_fold import A, B, World, fold, restarted
from tests.model.events import SECOND, T0, a_fact, a_set, deregistered, registered, updated
from waypost.model.events import LeaseFact
from waypost.model.health_window import ServiceWindow, Tally
from waypost.model.names import ServiceKey
from waypost.wire.health_window import encode_window

BY_LOAD = {"waypost.io/weight": "load"}


@pytest.fixture
def world() -> World:
    return World()


def end_window(task: Subtask, service: ServiceKey = A, **tallies: Tally) -> ServiceWindow:
    """Let a minute pass and tell the fold what was said in it; instance names have `_` for `-`."""
    task.run_for(60 * SECOND)
    end = task.clock.wall
    named = {name.replace("_", "-"): tally for name, tally in tallies.items()}
    window = ServiceWindow(end - 60 * SECOND, end, named)
    task.process(Row(str(service), WINDOW, encode_window(window)))
    return window


def busy(cpu_milli: int) -> Tally:
    return Tally(beats=2, cpu_beats=2, cpu_sum=2 * cpu_milli, cpu_max=cpu_milli)


def meta(world: World, service: ServiceKey = A) -> dict[str, str]:
    return world.store.services[service].meta


def weights(world: World, service: ServiceKey = A) -> dict[str, int]:
    return {i: orjson.loads(text)["weight"] for i, text in world.store.services[service].route.items()}


# -- what readers are told --------------------------------------------------------------------------------


def test_a_quiet_window_costs_one_refresh_and_no_change(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    world.store.calls.clear()
    entries, records, revision = len(world.store.changes), len(task.records), world.revision()

    window = end_window(task, p_1=Tally(beats=2))

    # What the audit reads is its own affair.
    assert {name: n for name, n in world.store.calls.items() if name not in ("look", "part")} == {"refresh": 1}
    assert (len(world.store.changes), len(task.records), world.revision()) == (entries, records, revision)
    assert (meta(world)["window_start"], meta(world)["window_end"]) == (str(window.start), str(window.end))
    assert (meta(world)["window_beats"], meta(world)["window_instances"], meta(world)["drift"]) == ("2", "1", "0")


def test_no_window_ever_removes_anybody(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")
    world.register(task, instance="p-2")
    task.run_for(SECOND)

    for _ in range(5):
        end_window(task, p_1=Tally(), p_2=Tally(beats=1, failing=1))

    assert world.table() == {"p-1", "p-2"}
    assert meta(world)["window_healthy"] == "0"


def test_a_window_while_the_store_is_away_is_not_caught_up_but_followed_by_the_next(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)

    world.store.available = False
    end_window(task, p_1=Tally(beats=1))
    world.store.available = True
    task.run_for(10 * SECOND)
    assert "window_end" not in meta(world)

    last = end_window(task, p_1=Tally(beats=3))
    assert (meta(world)["window_end"], meta(world)["window_beats"]) == (str(last.end), "3")


def test_windows_of_a_wiped_store_make_no_table(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    world.store.wipe()

    task.process(Row(str(A), WINDOW, encode_window(ServiceWindow(T0 - 60_000, T0, {"p-1": Tally(1)}))))

    assert A not in world.store.services or "window_end" not in meta(world)
    task.run_for(world.routes.audit_ms + SECOND)
    assert world.table() == {"p-1"}


# -- drift ------------------------------------------------------------------------------------------------


def test_drift_counts_who_is_in_the_table_and_did_not_beat(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")
    world.register(task, instance="p-2")

    end_window(task, p_1=Tally(beats=1))
    end_window(task, p_1=Tally(beats=1))

    assert meta(world)["drift"] == "1"


def test_who_registered_within_the_window_need_not_have_beaten(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")
    task.run_for(SECOND)
    world.register(task, instance="p-2")

    end_window(task, p_1=Tally(beats=1))

    assert meta(world)["drift"] == "0"


def test_drift_counts_who_beats_and_nobody_knows(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")

    end_window(task, p_1=Tally(beats=1), p_9=Tally(beats=1))

    assert meta(world)["drift"] == "1"


def test_who_beats_while_drained_or_lapsed_is_no_drift(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")
    lapsed = world.register(task, instance="p-2")
    fold(task, a_fact(LeaseFact.LAPSED, 1, lapsed.stamp, "p-2", service=A))
    fold(task, deregistered(world.stamp(), "p-1", service=A))
    world.register(task, instance="p-1")
    task.run_for(SECOND)

    end_window(task, p_1=Tally(beats=1), p_2=Tally(beats=1))

    assert world.table() == {"p-1"}
    assert meta(world)["drift"] == "0"


def test_endpoints_of_a_set_are_not_expected_to_beat(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")
    declared = a_set(0, "10.0.0.1:80")
    fold(task, type(declared)(**{**{f: getattr(declared, f) for f in declared.__slots__}, "service": A}))
    task.run_for(SECOND)
    assert world.table() == {"p-1", "10.0.0.1:80"}

    end_window(task, p_1=Tally(beats=1))
    end_window(task, p_1=Tally(beats=1))

    assert meta(world)["drift"] == "0"


def test_after_a_restart_tables_are_read_a_few_entries_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leased_table, "_AT_ONCE", 10)
    task = world.start()
    for number in range(25):
        world.register(task, instance=f"p-{number}")
    task.run_for(SECOND)

    again = restarted(world, task)
    again.process(Row(str(A), WINDOW, encode_window(ServiceWindow(T0, T0 + 1, {"p-1": Tally(1)}))))
    world.register(again, instance="p-new")
    again.run_for(60 * SECOND)
    end_window(again, **{f"p_{n}": Tally(beats=1) for n in range(25)}, p_new=Tally(beats=1))

    assert meta(world)["drift"] == "0"
    assert meta(world)["window_instances"] == "26"


# -- weights ----------------------------------------------------------------------------------------------


def followers(world: World, task: Subtask, service: ServiceKey = A, **weights: int) -> None:
    for instance, weight in weights.items():
        name = instance.replace("_", "-")
        fold(task, registered(world.stamp(), name, service=service, weight=weight, metadata=BY_LOAD))
    task.run_for(SECOND)


def test_an_instance_that_asked_for_it_is_weighed_by_its_load(world: World) -> None:
    task = world.start()
    followers(world, task, p_1=100, p_2=100, p_3=100)
    entries = len(world.store.changes)

    windows = 12
    for _ in range(windows):
        end_window(task, p_1=busy(900), p_2=busy(300), p_3=busy(300))

    found = weights(world)
    assert 10 <= found["p-1"] < 60
    assert (found["p-2"], found["p-3"]) == (100, 100)
    assert meta(world)["rule"] == "load"
    assert len(world.store.changes) - entries <= windows
    known = orjson.loads(world.store.services[A].instances["p-1"])
    assert known["weight"] == 100


def test_who_did_not_ask_keeps_the_declared_weight_whatever_the_load(world: World) -> None:
    task = world.start()
    world.register(task, instance="p-1")
    world.register(task, instance="p-2")
    followers(world, task, B, p_1=100)

    for _ in range(12):
        end_window(task, A, p_1=busy(900), p_2=busy(100))
        end_window(task, B, p_1=busy(900))

    assert set(weights(world, A).values()) == set(weights(world, B).values()) == {100}


def test_a_declared_weight_of_0_stays_0_and_causes_no_change(world: World) -> None:
    task = world.start()
    followers(world, task, p_1=0, p_2=0)
    entries = len(world.store.changes)

    for _ in range(12):
        end_window(task, p_1=busy(900), p_2=busy(100))

    assert weights(world) == {"p-1": 0, "p-2": 0}
    assert len(world.store.changes) == entries


def lowered(world: World) -> Subtask:
    task = world.start()
    followers(world, task, p_1=100, p_2=100, p_3=100)
    for _ in range(6):
        end_window(task, p_1=busy(900), p_2=busy(300), p_3=busy(300))
    assert weights(world)["p-1"] < 90
    return task


def test_weights_outlive_a_restart(world: World) -> None:
    task = lowered(world)
    low = weights(world)

    again = restarted(world, task)
    fold(again, updated(world.stamp(), "p-1", service=A, zone="b"))
    again.run_for(SECOND)

    assert weights(world) == low


def test_a_new_registration_begins_with_its_declared_weight(world: World) -> None:
    task = lowered(world)

    fold(task, registered(world.stamp(), "p-1", service=A, weight=80, metadata=BY_LOAD))
    task.run_for(SECOND)

    assert weights(world)["p-1"] == 80


def test_who_asks_no_more_has_its_declared_weight(world: World) -> None:
    task = lowered(world)

    fold(task, updated(world.stamp(), "p-1", service=A, metadata={}))
    task.run_for(SECOND)

    assert weights(world)["p-1"] == 100


def test_a_window_told_twice_changes_no_weight(world: World) -> None:
    task = lowered(world)
    window = end_window(task, p_1=busy(900), p_2=busy(300), p_3=busy(300))
    entries = len(world.store.changes)

    for _ in range(5):
        task.process(Row(str(A), WINDOW, encode_window(window)))
        task.run_for(SECOND)

    assert len(world.store.changes) == entries
