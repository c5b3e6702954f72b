"""Isolation in the route fold as Flink drives it: at once, until its time, through restarts, and answered."""

from __future__ import annotations

from dataclasses import replace

import orjson
from pyflink.common import Row

from schemas.flink_types import ISOLATIONS
from tests.jobs.fakes import Subtask, run_for
from tests.jobs.world import ISOLATION, A, B, World, fold
from tests.model.events import SECOND, isolated, released
from waypost.metrics import ISOLATIONS_IN_FORCE, SPARED
from waypost.model.isolation import Isolation
from waypost.model.names import ServiceKey
from waypost.model.service import ISOLATION_ENDED, LAST_ENDPOINT
from waypost.wire.dead_letter import decode_dead_letter
from waypost.wire.glue import encode_entry
from waypost.wire.isolation import encode_isolation

MINUTE = 60 * SECOND
ANNA = "operator:anna"


def isolate(
    world: World, task: Subtask, instance: str = "", *, node: str = "", service: ServiceKey = A, **fields: object
) -> Isolation:
    """Log an isolation now and fold it now."""
    word = isolated(world.stamp(), instance, node=node, service=service, **fields)  # type: ignore[arg-type]
    fold(task, word)
    return word


def two(world: World, task: Subtask) -> None:
    world.register(task, instance="p-1", node="n1")
    world.register(task, instance="p-2", node="n2")
    task.run_for(SECOND)


def seen(world: World, instance: str = "p-1", service: ServiceKey = A) -> dict[str, object]:
    return dict(orjson.loads(world.store.services[service].instances[instance]))


def test_an_isolation_is_in_the_table_at_once_with_its_cause(world: World) -> None:
    task = world.start()
    two(world, task)

    word = isolate(world, task, node="n1", cause="KubeNodeNotReady", request_id="r-1")

    assert world.table() == {"p-2"}
    assert seen(world)["isolated"] == {
        "by": "repair",
        "cause": "KubeNodeNotReady",
        "since": word.stamp.at,
        "until": word.expires_at,
    }
    published = world.store.written[-1].what
    assert published.rule == "isolate"
    assert [tuple(cause) for cause in published.causes] == [(ISOLATION, *word.stamp[1:])]
    assert world.answers()["r-1"] == "applied"
    assert task.metrics[f"waypost.{ISOLATIONS_IN_FORCE.name}"] == 1


def test_a_record_about_a_node_counts_for_the_service_it_is_passed_on_to(world: World) -> None:
    task = world.start()
    two(world, task)
    of_node = replace(isolated(world.stamp(), node="n1"), service=None)

    for service in (A, B):
        column = encode_entry("node/n1", of_node.stamp, encode_isolation(of_node).decode())
        task.process(Row(str(service), ISOLATIONS, column.encode()))
    world.register(task, B, "b-1", node="n1")
    world.register(task, B, "b-2")
    task.run_for(SECOND)

    assert (world.table(A), world.table(B)) == ({"p-2"}, {"b-2"})
    assert task.dead_letters == []


def test_a_forgotten_isolation_ends_by_itself_to_the_millisecond(world: World) -> None:
    task = world.start()
    two(world, task)
    isolate(world, task, for_s=60)

    task.run_for(MINUTE - 1)
    assert world.table() == {"p-2"}

    task.run_for(1)
    assert world.table() == {"p-1", "p-2"}
    assert world.store.written[-1].what.rule == ISOLATION_ENDED
    assert task.metrics[f"waypost.{ISOLATIONS_IN_FORCE.name}"] == 0
    times_written = len(world.store.written)
    task.run_for(10 * MINUTE)
    assert len(world.store.written) == times_written


def test_an_isolation_that_is_prolonged_ends_later_and_one_that_is_cut_short_sooner(world: World) -> None:
    task = world.start()
    two(world, task)
    isolate(world, task, for_s=60)
    isolate(world, task, for_s=600)
    task.run_for(2 * MINUTE)
    assert world.table() == {"p-2"}

    isolate(world, task, for_s=1)
    task.run_for(SECOND)
    assert world.table() == {"p-1", "p-2"}


