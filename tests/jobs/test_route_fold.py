"""The route fold as Flink drives it: what becomes visible, when, and how often the store is asked.

What a table holds is tested with `waypost.model.service`; here it is about time, outages, restarts and other writers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import orjson
import pytest
from pyflink.common import Row

from jobs.operators import routes
from jobs.operators.aside import Record
from jobs.operators.slices import SLICE_MS
from schemas.flink_types import LEASES
from tests.jobs.fakes import Checkpoint, Subtask, run_for
from tests.jobs.world import HEARTBEAT, JOB, OTHER_JOB, REGISTRY, A, B, C, D, World, decided, fold
from tests.model.events import SECOND, T0, a_fact, a_set, deregistered, registered
from waypost.errors import FencedError
from waypost.model.events import InstanceEvent, LeaseFact
from waypost.model.fencing import Outcome
from waypost.model.isolation import Isolation, Verb
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication, format_digest
from waypost.model.stamp import Stamp
from waypost.wire.dead_letter import decode_dead_letter
from waypost.wire.glue import ENTRY, encode_entry
from waypost.wire.registry import RegistrationEvent, encode_registration
from waypost.wire.route_changes import Chunk, RestartMarker, decode_route_change
from waypost.wire.transitions import encode_transitions


def decoded(task: Subtask) -> list[Chunk | RestartMarker]:
    return [decode_route_change(value) for _, value in task.records]


def markers(task: Subtask) -> list[RestartMarker]:
    return [record for record in decoded(task) if isinstance(record, RestartMarker)]


def gaps(times: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(times)]


# -- when changes are written -----------------------------------------------------------------------------


def test_first_change_is_written_at_once(world: World) -> None:
    task = world.start()

    world.register(task)

    assert [p.at for p in world.store.written] == [T0]
    assert world.table() == {"p-1"}


def test_first_change_after_a_quiet_time_is_written_at_once(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(10 * SECOND)

    world.register(task, instance="p-2")

    assert [p.at for p in world.store.written] == [T0, T0 + 10 * SECOND]


def test_further_changes_are_written_once_per_coalesce_ms(world: World) -> None:
    task = world.start()

    for number in range(100):
        world.register(task, instance=f"p-{number}")
        task.run_for(5)
    task.run_for(world.routes.coalesce_ms)

    times = [p.at for p in world.store.written]
    assert times[0] == T0
    assert min(gaps(times)) == max(gaps(times)) == world.routes.coalesce_ms
    assert world.table() == {f"p-{number}" for number in range(100)}


def test_change_logged_before_the_last_write_waits_no_longer_than_coalesce_ms(world: World) -> None:
    task = world.start()

    world.register(task, ago=7)
    world.register(task, instance="p-2", ago=3)
    task.run_for(10 * SECOND)

    assert [p.at for p in world.store.written] == [T0, T0 + world.routes.coalesce_ms]


def test_services_are_coalesced_apart(world: World) -> None:
    task = world.start()

    world.register(task, A)
    world.register(task, B)

    assert [p.at for p in world.store.written] == [T0, T0]


def test_lagging_job_writes_each_service_once_a_second(world: World) -> None:
    task = world.start()

    for number in range(250):
        world.register(task, A, f"p-{number}", ago=5 * SECOND)
        world.register(task, B, f"p-{number}", ago=5 * SECOND)
        task.run_for(20)
    task.run_for(SECOND)

    for service in (A, B):
        times = [p.at for p in world.store.written_of(service)]
        assert len(times) <= 7
        assert min(gaps(times)) >= SECOND
        assert len(world.table(service)) == 250


def test_job_that_caught_up_writes_at_once_again(world: World) -> None:
    task = world.start()
    world.register(task, ago=5 * SECOND)
    task.run_for(2 * SECOND)

    world.register(task, instance="p-2")

    assert world.table() == {"p-1", "p-2"}


def test_quiet_service_is_not_written(world: World) -> None:
    task = world.start()
    world.register(task)

    task.run_for(60 * SECOND)

    assert len(world.store.written) == 1


# -- the store is away ------------------------------------------------------------------------------------


def test_outage_loses_nothing(world: World) -> None:
    task = world.start()
    world.register(task, A)

    world.store.available = False
    for number in range(20):
        for service in (A, B, C):
            world.register(task, service, f"q-{number}")
        task.run_for(500)
    world.store.available = True
    task.run_for(world.routes.retry_ms + SECOND)

    expected = {f"q-{number}" for number in range(20)}
    assert world.table(A) == expected | {"p-1"}
    assert world.table(B) == world.table(C) == expected


def test_after_an_outage_everything_is_visible_within_retry_ms(world: World) -> None:
    task = world.start()
    for service in (A, B, C):
        world.register(task, service)
    task.run_for(SECOND)

    world.store.available = False
    for service in (A, B, C):
        world.register(task, service, "p-2")
    task.run_for(10 * SECOND)
    world.store.available = True
    task.run_for(world.routes.retry_ms)

    assert world.table(A) == world.table(B) == world.table(C) == {"p-1", "p-2"}


@pytest.mark.parametrize("opened_before", [True, False])
def test_store_that_is_away_is_asked_once_per_retry_ms_for_all_services(world: World, opened_before: bool) -> None:
    task = world.start()
    if opened_before:
        for service in (A, B, C, D):
            world.register(task, service)
        task.run_for(SECOND)

    world.store.available = False
    world.store.calls.clear()
    for number in range(200):
        for service in (A, B, C, D):
            world.register(task, service, f"q-{number}")
        task.run_for(50)

    assert world.store.calls.total() <= 10 * SECOND / world.routes.retry_ms + 1, world.store.calls


def test_outage_sets_a_bounded_number_of_timers(world: World) -> None:
    task = world.start()
    world.store.available = False

    for number in range(1_000):
        world.register(task, A, f"q-{number}")
        task.run_for(1)

    assert task.timers_set <= SECOND / world.routes.retry_ms + 3


def test_lost_answer_is_found_out_by_the_next_write(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)

    world.store.loses_next_answer = True
    world.register(task, instance="p-2")
    task.run_for(SECOND)

    *_, lost, last = world.store.written
    assert (lost.what.op, last.what.op) == (ChangeOp.DELTA, ChangeOp.SNAPSHOT)
    assert last.what.revision > lost.what.revision
    assert world.table() == {"p-1", "p-2"}


# -- the store refuses one service ------------------------------------------------------------------------


def test_refused_service_waits_alone(world: World) -> None:
    task = world.start()
    world.store.refused.add(A)

    for number in range(20):
        world.register(task, A, f"p-{number}")
        world.register(task, B, f"p-{number}")
        assert f"p-{number}" in world.table(B)
        task.run_for(100)
    world.store.refused.clear()
    task.run_for(60 * SECOND)

    assert world.table(A) == world.table(B)


def test_refused_service_is_tried_again_after_growing_pauses(world: World) -> None:
    task = world.start()
    world.store.refused.add(A)

    world.register(task)
    task.run_for(400 * SECOND)

    pauses = gaps(world.store.refusals)
    assert pauses[:4] == [500, 1_000, 2_000, 4_000]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60 * SECOND


def test_pauses_are_short_again_after_a_write(world: World) -> None:
    task = world.start()
    world.store.refused.add(A)
    world.register(task)
    task.run_for(100 * SECOND)
    world.store.refused.clear()
    task.run_for(60 * SECOND)
    assert world.table() == {"p-1"}
    world.store.refusals.clear()

    world.store.refused.add(A)
    world.register(task, instance="p-2")
    task.run_for(SECOND)

    assert gaps(world.store.refusals) == [500]


# -- restarts ---------------------------------------------------------------------------------------------


def restarted(world: World, task: Subtask, state: Checkpoint | None = None) -> Subtask:
    return world.start((state or task.state).copy(), attempt=1)


def test_restart_over_the_same_table_goes_on_with_deltas(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    before = world.revision()

    after = restarted(world, task)
    world.register(after, instance="p-2")
    after.run_for(10 * SECOND)

    assert [p.what.op for p in world.store.written] == [ChangeOp.DELTA, ChangeOp.DELTA]
    assert world.store.written[-1].what.base == before
    assert world.table() == {"p-1", "p-2"}


def test_restart_over_an_empty_store_writes_a_snapshot_of_every_service(world: World) -> None:
    task = world.start()
    world.register(task, A)
    world.register(task, A, "p-2")
    world.register(task, B)
    task.run_for(SECOND)
    world.store.wipe()

    after = restarted(world, task)
    after.run_for(world.routes.audit_ms + SECOND)

    assert [p.what.op for p in world.store.written[-2:]] == [ChangeOp.SNAPSHOT, ChangeOp.SNAPSHOT]
    assert world.table(A) == {"p-1", "p-2"}
    assert world.table(B) == {"p-1"}


def test_restart_over_a_store_that_is_behind_writes_a_snapshot_above_it(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    restore = world.store.backup()
    world.register(task, instance="p-2")
    task.run_for(SECOND)
    ours = world.revision()
    restore()
    assert world.table() == {"p-1"}

    after = restarted(world, task)
    after.run_for(world.routes.audit_ms + world.routes.settle_ms + SECOND)

    assert world.store.written[-1].what.op is ChangeOp.SNAPSHOT
    assert world.revision() > ours
    assert world.table() == {"p-1", "p-2"}


def ahead(world: World) -> tuple[Subtask, list[InstanceEvent]]:
    """A restarted job whose checkpoint is five records behind the store, and those records."""
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    checkpoint = task.state.copy()
    missing = []
    for number in range(5):
        missing.append(world.register(task, instance=f"q-{number}"))
        task.run_for(100)
    return restarted(world, task, checkpoint), missing


def test_restart_behind_the_store_publishes_nothing_before_the_log_reached_it(world: World) -> None:
    task, missing = ahead(world)
    written, table = len(world.store.written), world.table()

    for event in missing[:-1]:
        fold(task, event)
        task.run_for(10 * SECOND + 240)  # the next look at the store is not a whole settle_ms away
        assert len(world.store.written) == written
    fold(task, missing[-1])
    task.run_for(world.routes.settle_ms - 1)
    assert len(world.store.written) == written

    task.run_for(2 * SECOND)
    assert world.table() == table


def test_restart_behind_the_store_writes_one_snapshot_with_a_higher_revision(world: World) -> None:
    task, missing = ahead(world)
    written, before = len(world.store.written), world.revision()

    fold(task, *missing)
    task.run_for(60 * SECOND)

    [last] = world.store.written[written:]
    assert last.what.op is ChangeOp.SNAPSHOT
    assert last.what.revision == world.revision() > before
    assert world.store.services[A].meta["digest"] == format_digest(last.what.digest)


def test_after_catching_up_changes_are_written_at_once_again(world: World) -> None:
    task, missing = ahead(world)
    fold(task, *missing)
    task.run_for(5 * SECOND)

    world.register(task, instance="new")

    assert world.store.written[-1].what.op is ChangeOp.DELTA
    assert world.store.written[-1].at == world.clock.wall
    assert world.table() == {"p-1", "new", *(f"q-{number}" for number in range(5))}


def test_log_that_ends_too_early_is_published_after_catch_up_ms_without_progress() -> None:
    world = World(catch_up_ms=20_000)
    task, missing = ahead(world)
    written, before = len(world.store.written), world.revision()

    fold(task, missing[0])
    task.run_for(15 * SECOND)
    fold(task, missing[1])  # progress: the wait begins anew
    task.run_for(19 * SECOND)
    assert len(world.store.written) == written
    task.run_for(2 * SECOND)

    [last] = world.store.written[written:]
    assert last.what.op is ChangeOp.SNAPSHOT
    assert last.what.revision == world.revision() > before
    assert world.table() == {"p-1", "q-0", "q-1"}


def lapsed_and_deregistered(world: World) -> tuple[Subtask, InstanceEvent]:
    """A restarted job whose checkpoint is older than a lapse and the deregistration after it; and the latter. With
    that read first, the gate will never tell of the lapse again."""
    task = world.start()
    world.register(task)
    dead = world.register(task, instance="dead")
    task.run_for(SECOND)
    checkpoint = task.state.copy()
    task.run_for(SECOND)
    fold(task, a_fact(LeaseFact.LAPSED, (world.clock.wall - T0) / 1000, dead.stamp, "dead", service=A))
    task.run_for(100)
    gone = deregistered(world.stamp(), "dead", service=A)
    fold(task, gone)
    task.run_for(SECOND)
    assert world.table() == {"p-1"}
    return restarted(world, task, checkpoint), gone


def test_a_lapse_that_is_not_told_again_is_waited_for_until_all_is_decided(world: World) -> None:
    task, gone = lapsed_and_deregistered(world)
    fold(task, gone)
    written = len(world.store.written)
    world.register(task, instance="new")
    task.run_for(30 * SECOND)
    assert len(world.store.written) == written

    decided(task, A, world.clock.wall)
    task.run_for(SECOND)

    [last] = world.store.written[written:]
    assert last.what.op is ChangeOp.SNAPSHOT
    assert world.table() == {"p-1", "new"}


def test_what_the_gate_said_of_its_progress_is_not_expected_of_a_job_without_state(world: World) -> None:
    task = world.start()
    event = world.register(task)
    decided(task, A, world.clock.wall + 60 * SECOND)
    task.run_for(SECOND)
    other = world.register(task, instance="p-2")
    task.run_for(SECOND)
    written = len(world.store.written)

    fresh = world.start(job=OTHER_JOB)
    fold(fresh, event, other)
    fresh.run_for(2 * SECOND)

    assert len(world.store.written) == written + 1
    assert world.store.written[-1].epoch > world.store.written[-2].epoch


def test_records_beyond_what_the_store_shows_do_not_prolong_the_wait() -> None:
    world = World(catch_up_ms=20_000)
    task, gone = lapsed_and_deregistered(world)
    fold(task, gone)
    written = len(world.store.written)

    for number in range(19):
        world.register(task, instance=f"new-{number}")
        task.run_for(SECOND)
    assert len(world.store.written) == written
    for number in range(19, 22):
        world.register(task, instance=f"new-{number}")
        task.run_for(SECOND)

    assert len(world.store.written) > written
    assert world.table() == {"p-1", *(f"new-{number}" for number in range(22))}


def test_fresh_job_over_a_full_store_waits_for_the_log(world: World) -> None:
    task = world.start()
    events = []
    for number in range(5):
        events.append(world.register(task, instance=f"p-{number}"))
        task.run_for(100)
    written = len(world.store.written)

    fresh = world.start(job=OTHER_JOB)
    for event in events:
        assert len(world.store.written) == written
        fold(fresh, event)
        fresh.run_for(20)
    fresh.run_for(5 * SECOND)

    [last] = world.store.written[written:]
    assert last.what.op is ChangeOp.SNAPSHOT
    assert len(world.table()) == 5


def test_waiting_asks_and_sets_timers_by_time_and_not_by_record(world: World) -> None:
    task, missing = ahead(world)
    world.store.calls.clear()
    task.timers_set = 0

    for _ in range(400):  # for longer, and they would be late, and wait for slices
        fold(task, missing[0])
        task.run_for(1)

    rounds = 400 / world.routes.settle_ms + 1
    assert world.store.calls["meta"] <= rounds
    assert task.timers_set <= rounds + 2


def test_pending_changes_survive_a_crash_between_fold_and_timer(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(10)
    world.register(task, instance="p-2", request_id="r-2")
    assert world.table() == {"p-1"}

    after = restarted(world, task)
    after.run_for(2 * SECOND)

    assert world.table() == {"p-1", "p-2"}
    assert world.answers() == {"r-2": "applied"}


def test_pending_changes_survive_a_crash_in_an_outage(world: World) -> None:
    task = world.start()
    world.store.available = False
    world.register(task, A)
    world.register(task, B)

    after = restarted(world, task)
    after.run_for(10 * SECOND)
    world.store.available = True
    after.run_for(2 * SECOND)

    assert world.table(A) == world.table(B) == {"p-1"}


# -- the store forgot -------------------------------------------------------------------------------------


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ServiceKey]]:
    """Services whose audits are `phase` ms after each other's."""
    phases = {f"default/s{phase}": phase for phase in (0, 400, 900, 1_700, 2_500, 4_900)}
    monkeypatch.setattr(routes, "hash", lambda text: phases[text], raising=False)
    return [ServiceKey.parse(name) for name in phases]


