"""What is done to a cluster: one function per fault. It returns when the fault is over, the recovery may still go on.

`arena.pick(short, long)` is how long or how much: the first in `make test`, the second in `make chaos`.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import redis

from tests.e2e import hostile
from tests.e2e.log_writer import HEARTBEAT, REGISTRY
from tests.e2e.tables import PREFIX, eventually
from waypost.flink import snapshots
from waypost.flink.submission import run_command
from waypost.local.ports import LOOPBACK, free_ports
from waypost.local.process import spawn
from waypost.local.valkey import redis_answers, server_binary

if TYPE_CHECKING:
    from tests.e2e.chaos.arena import Arena

Fault = Callable[["Arena"], None]
RECOVERY_S = 300.0
"""How long a recovery may take before it counts as none: many times what any takes on a quiet machine."""


# --- Flink ----------------------------------------------------------------------------------------


def task_manager_killed(arena: Arena) -> None:
    """SIGKILL for the TaskManager that works."""
    job, before = eventually(arena.job), arena.restarts()
    arena.kill(arena.working())
    eventually(lambda: arena.job() == job and arena.restarts() > before, within_s=RECOVERY_S)


def task_manager_killed_again_and_again(arena: Arena) -> None:
    """SIGKILL for the TaskManager that works, every 3 s, for a minute."""
    for _ in range(arena.pick(4, 20)):
        with contextlib.suppress(ValueError):  # nobody works at the moment
            arena.kill(arena.working())
        time.sleep(3)


def task_manager_stopped(arena: Arena) -> None:
    """SIGSTOP for the TaskManager that works, while its job goes on elsewhere; then SIGCONT."""
    before, epoch = arena.restarts(), arena.tables.epoch("canary")
    with arena.storm(services=5, instances=500):  # some of it may still be in its buffers when it goes on
        with arena.stopped(arena.working()):
            arena.until_changes_pass()
            eventually(lambda: arena.restarts() > before)  # Flink's answers may be 3 s old
            eventually(lambda: arena.tables.epoch("canary") > epoch)
            time.sleep(arena.pick(2, 120))
        eventually(lambda: len(arena.rest.task_managers()) == 2)  # it has seen that it is no longer needed


def job_manager_killed(arena: Arena) -> None:
    """SIGKILL for the JobManager: the job is resubmitted from its newest checkpoint."""
    job = arena.job()
    arena.kill("jobmanager")
    eventually(lambda: arena.job() not in (None, job), within_s=RECOVERY_S)


def job_from_old_checkpoint(arena: Arena) -> None:
    """The JobManager dies, and of the checkpoints only an old one is left.

    Just before, an instance lapses and is deregistered: the replay finds it deregistered first, and no lapse. Still the
    table of its service must go on, also when the service has news all the time.
    """
    roots = arena.snapshots
    old = arena.state_dir / "old-checkpoint"
    shutil.rmtree(old, ignore_errors=True)
    place = eventually(lambda: _copied(roots, to=old))
    began = time.time_ns()
    time.sleep(arena.pick(12, 60))
    eventually(lambda: (newest := snapshots.newest(roots)) and newest.stat().st_mtime_ns > began)

    service = f"replayed-{arena.random.randrange(10**9)}"
    arena.log.register(service, "stays", 8080, lease=86_400)
    arena.log.register(service, "dies", 8081, lease=2)
    eventually(lambda: "dies" in arena.tables.ids(service))
    eventually(lambda: arena.tables.ids(service) == {"stays"})
    arena.log.event(service, op="deregister", instance="dies")
    job = arena.job()
    arena.kill("jobmanager")
    for path in snapshots.completed(roots):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(old, place, dirs_exist_ok=True)
    eventually(lambda: arena.job() not in (None, job), within_s=RECOVERY_S)
    assert str(place) in arena.restored_from(), f"restored from {arena.restored_from()}, not from the old {place}"

    logged = ["stays"]

    def news_pass() -> bool:
        logged.append(f"new-{len(logged)}")
        arena.log.register(service, logged[-1], 8080, lease=86_400)
        return logged[1] in arena.tables.ids(service)

    eventually(news_pass, within_s=RECOVERY_S)
    for instance in logged:
        arena.log.event(service, op="deregister", instance=instance)


def _copied(roots: tuple, *, to: object) -> object:  # type: ignore[type-arg]
    """Copy the newest checkpoint; None when Flink deleted it meanwhile."""
    newest = snapshots.newest(roots)
    if newest is None:
        return None
    try:
        shutil.rmtree(to, ignore_errors=True)  # type: ignore[arg-type]
        shutil.copytree(newest, to)  # type: ignore[arg-type]
    except (OSError, shutil.Error):
        return None
    return newest


def job_upgraded(arena: Arena) -> None:
    """Stopped with a savepoint and started as a new submission, on fresh TaskManagers."""
    job = arena.job()
    arena.waypost("submit")
    assert arena.job() not in (None, job)


def job_rescaled(arena: Arena) -> None:
    """To two TaskManagers and back to one, each time by a savepoint."""
    for parallelism in (2, 1):
        arena.waypost("submit", "--set", f"job.parallelism={parallelism}")
        arena.until_changes_pass()
        assert len(arena.rest.working()) == parallelism


def job_without_state(arena: Arena) -> None:
    """Submitted anew without a savepoint: everything is read from the beginning of the log."""
    job = arena.job()
    arena.waypost("submit", "--without-state")
    assert arena.job() not in (None, job)


def second_copy_of_the_job(arena: Arena) -> None:
    """Somebody submits the job again beside the one that runs, and takes it away after a while."""
    record = arena.stack.job
    assert record is not None
    rest, flink = arena.rest, arena.flink
    log = arena.state_dir / "logs" / "second-copy.log"
    before = {job.id for job in rest.jobs()}
    command = run_command(
        flink.run_command,
        record,
        addresses=arena.addresses,
        checkpoints=arena.state_dir / "second-copy",
        snapshot=None,
    )
    process = spawn(command, state_dir=arena.state_dir, log=log, environ=flink.environ())
    try:
        assert process.wait(RECOVERY_S) == 0, log.read_text()[-2000:]
        [second] = {job.id for job in rest.jobs()} - before
        eventually(lambda: any(job.id == second and job.is_running for job in rest.jobs()), within_s=RECOVERY_S)
        time.sleep(arena.pick(10, 60))
    finally:
        process.kill()
        for job in rest.jobs():
            if job.id not in before and not job.has_ended:
                rest.cancel(job.id)


# --- Kafka ----------------------------------------------------------------------------------------


def broker_killed(arena: Arena) -> None:
    """SIGKILL for the only broker; it starts again with its log."""
    arena.kill("kafka")


def broker_stopped(arena: Arena) -> None:
    """SIGSTOP for the only broker: nobody beats, nothing is logged, longer than every lease."""
    with arena.stopped("kafka"):
        time.sleep(arena.pick(15, 180))


def everybody_silent(arena: Arena) -> None:
    """No producer beats for several leases, though the log lives."""
    with arena.canary.silence():
        time.sleep(arena.pick(15, 120))


def witness_killed(arena: Arena) -> None:
    """SIGKILL for the witness; leases stand still until it is back."""
    arena.kill("witness")


# --- Redis ----------------------------------------------------------------------------------------


def redis_killed(arena: Arena) -> None:
    """SIGKILL for Redis, which keeps nothing: it comes back empty."""
    arena.kill("valkey")


def redis_stopped(arena: Arena) -> None:
    """SIGSTOP for Redis, as a partition looks: nobody answers, nobody refuses."""
    with arena.stopped("valkey"):
        time.sleep(arena.pick(8, 60))


def redis_wiped(arena: Arena) -> None:
    """FLUSHALL."""
    with arena.redis() as client:
        client.flushall()


def keys_evicted(arena: Arena) -> None:
    """Single keys vanish, one after the other, as under `allkeys-random`."""
    with arena.redis() as client:
        for _ in range(arena.pick(20, 200)):
            keys = list(client.scan_iter(f"{PREFIX}{{default/churn-*", count=1000))
            keys = keys or list(client.scan_iter(f"{PREFIX}*", count=1000))
            client.delete(arena.random.choice(sorted(keys)))
            time.sleep(0.1)


def redis_failed_over(arena: Arena) -> None:
    """A replica takes over that lacks the last writes: the data at the address that all use goes back in time."""
    [port] = free_ports([None])
    main = int(arena.stack.redis_url.rpartition(":")[2].partition("/")[0])
    log = arena.state_dir / "logs" / "replica.log"
    command = [str(server_binary()), "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no"]
    replica = spawn(command, state_dir=arena.state_dir, log=log)
    url = f"redis://{LOOPBACK}:{port}/0"
    try:
        eventually(lambda: redis_answers(url))
        with (
            arena.redis() as old,
            redis.Redis.from_url(url, decode_responses=True) as new,
            arena.canary.older_copy(),
        ):
            new.replicaof(LOOPBACK, main)
            eventually(lambda: new.info("replication")["master_link_status"] == "up")
            new.replicaof("NO", "ONE")
            time.sleep(1.0)  # what is written now, the replica has not
            old.replicaof(LOOPBACK, port)
            eventually(lambda: _linked(old))
            old.replicaof("NO", "ONE")
            # Or the next start of Redis would bring back this copy.
            eventually(lambda: not list((arena.state_dir / "valkey").glob("*.rdb")))
    finally:
        replica.kill()
        replica.wait()


def _linked(client: redis.Redis) -> bool:
    try:
        return bool(client.info("replication")["master_link_status"] == "up")
    except redis.RedisError:
        return False


# --- what is written ------------------------------------------------------------------------------


def hostile_flood(arena: Arena) -> None:
    """Records made to break the job, on both topics. What becomes of each, `test_hostile` looks at."""
    job, restarts = arena.job(), arena.restarts()
    for _ in range(arena.pick(2, 50)):
        for topic in (REGISTRY, HEARTBEAT):
            arena.log.records(topic, hostile.records(arena.random, 1000, beats=topic == HEARTBEAT))
    arena.until_changes_pass()
    assert (arena.job(), arena.restarts()) == (job, restarts), "a record restarted the job"


def _until_routed(arena: Arena, name: str, services: int, instances: int, *, within_s: float) -> None:
    """Return when the tables of a storm hold all of its instances."""
    eventually(lambda: _routed(arena, name, services) == instances, within_s=within_s)


def _routed(arena: Arena, name: str, services: int) -> int:
    return sum(len(arena.tables.ids(f"{name}-{n}")) for n in range(services))


def storm_of_registrations(arena: Arena) -> None:
    """Thousands of instances are registered at once; `until_changes_pass` waits behind them."""
    services, instances = arena.pick((50, 5_000), (1_000, 100_000))
    with arena.storm(services, instances) as name:
        arena.until_changes_pass()
        _until_routed(arena, name, services, instances, within_s=600)


def fleet_falls_silent(arena: Arena) -> None:
    """Thousands of instances never beat: their leases end together, and most are held in their tables until they beat
    together."""
    services, instances = arena.pick((20, 2_000), (1_000, 100_000))
    lease_s = arena.pick(40, 300)
    with arena.storm(services, instances, lease_s) as name:
        _until_routed(arena, name, services, instances, within_s=600)
        arena.canary.until_seen_again(600)

        def held() -> list[bool]:
            return [arena.tables.is_protected(f"{name}-{n}") for n in range(services)]

        began = time.monotonic()
        eventually(lambda: all(held()), within_s=900)
        arena.say(f"{instances} leases ended together {_felt(arena, began)}")
        # Not all: if a tick is missing, the leases of half of them end a lease later, and the brake sees two batches.
        assert _routed(arena, name, services) >= instances / 2

        began, beaten = time.monotonic(), -math.inf

        def are_back() -> bool:
            nonlocal beaten
            if time.monotonic() - beaten > lease_s / 3:
                beaten = time.monotonic()
                for number in range(instances):
                    arena.log.beat(f"{name}-i{number}")
                arena.log.flush()
            return not any(held()) and _routed(arena, name, services) == instances

        eventually(are_back, within_s=900)
        arena.say(f"{instances} leases were renewed together {_felt(arena, began)}")


def _felt(arena: Arena, began: float) -> str:
    took = [pulse.took for pulse in arena.canary.pulses if pulse.sent >= began and pulse.took < math.inf]
    return (
        f"within {time.monotonic() - began:.0f} s; of {len(took)} changes of another service half were seen after "
        f"{statistics.median(took):.3f} s, all after {max(took):.3f} s"
    )


def redis_wiped_under_a_large_fleet(arena: Arena) -> None:
    """FLUSHALL while 100,000 instances are registered."""
    services, instances = arena.pick((50, 5_000), (1_000, 100_000))
    with arena.storm(services, instances) as name:
        _until_routed(arena, name, services, instances, within_s=600)
        began = time.monotonic()
        with arena.redis() as client:
            client.flushall()
        _until_routed(arena, name, services, instances, within_s=600)
        arena.say(f"{instances} instances were back {time.monotonic() - began:.1f} s after FLUSHALL")


def rolling_restart_of_a_large_service(arena: Arena) -> None:
    """A quarter of a service of 5,000 endpoints is drained, deregistered and registered anew."""
    instances = arena.pick(500, 5_000)
    with arena.storm(services=1, instances=instances) as name:
        service = f"{name}-0"
        eventually(lambda: len(arena.tables.ids(service)) == instances, within_s=600)
        began = time.monotonic()
        for number in range(instances // 4):
            old = f"{name}-i{number}"
            arena.log.post(service, op="drain", instance=old)
            arena.log.post(service, op="deregister", instance=old)
            arena.log.post(service, op="register", instance=old, address="10.1.2.3", port=9090, lease_seconds=86_400)
        arena.log.flush()
        new = lambda: sum(port == 9090 for _, port in arena.tables.endpoints(service).values())  # noqa: E731
        eventually(lambda: new() == instances // 4 and len(arena.tables.ids(service)) == instances, within_s=600)
        arena.say(f"{instances // 4} of {instances} endpoints were replaced after {time.monotonic() - began:.1f} s")


SHORT: tuple[Fault, ...] = (
    task_manager_killed,
    task_manager_stopped,
    job_from_old_checkpoint,
    job_upgraded,
    second_copy_of_the_job,
    broker_killed,
    broker_stopped,
    everybody_silent,
    redis_killed,
    redis_stopped,
    redis_wiped,
    redis_failed_over,
    keys_evicted,
    storm_of_registrations,
)
"""In `make test`."""
LONG: tuple[Fault, ...] = (
    *SHORT,
    task_manager_killed_again_and_again,
    job_manager_killed,
    job_rescaled,
    witness_killed,
    hostile_flood,
    job_without_state,
    fleet_falls_silent,
    redis_wiped_under_a_large_fleet,
    rolling_restart_of_a_large_service,
)
"""In `make chaos`, in random order, for as long as it is told to."""