def test_a_restart_neither_forgets_an_isolation_nor_its_end(world: World) -> None:
    task = world.start()
    two(world, task)
    isolate(world, task, for_s=60)
    state = task.state.copy()

    again = world.start(state, attempt=1)
    run_for(30 * SECOND, again)
    assert world.table() == {"p-2"}

    again.run_for(40 * SECOND)
    assert world.table() == {"p-1", "p-2"}


def test_an_isolation_that_ended_while_the_job_was_away_is_over_when_it_is_back(world: World) -> None:
    task = world.start()
    two(world, task)
    isolate(world, task, for_s=60)
    state = task.state.copy()
    world.clock.pass_time(10 * MINUTE)

    again = world.start(state, attempt=1)
    again.run_for(10 * SECOND)

    assert world.table() == {"p-1", "p-2"}


def test_a_rebuild_does_not_show_a_table_without_its_newest_isolation(world: World) -> None:
    task = world.start()
    first = world.register(task, instance="p-1", node="n1")
    second = world.register(task, instance="p-2", node="n2")
    word = isolate(world, task, node="n1")
    task.run_for(SECOND)
    before = len(world.store.written)

    rebuilt = world.start(attempt=1)
    fold(rebuilt, first, second)
    rebuilt.run_for(30 * SECOND)
    assert len(world.store.written) == before
    assert world.table() == {"p-2"}

    fold(rebuilt, word)
    rebuilt.run_for(SECOND)
    assert world.table() == {"p-2"}
    assert len(world.store.written) == before + 1


def test_an_isolation_read_long_after_its_end_changes_nothing(world: World) -> None:
    task = world.start()
    word = isolated(world.stamp(ago=2 * MINUTE), service=A, for_s=60, request_id="r-1")
    two(world, task)

    fold(task, word)
    task.run_for(SECOND)

    assert world.table() == {"p-1", "p-2"}
    assert world.answers() == {}


def test_a_release_ends_it_and_its_timer_does_no_harm(world: World) -> None:
    task = world.start()
    two(world, task)
    isolate(world, task, for_s=60)
    fold(task, released(world.stamp(), service=A))
    task.run_for(SECOND)
    assert world.table() == {"p-1", "p-2"}
    written = len(world.store.written)

    task.run_for(2 * MINUTE)
    assert len(world.store.written) == written


def test_a_repair_that_would_empty_the_table_is_refused_and_counted(world: World) -> None:
    task = world.start()
    two(world, task)
    isolate(world, task, node="n1", request_id="r-1")
    task.run_for(SECOND)
    isolate(world, task, node="n2", request_id="r-2")
    task.run_for(SECOND)

    assert world.table() == {"p-1", "p-2"}
    assert world.answers() == {"r-1": "applied", "r-2": LAST_ENDPOINT}
    assert world.store.services[A].meta["protected"] == "1"
    assert task.metrics[f"waypost.{SPARED.name}"] == 2

    isolate(world, task, node="n1", by=ANNA)
    isolate(world, task, node="n2", by=ANNA)
    task.run_for(SECOND)
    assert world.table() == set()


def test_a_word_sent_to_another_service_is_a_dead_letter(world: World) -> None:
    task = world.start()
    two(world, task)
    word = isolated(world.stamp(), service=B)

    column = encode_entry("default/a", word.stamp, encode_isolation(word).decode())
    task.process(Row(str(A), ISOLATIONS, column.encode()))
    task.run_for(SECOND)

    [(_, value)] = task.dead_letters
    letter = decode_dead_letter(value)
    assert (letter.topic, letter.offset, letter.reason) == (ISOLATION, word.stamp.offset, "ambiguous-service")
    assert world.table() == {"p-1", "p-2"}


def test_a_service_without_isolations_pays_nothing_for_them(world: World) -> None:
    task = world.start()
    two(world, task)
    plain = task.timers_set

    for n in range(20):
        world.register(task, instance=f"q-{n}", node="n1")
        task.run_for(SECOND)

    assert not any(name == "isolations" for name, _ in task.state.values)
    assert task.timers_set - plain <= 20