@pytest.mark.parametrize("wiped_after", [0, 1, 450, 2_000, 4_000])
def test_after_a_wipe_every_service_is_back_within_audit_ms(
    world: World, spread: list[ServiceKey], wiped_after: int
) -> None:
    task = world.start()
    for service in spread:
        world.register(task, service)
    task.run_for(3 * world.routes.audit_ms + wiped_after + 2)

    world.store.wipe()
    world.store.written.clear()
    task.run_for(world.routes.audit_ms)

    late = [str(service) for service in spread if world.table(service) != {"p-1"}]
    assert not late
    assert {p.what.op for p in world.store.written} == {ChangeOp.SNAPSHOT}


@pytest.mark.parametrize("wiped_after", range(0, 5_000, 250))
def test_after_a_wipe_every_service_is_back_once(world: World, spread: list[ServiceKey], wiped_after: int) -> None:
    task = world.start()
    for service in spread:
        world.register(task, service)
    task.run_for(3 * world.routes.audit_ms + wiped_after)

    world.store.wipe()
    world.store.written.clear()
    task.run_for(4 * world.routes.audit_ms)

    assert sorted(p.what.service for p in world.store.written) == sorted(spread)


def test_after_a_wipe_no_service_waits_for_its_turn_in_the_audit() -> None:
    world = World(audit_percent=1)
    services = [ServiceKey("default", f"s{number}") for number in range(50)]
    task = world.start()
    for service in services:
        world.register(task, service)
    world.store.part_costs_ms = 40.0  # a round of all takes more than three minutes
    task.run_for(6 * world.routes.audit_ms)

    world.store.wipe()
    task.run_for(world.routes.audit_ms)

    assert [str(service) for service in services if world.table(service) != {"p-1"}] == []


