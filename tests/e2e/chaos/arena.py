"""One cluster, a canary in it, registrations that come and go, and a fault now and then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import redis

from tests.e2e.chaos.canary import SERVICE, Canary
from tests.e2e.chaos.churn import Churn
from tests.e2e.chaos.faults import RECOVERY_S, Fault
from tests.e2e.flink_rest import restarts
from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables, eventually
from waypost.client.keys import Keys
from waypost.flink.rest import FlinkRest, FlinkUnavailable
from waypost.flink.submission import Snapshots
from waypost.local.flink import Flink
from waypost.local.java import java_home
from waypost.local.state import Stack, load_stack

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fault did. Times in seconds."""

    fault: str
    lasted: float
    back_after: float
    """From the beginning of the fault until readers had seen the last change that came late (by half a second)."""
    longest: float
    """The longest that readers waited for a change."""
    right_after: float
    """From the beginning until every table was what the log means, and the canary's as its instances."""
    calls: int
    """Requests through the gateway, and how many of them failed because they met somebody dead."""
    failed_calls: int

    def __str__(self) -> str:
        return (
            f"{self.fault.replace('_', ' ')}: lasted {self.lasted:.1f} s; changes in time again after "
            f"{self.back_after:.1f} s, the latest {self.longest:.1f} s late; all right after {self.right_after:.1f} s; "
            f"{self.failed_calls} of {self.calls} requests met somebody dead"
        )