def test_write_after_a_wipe_brings_its_whole_table_back_at_once(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    world.store.wipe()

    world.register(task, instance="p-2")

    assert world.table() == {"p-1", "p-2"}


def test_wipe_does_not_stop_the_other_subtasks_of_the_attempt(world: World) -> None:
    left, right = world.start(), world.start()
    world.register(left, A)
    world.register(right, B)
    run_for(SECOND, left, right)

    world.store.wipe()
    world.register(left, A, "p-2")
    world.register(right, B, "p-2")
    run_for(world.routes.audit_ms, left, right)

    assert world.table(A) == world.table(B) == {"p-1", "p-2"}


def test_store_that_went_back_to_an_older_epoch_is_taken_over_again(world: World) -> None:
    old = world.start()
    world.register(old, A)
    world.register(old, B)
    old.run_for(SECOND)
    restore = world.store.backup()
    task = restarted(world, old)
    world.register(task, A, "p-2")
    world.register(task, B, "p-2")
    task.run_for(SECOND)
    restore()
    assert world.table(A) == world.table(B) == {"p-1"}
    world.store.written.clear()

    world.register(task, A, "p-3")
    assert world.table(A) == {"p-1", "p-2", "p-3"}
    task.run_for(world.routes.audit_ms + world.routes.settle_ms)

    assert world.table(B) == {"p-1", "p-2"}
    assert [p.what.op for p in world.store.written] == [ChangeOp.SNAPSHOT, ChangeOp.SNAPSHOT]


def test_quiet_audits_ask_the_store_ten_times_a_second_at_most() -> None:
    world = World(audit_ms=2 * SECOND)
    task = world.start()
    for number in range(40):
        world.register(task, ServiceKey("default", f"s{number}"))
    world.store.calls.clear()

    task.run_for(10 * SECOND)

    assert world.store.calls.keys() == {"look", "part"}
    assert world.store.calls["look"] <= 100
    assert world.store.calls["part"] <= 40 * 7, "each service once per audit_ms, which is at least 1.6 s"


def test_clock_that_is_set_back_loses_no_change(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(10)
    world.register(task, instance="p-2")

    world.clock.set_back(20)
    task.run_for(200)

    assert world.table() == {"p-1", "p-2"}


def test_clock_that_is_set_back_stops_no_audit(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)

    world.clock.set_back(20)
    task.run_for(3 * world.routes.audit_ms)
    world.store.wipe()
    task.run_for(2 * world.routes.audit_ms)

    assert world.table() == {"p-1"}


# -- other writers ----------------------------------------------------------------------------------------


def test_newer_job_silences_this_one(world: World) -> None:
    ours = world.start()
    world.register(ours)
    ours.run_for(SECOND)
    theirs = world.start(ours.state.copy(), job=OTHER_JOB)
    world.register(theirs, instance="p-2")
    written, records = len(world.store.written), len(ours.records)
    run_for(SECOND, theirs)

    for number in range(10):
        world.register(ours, instance=f"x-{number}")
        world.register(ours, B)
        ours.run_for(SECOND)

    assert len(world.store.written) == written
    assert len(ours.records) == records
    assert world.table() == {"p-1", "p-2"}


def test_passive_job_only_looks_while_the_owner_lives(world: World) -> None:
    ours = world.start()
    world.register(ours)
    owner = world.start(job=OTHER_JOB)
    world.register(owner, B)
    ours.run_for(SECOND)
    world.register(ours, instance="p-2")
    world.store.calls.clear()

    for _ in range(60):
        owner.run_for(5 * SECOND)
        ours.run_for(5 * SECOND)
    world.register(ours, instance="p-3")

    assert world.store.calls.keys() <= {"look", "part"}  # the audit is the owner's
    assert world.table() == {"p-1"}


def test_passive_job_takes_over_when_the_owner_shows_no_sign_of_life(world: World) -> None:
    ours = world.start()
    world.register(ours)
    world.register(world.start(job=OTHER_JOB), B)
    ours.run_for(SECOND)
    world.register(ours, instance="p-2")
    before = world.store.look().epoch

    ours.run_for(20 * SECOND)
    assert world.table() == {"p-1"}
    ours.run_for(60 * SECOND)

    assert world.table() == {"p-1", "p-2"}
    assert world.store.look().epoch > before


def test_owner_that_was_only_slow_becomes_the_passive_one(world: World) -> None:
    ours = world.start()
    world.register(ours)
    slow = world.start(job=OTHER_JOB)
    world.register(slow, B)
    ours.run_for(SECOND)
    world.register(ours, instance="p-2")
    ours.run_for(80 * SECOND)

    world.register(slow, B, "p-9")
    slow.run_for(SECOND)

    assert world.table(B) == {"p-1"}
    assert world.table() == {"p-1", "p-2"}


def test_silent_job_keeps_folding(world: World) -> None:
    ours = world.start()
    world.register(ours)
    world.register(world.start(job=OTHER_JOB), B)
    ours.run_for(SECOND)
    world.register(ours, instance="p-2")

    again = restarted(world, ours)
    again.run_for(world.routes.audit_ms + SECOND)

    assert world.table() == {"p-1", "p-2"}


def test_later_attempt_of_this_job_stops_the_earlier_one(world: World) -> None:
    sleeper = world.start()
    world.register(sleeper)
    sleeper.run_for(SECOND)
    later = restarted(world, sleeper)
    world.register(later, instance="p-2")

    with pytest.raises(FencedError, match="attempt 1 of this job"):
        world.register(sleeper, instance="p-3")

    assert world.table() == {"p-1", "p-2"}


def test_earlier_attempt_that_comes_late_never_opens(world: World) -> None:
    world.register(world.start(attempt=1))

    with pytest.raises(FencedError):
        world.register(world.start(attempt=0), B)


# -- what leaves the operator -----------------------------------------------------------------------------


def test_each_operator_instance_says_first_that_it_took_over(world: World) -> None:
    first = world.start()
    for number in range(5):
        world.register(first, A, f"p-{number}")
        world.register(first, B, f"p-{number}")
        first.run_for(10 * SECOND)
    second = restarted(world, first)
    world.register(second, instance="new")
    second.run_for(60 * SECOND)

    for attempt, task in enumerate((first, second)):
        [marker] = markers(task)
        assert decoded(task)[0] == marker
        assert task.records[0][0] == b"_restart"
        assert (marker.job_id, marker.attempt) == (JOB, attempt)
    assert markers(second)[0].epoch > markers(first)[0].epoch


def test_restart_marker_comes_before_the_records_of_its_epoch(world: World) -> None:
    task = world.start()
    world.register(task)
    task.run_for(SECOND)
    world.store.wipe()

    world.register(task, instance="p-2")
    task.run_for(world.routes.audit_ms)

    announced = set()
    for record in decoded(task):
        if isinstance(record, RestartMarker):
            assert record.epoch not in announced
            announced.add(record.epoch)
        else:
            assert record.record.epoch in announced
    assert len(announced) == 2


def test_every_publication_is_told_to_the_audit_log(world: World) -> None:
    task = world.start()
    for number in range(20):
        world.register(task, A, f"p-{number}")
        task.run_for(30)
    world.store.wipe()
    task.run_for(2 * world.routes.audit_ms)

    told = [(r.record.revision, r.record.op, r.record.epoch) for r in decoded(task) if isinstance(r, Chunk)]
    assert told == [(p.what.revision, p.what.op, p.epoch) for p in world.store.written]


def test_request_is_answered_though_it_changed_nothing(world: World) -> None:
    task = world.start()
    fold(task, deregistered(world.stamp(), "never-seen", service=A, request_id="r-1"))
    event = world.register(task, B, request_id="r-2")
    task.run_for(SECOND)
    fold(task, event)  # replayed
    task.run_for(SECOND)

    answered = [a for entry in world.store.changes for a in orjson.loads(entry["answers"])]
    assert [(a["request_id"], a["reason"]) for a in answered] == [
        ("r-1", "unknown-instance"),
        ("r-2", "applied"),
        ("r-2", "superseded"),
    ]
    assert [key for key, _ in task.records] == [b"_restart", b"default/b"]


def test_requests_in_an_outage_are_answered_after_it(world: World) -> None:
    task = world.start()
    world.store.available = False
    world.register(task, request_id="r-1")
    task.run_for(20 * SECOND)

    world.store.available = True
    task.run_for(SECOND)

    assert world.answers() == {"r-1": "applied"}


def test_records_older_than_a_minute_are_not_answered(world: World) -> None:
    task = world.start()

    world.register(task, instance="p-1", ago=60 * SECOND, request_id="old")
    world.register(task, instance="p-2", ago=59 * SECOND, request_id="young")
    task.run_for(2 * SECOND)

    assert world.table() == {"p-1", "p-2"}
    assert world.answers() == {"young": "applied"}


def test_record_without_any_effect_is_a_dead_letter(world: World) -> None:
    task = world.start()
    event = deregistered(world.stamp(), "never-seen", service=A)

    fold(task, event)

    [(key, value)] = task.dead_letters
    letter = decode_dead_letter(value)
    assert key == b"any"  # the record's own
    assert (letter.topic, letter.partition, letter.offset) == (REGISTRY, event.stamp.partition, event.stamp.offset)
    assert letter.reason == "unknown-instance"
    assert letter.value == encode_registration(event)


def test_stale_set_is_a_dead_letter_also_in_an_outage(world: World) -> None:
    task = world.start()
    world.store.available = False

    fold(task, a_set(world.stamp(), "10.0.0.1:80", last_updated=2))
    fold(task, a_set(world.stamp(), "10.0.0.2:80", last_updated=1))

    [(_, value)] = task.dead_letters
    assert decode_dead_letter(value).reason == "stale-last-updated"


def test_lapse_and_renewal_of_a_lease_reach_the_table_with_their_causes(world: World) -> None:
    task = world.start()
    event = world.register(task)
    task.run_for(100 * SECOND)

    fold(task, a_fact(LeaseFact.LAPSED, 100, event.stamp, service=A))
    assert world.table() == set()
    task.run_for(5 * SECOND)
    fold(task, a_fact(LeaseFact.RENEWED, 105, event.stamp, service=A))
    assert world.table() == {"p-1"}

    _, lapsed, renewed = (p.what for p in world.store.written)
    assert lapsed.causes == ((REGISTRY, event.stamp.partition, event.stamp.offset),)
    assert renewed.causes == ((HEARTBEAT, 3, 7),)


def test_everything_that_leaves_is_bytes(world: World) -> None:
    task = world.start()
    world.register(task)
    fold(task, deregistered(world.stamp(), "never-seen", service=A, request_id="r-1"))
    task.run_for(SECOND)
    world.store.wipe()
    task.run_for(2 * world.routes.audit_ms)

    assert task.records
    assert task.dead_letters
    for record in task.records + task.dead_letters:
        assert [type(part) for part in record] == [bytes, bytes]


# -- what comes in bulk -----------------------------------------------------------------------------------


def bulk(world: World, service: ServiceKey, count: int) -> Row:
    """Return a gathered row of `count` registrations that the job is behind with."""
    events = [registered(world.stamp(ago=30 * SECOND), f"p-{n}", service=service) for n in range(count)]
    entries = [encode_entry("any", event.stamp, encode_registration(event).decode()) for event in events]
    return Row(str(service), ENTRY.join(entries))


def test_what_comes_in_bulk_is_folded_in_slices_and_holds_up_nobody(world: World) -> None:
    task = world.start()
    world.register(task, service=B)
    task.run_for(SECOND)

    for service in (A, C, D):
        task.process(bulk(world, service, 300))
    world.register(task, service=B, instance="p-2")

    assert world.table(B) == {"p-1", "p-2"}
    assert world.table(A) == world.table(C) == world.table(D) == set()
    task.run_for(10 * SECOND)
    assert all(len(world.table(service)) == 300 for service in (A, C, D))
    assert not any(task.state.lists.values())


def test_few_records_in_bulk_are_folded_before_many_that_wait_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.start()
    slow_down(world, monkeypatch, SLICE_MS)
    storm = [ServiceKey("default", f"storm-{n}") for n in range(100)]
    for service in storm:
        task.process(bulk(world, service, 300))
    task.run_for(5)

    task.process(bulk(world, B, 20))
    task.run_for(10 * SLICE_MS)

    assert len(world.table(B)) == 20
    assert sum(bool(world.table(service)) for service in storm) < 10
    task.run_for(10 * SECOND)
    assert all(len(world.table(service)) == 300 for service in storm)


def test_what_was_put_aside_is_folded_although_the_clock_is_set_back(world: World) -> None:
    task = world.start()
    task.process(bulk(world, A, 300))
    world.clock.set_back(3600 * SECOND)

    task.process(bulk(world, B, 300))
    task.run_for(10 * SECOND)

    assert len(world.table(A)) == len(world.table(B)) == 300


def held(task: Subtask) -> int:
    return sum(len(entry) for entries in task.state.lists.values() for entry in entries)


def test_more_than_fits_is_folded_before_the_next_row_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = world.start()
    rows = [bulk(world, ServiceKey("default", f"storm-{n}"), 100) for n in range(50)]
    limit = 10 * len(rows[0][1].encode())
    monkeypatch.setattr(routes, "_MAX_ASIDE", limit)

    for row in rows:
        task.process(row)
        assert held(task) <= limit
    task.run_for(10 * SECOND)

    assert all(len(world.table(ServiceKey("default", f"storm-{n}"))) == 100 for n in range(50))
    assert not any(task.state.lists.values())


def test_what_is_folded_leaves_the_journal_although_there_is_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.start()
    decode = routes._decode

    def slow(record: Record, service: str) -> RegistrationEvent:
        world.clock.pass_time(1)
        return decode(record, service)

    monkeypatch.setattr(routes, "_decode", slow)
    for _ in range(100):
        task.process(bulk(world, A, 30))
    given = held(task)
    while (left := held(task)) == given:
        task.run_for(20)
    assert given // 3 < left < given * 2 // 3, "it had always more"

    again = world.start(task.state.copy(), attempt=1)
    again.run_for(60 * SECOND)

    assert len(world.table()) == 30
    assert not any(again.state.lists.values())


def slow_down(world: World, monkeypatch: pytest.MonkeyPatch, ms: int) -> None:
    """Let each publication take so long."""
    publish = world.store.publish

    def slow(what: Publication, epoch: int, now_ms: int) -> Outcome:
        world.clock.pass_time(ms)
        return publish(what, epoch, now_ms)

    monkeypatch.setattr(world.store, "publish", slow)


def test_rows_that_take_all_the_time_are_put_aside_and_written_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.start()
    slow_down(world, monkeypatch, 4)
    services = [ServiceKey("default", f"s-{n}") for n in range(100)]
    for number in range(10):
        for service in services:
            world.register(task, service, f"p-{number}")

    at_once = sum(bool(world.table(service)) for service in services)
    assert 1 <= at_once <= 10
    world.register(task, B, "broken")
    task.process(Row("default/unknown", encode_entry("k", world.stamp(), '{"service":"unknown","instance":"x"}')))
    assert "default/unknown" not in {key for _, key in task.state.timers}, "nothing is kept of whom no record is about"
    task.run_for(10 * SECOND)
    assert all(len(world.table(service)) == 10 for service in services)
    assert all(len(world.store.written_of(service)) <= 3 for service in services)
    assert not any(task.state.lists.values())


def test_tables_are_not_compared_with_the_store_while_much_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = world.start()
    world.register(task)
    task.run_for(2 * world.routes.audit_ms)
    before = world.store.calls["part"]
    assert before
    slow_down(world, monkeypatch, 100)
    storm = [ServiceKey("default", f"storm-{n}") for n in range(200)]
    for service in storm:
        task.process(bulk(world, service, 30))

    task.run_for(3 * world.routes.audit_ms)

    assert 0 < sum(bool(world.table(service)) for service in storm) < len(storm)
    assert world.store.calls["part"] == before
    task.run_for(6 * world.routes.audit_ms)
    assert all(world.table(service) for service in storm)
    assert world.store.calls["part"] > before + len(storm)


def fleet(world: World, task: Subtask, service: ServiceKey) -> list[InstanceEvent]:
    """Register forty instances and let them be seen."""
    events = [world.register(task, service=service, instance=f"p-{n}") for n in range(40)]
    task.run_for(SECOND)
    assert len(world.table(service)) == 40
    return events


def ended(world: World, events: list[InstanceEvent]) -> Row:
    """Return the gate's row of a tick in which the leases of all these ended."""
    now = (world.clock.wall - T0) / 1000
    lapses = [a_fact(LeaseFact.LAPSED, now, e.stamp, e.instance, service=e.service) for e in events]
    return Row(str(events[0].service), LEASES, encode_transitions(lapses))


def test_leases_that_end_in_bulk_are_folded_in_slices_and_hold_up_nobody(world: World) -> None:
    task = world.start()
    world.register(task, service=B)
    fleets = [fleet(world, task, service) for service in (A, C, D)]

    for events in fleets:
        task.process(ended(world, events[:-1]))
    world.register(task, service=B, instance="p-2")

    assert world.table(B) == {"p-1", "p-2"}
    assert all(len(world.table(service)) == 40 for service in (A, C, D))
    task.run_for(10 * SECOND)
    assert all(world.table(service) == {"p-39"} for service in (A, C, D))
    assert not any(task.state.lists.values())


def test_leases_that_end_one_by_one_in_many_services_hold_up_no_explicit_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.start()
    fleets = [fleet(world, task, ServiceKey("default", f"storm-{n}")) for n in range(40)]
    slow_down(world, monkeypatch, 5)

    for number in range(20):
        for events in fleets:
            task.process(ended(world, [events[number]]))
        world.register(task, service=B, instance=f"p-{number}")
        task.run_for(2 * world.routes.coalesce_ms)
        assert f"p-{number}" in world.table(B)

    listed = [len(world.table(events[0].service)) for events in fleets]
    assert sum(count > 20 for count in listed) > 10, "there was time for all of it"
    task.run_for(10 * SECOND)
    assert all(len(world.table(events[0].service)) == 20 for events in fleets)
    assert not any(task.state.lists.values())


def test_tables_wiped_in_a_storm_of_others_are_back_as_fast_as_always(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = world.start()
    idle = [ServiceKey("default", f"idle-{n}") for n in range(20)]
    for service in idle:
        world.register(task, service)
    fleets = [fleet(world, task, ServiceKey("default", f"storm-{n}")) for n in range(40)]
    task.run_for(20 * SECOND)
    slow_down(world, monkeypatch, 5)

    began = world.clock.wall
    for tick in range(1_000):
        for events in fleets:
            task.process(ended(world, [events[tick % len(events)]]))
        task.run_for(100)
        if tick == 20:
            world.store.wipe()
            began = world.clock.wall
        if tick > 20 and all(world.table(service) for service in idle):
            break

    assert world.clock.wall - began < 3 * world.routes.audit_ms


def test_an_isolation_in_a_storm_of_leases_is_an_explicit_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = world.start()
    fleet(world, task, B)
    fleets = [fleet(world, task, ServiceKey("default", f"storm-{n}")) for n in range(100)]
    slow_down(world, monkeypatch, 10)
    for tick in range(5):
        for events in fleets:
            task.process(ended(world, [events[tick]]))
        task.run_for(20)
    world.register(task, service=B, instance="q-0")
    task.run_for(1)

    fold(
        task,
        Isolation(
            verb=Verb.ISOLATE,
            service=B,
            instance="p-3",
            by="me",
            cause="x",
            expires_at=world.clock.wall + 600 * SECOND,
            stamp=world.stamp(),
        ),
    )
    for events in fleets:
        task.process(ended(world, [events[5]]))
    task.run_for(10 * SLICE_MS)

    assert "p-3" not in world.table(B)
    assert sum(len(world.table(events[0].service)) > 34 for events in fleets) > 50, "there was time for all of it"


def test_writes_that_are_due_together_leave_time_to_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = world.start()
    services = [ServiceKey("default", f"s-{n}") for n in range(100)]
    for instance in ("p-1", "p-2"):
        for service in services:
            world.register(task, service, instance)
    assert all(world.table(service) == {"p-1"} for service in services), "the second is written a moment later"
    slow_down(world, monkeypatch, 5)
    began = world.clock.wall

    task.run_for(world.routes.coalesce_ms)

    assert world.clock.wall - began < world.routes.coalesce_ms + 5 * SLICE_MS
    assert 0 < sum(len(world.table(service)) == 2 for service in services) < 50
    task.run_for(2 * SECOND)
    assert all(len(world.table(service)) == 2 for service in services)


def test_a_lease_that_ends_later_does_not_overtake_those_put_aside(world: World) -> None:
    task = world.start()
    events = fleet(world, task, A)
    before = world.revision()
    task.process(ended(world, events[:-2]))

    task.process(ended(world, [events[-2]]))

    assert world.revision() == before, "a table says until when all leases are in it"
    task.run_for(10 * SECOND)
    assert world.table() == {"p-39"}


def test_leases_put_aside_survive_a_crash_among_records(world: World) -> None:
    task = world.start()
    task.process(ended(world, fleet(world, task, A)[:-1]))
    fold(task, deregistered(world.stamp(), "p-39", service=A))
    task.process(bulk(world, A, 60))

    again = world.start(task.state.copy(), attempt=1)
    again.run_for(30 * SECOND)

    assert world.table() == {f"p-{n}" for n in range(40, 60)}, "the others were registered longer ago than they left"
    assert not any(again.state.lists.values())


def test_few_gathered_records_are_folded_at_once(world: World) -> None:
    task = world.start()

    task.process(bulk(world, A, 3))

    assert world.table() == {"p-0", "p-1", "p-2"}


def test_what_was_put_aside_survives_a_crash(world: World) -> None:
    task = world.start()
    task.process(bulk(world, A, 300))
    task.run_for(2)
    restored = task.state.copy()

    again = world.start(restored, attempt=1)
    again.run_for(30 * SECOND)

    assert len(world.table()) == 300
    assert not any(again.state.lists.values())


def test_nothing_is_published_after_a_restore_before_what_was_put_aside_is_folded(world: World) -> None:
    task = world.start()
    task.process(bulk(world, A, 300))
    restored = task.state.copy()
    task.run_for(10 * SECOND)
    before = world.revision()

    again = world.start(restored, attempt=1)
    world.register(again, instance="late")

    assert world.revision() == before
    again.run_for(30 * SECOND)
    assert len(world.table()) == 301


def test_a_bad_record_among_gathered_ones_is_a_dead_letter_and_the_others_count(world: World) -> None:
    task = world.start()
    row = bulk(world, A, 2)
    bad = encode_entry("its-key", Stamp(T0, 3, 77), '{"service":"a","instance":"x","port":0}')

    task.process(Row(row[0], f"{row[1]}{ENTRY}{bad}"))

    [(key, value)] = task.dead_letters
    letter = decode_dead_letter(value)
    assert key == b"its-key"
    assert (letter.partition, letter.offset) == (3, 77)
    assert world.table() == {"p-0", "p-1"}


def test_a_record_sent_to_another_service_than_it_names_is_a_dead_letter(world: World) -> None:
    task = world.start()
    row = bulk(world, B, 1)

    task.process(Row(str(A), row[1]))

    [(_, value)] = task.dead_letters
    assert decode_dead_letter(value).reason == "ambiguous-service"
    assert world.table(A) == world.table(B) == set()


def test_later_records_of_a_service_do_not_overtake_what_was_put_aside(world: World) -> None:
    task = world.start()
    task.process(bulk(world, A, 300))
    gone = deregistered(world.stamp(), "p-299", service=A)

    fold(task, gone)
    task.run_for(10 * SECOND)

    assert task.dead_letters == []
    assert len(world.table()) == 299


def test_nor_do_they_after_a_crash(world: World) -> None:
    task = world.start()
    task.process(bulk(world, A, 300))

    again = world.start(task.state.copy(), attempt=1)
    fold(again, deregistered(world.stamp(), "p-299", service=A))
    again.run_for(30 * SECOND)

    assert again.dead_letters == []
    assert len(world.table()) == 299