class Arena:
    """Use as a context manager; everything in it belongs to one thread."""

    def __init__(
        self, state_dir: Path, random: Random, *, long: bool = False, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.state_dir, self.random, self.say = state_dir, random, say
        self.broken_by = ""
        self._long = long

    def __enter__(self) -> Arena:
        with contextlib.ExitStack() as undo:
            self.log = LogWriter(self.stack.kafka_bootstrap)
            undo.callback(self.log.close)
            self.tables = Tables(self.stack.redis_url)
            undo.callback(self.tables.close)
            self.churn = Churn(self.stack.kafka_bootstrap, self.random)
            undo.callback(self.churn.close)
            self.canary = undo.enter_context(Canary(self.stack))
            self.canary.until_well(RECOVERY_S)
            self.canary.until_seen_again(RECOVERY_S)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def strike(self, fault: Fault) -> Outcome:
        """Let a fault happen and its recovery; raises AssertionError for whatever is not as promised.

        After that nothing can be said of further faults: each raises at once.
        """
        assert not self.broken_by, f"nothing can be said after {self.broken_by}"
        try:
            return self._struck(fault)
        except BaseException:
            self.broken_by = fault.__name__
            print(self._last_words(), flush=True)
            raise

    def _struck(self, fault: Fault) -> Outcome:
        calls, failed = self.canary.calls, self.canary.failed_calls
        self.churn.begin()
        self.canary.until_deaths(1, RECOVERY_S)
        began = time.monotonic()
        fault(self)
        lasted = time.monotonic() - began
        self.canary.until_seen_again(RECOVERY_S)
        self.churn.end(RECOVERY_S)
        self._until_right()
        self.canary.until_well(RECOVERY_S)
        right = time.monotonic() - began
        self.canary.until_deaths(1, RECOVERY_S)
        late = self.canary.late(began)
        assert self.canary.wrongs == [], f"{fault.__name__}: {self.canary.wrongs}"
        return Outcome(
            fault=fault.__name__,
            lasted=lasted,
            back_after=max((pulse.seen - began for pulse in late if pulse.seen), default=0.0),
            longest=max((pulse.took for pulse in late), default=0.0),
            right_after=right,
            calls=self.canary.calls - calls,
            failed_calls=self.canary.failed_calls - failed,
        )

    def _last_words(self) -> str:
        """Return what a reader of a failure needs: the directory is gone then."""
        events = (self.state_dir / "events.jsonl").read_text().splitlines()
        told = [f"{e['at']:.1f} {e['part']} {e['what']} {e['detail']}" for e in map(json.loads, events[-40:])]
        with contextlib.suppress(redis.RedisError):
            keys = Keys()
            told += [f"meta {self.tables.redis.hgetall(keys.meta(SERVICE))}"]
            told += [f"{name} {text}" for name, text in self.tables.redis.hgetall(keys.instances(SERVICE)).items()]
        return "\n".join([f"now {time.time():.1f}, wrongs {self.canary.wrongs}", self.canary.story(), *told])

    def _until_right(self) -> None:
        deadline = time.monotonic() + RECOVERY_S
        while True:
            wanted = self.churn.wanted()
            with contextlib.suppress(redis.RedisError):
                found = self.churn.found(self.tables)
                wrong = {service for service in wanted if found.get(service) != wanted[service]}
                if not wrong:
                    return
                assert time.monotonic() < deadline, {s: (wanted[s], found.get(s)) for s in sorted(wrong)[:3]}
            time.sleep(0.2)

    # --- what faults need -------------------------------------------------------------------------

    @property
    def stack(self) -> Stack:
        """The stack as its supervisor wrote it down last."""
        return load_stack(self.state_dir)

    @property
    def snapshots(self) -> tuple[Path, Path]:
        """Where the job's checkpoints and savepoints are."""
        job = self.stack.job
        assert job is not None
        return self._stored.of(job.name)

    @property
    def flink(self) -> Flink:
        """The stack's Flink, for its command line."""
        stack = self.stack
        return Flink(
            directory=self.state_dir / "flink",
            java_home=java_home(),
            log_dir=self.state_dir / "logs",
            rest_port=int(stack.flink_rest.rpartition(":")[2]),
            rpc_port=stack.flink_rpc_port,
            blob_port=stack.flink_blob_port,
            connector_jars=(),
            snapshots=self._stored,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The settings by which a job finds this stack."""
        return "--set", f"kafka.bootstrap={self.stack.kafka_bootstrap}", "--set", f"redis.url={self.stack.redis_url}"

    def pick(self, short: T, long: T) -> T:
        return long if self._long else short

    def job(self) -> str | None:
        """Return the id of the job that runs with all its tasks, None when none does."""
        with contextlib.suppress(FlinkUnavailable):
            return next((job.id for job in self.rest.jobs() if job.is_running), None)
        return None

    def restarts(self) -> int:
        """Return how often the job's tasks were started anew."""
        return restarts(self.stack, eventually(self.job))

    def restored_from(self) -> str:
        """Return the snapshot that the running job began with."""
        job = self.stack.job
        return (job.restored_from if job else None) or ""

    def working(self) -> str:
        """Return the part that runs the job; raises ValueError when there is none, or two."""
        try:
            [working] = self.rest.working()
        except FlinkUnavailable as error:
            raise ValueError("the JobManager does not answer") from error
        return working.partition(".")[0]

    def kill(self, part: str) -> None:
        os.kill(self.stack.parts[part].pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        pid = self.stack.parts[part].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.stack.redis_url, decode_responses=True)

    def waypost(self, *arguments: str) -> None:
        """Run a command on this stack; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "waypost", *arguments, "--state-dir", str(self.state_dir)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def until_changes_pass(self) -> None:
        """Return when a change that is written now is visible."""
        number = self.random.randrange(10**9)
        self.log.register("passing", f"p-{number}", 8080, lease=86_400)
        eventually(lambda: f"p-{number}" in self.tables.ids("passing"), RECOVERY_S)
        self.log.event("passing", op="deregister", instance=f"p-{number}")

    @contextlib.contextmanager
    def storm(self, services: int, instances: int, lease_s: int = 86_400) -> Iterator[str]:
        """Register so many instances of services `<name>-<number>` at once; after the block they are deregistered, and
        it ends when they are gone, for that is a storm as well."""
        name = f"storm-{self.random.randrange(10**9)}"
        self.log.storm(name, services=services, instances=instances, lease_s=lease_s)
        yield name
        for number in range(instances):
            self.log.post(f"{name}-{number % services}", op="deregister", instance=f"{name}-i{number}")
        self.log.flush()
        eventually(lambda: not any(self.tables.ids(f"{name}-{n}") for n in range(services)), within_s=900)

    @property
    def rest(self) -> FlinkRest:
        return FlinkRest(url=self.stack.flink_rest, timeout=10)

    @property
    def _stored(self) -> Snapshots:
        return Snapshots(checkpoints=self.state_dir / "checkpoints", savepoints=self.state_dir / "savepoints")
