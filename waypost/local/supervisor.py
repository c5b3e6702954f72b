"""The one process that owns a stack's servers: starts them, restarts what dies, keeps the job running.

One thread, one loop, a look at everything four times a second: nothing here waits for anything else.
It restarts *processes that ended*; a server that hangs is shown by `waypost status` and left alone,
because killing what is merely slow makes an overload worse.

Run as `python -m waypost.local.supervisor STATE_DIR OPTIONS_JSON` by `waypost up`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from waypost.errors import StackError, TopicError, WaypostError
from waypost.flink.keeper import Cluster, JobKeeper, SubmitRequest
from waypost.flink.rest import FlinkRefused, FlinkRest, FlinkUnavailable
from waypost.flink.standing import StandingTaskManagers
from waypost.flink.submission import JobRecord, Snapshots
from waypost.local import jars
from waypost.local.flink import Flink, TaskManagerMemory
from waypost.local.gateways import Envoy, Feed, Gateway, Traefik
from waypost.local.java import java_home
from waypost.local.kafka import Kafka
from waypost.local.ports import LOOPBACK, free_ports
from waypost.local.process import ProcessId, end, spawn
from waypost.local.state import Stack, load_stack
from waypost.local.valkey import Valkey
from waypost.topics import HEARTBEAT, default_topics, ensure_topics
from waypost.witness import DEFAULT_SHARDS

log = logging.getLogger(__name__)

TICK_S = 0.25
STOP_GRACE_S = 8.0
"""Kafka's orderly stop takes ~2 s; after this everything is killed."""
_BACKOFF_S = (0.2, 10.0)
_STABLE_AFTER_S = 30.0
ALREADY_RUNNING = 3
"""Exit status when another supervisor owns the state directory."""
PURGING = "purging"
"""Marker file: what runs is going to be deleted, so no savepoint and no orderly ends."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `waypost up` was asked for."""

    task_managers: int = 2
    """One slot each; those the job does not need stand by, so that a lost one costs a restart of the job only."""
    shards: int = DEFAULT_SHARDS
    job: JobRecord | None = None
    repair: JobRecord | None = None
    """The repair job, of the same build: it runs beside the other, in a TaskManager of its own."""
    flink_settings: Mapping[str, str] | None = None
    task_heap_mb: int = TaskManagerMemory.heap
    metrics: bool = False
    """Whether parts of ours and Flink's serve `/metrics`; Flink's listen on every interface."""
    gateway: str = "none"
    """`traefik`, `envoy` or `none`."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        data = json.loads(text)
        job, repair = data.pop("job"), data.pop("repair", None)
        return cls(**data, job=JobRecord.of(job) if job else None, repair=JobRecord.of(repair) if repair else None)


class Part:
    """One server process: how to start it, whether it serves, and when to try again."""

    def __init__(
        self,
        name: str,
        *,
        command: Callable[[], list[str]],
        probe: Callable[[], bool],
        environ: Mapping[str, str] | None = None,
        may_start: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.command, self.probe, self.environ, self.may_start = command, probe, environ, may_start
        self.process: subprocess.Popen[bytes] | None = None
        self.identity: ProcessId | None = None
        self.healthy = False
        self.restarts = 0
        self.started_at = 0.0
        self._failures = 0
        self._not_before = 0.0

    def start(self, state_dir: Path, log_dir: Path, now: float) -> None:
        self.process = spawn(
            self.command(), state_dir=state_dir, log=log_dir / f"{self.name}.out", environ=self.environ
        )
        self.identity = ProcessId.of(self.process.pid)
        self.started_at = now
        self.healthy = False

    def is_due(self, now: float) -> bool:
        return self.process is None and now >= self._not_before and self.may_start()

    def note_end(self, now: float) -> int | None:
        """Return the exit status when the process ended since the last look, and plan the next start."""
        if self.process is None or (status := self.process.poll()) is None:
            return None
        if now - self.started_at > _STABLE_AFTER_S:
            self._failures = 0
        first, longest = _BACKOFF_S
        self._not_before = now + min(longest, first * 2**self._failures)
        self._failures += 1
        self.restarts += 1
        self.process, self.identity, self.healthy = None, None, False
        return status

    def stop_now(self) -> None:
        """End the process at once and plan no pause: it is replaced, it did not fail."""
        if self.process is not None:
            if self.identity is not None:
                end([self.identity], grace=0.0)
            self.process.wait()
        self.process, self.identity, self.healthy, self._not_before = None, None, False, 0.0


class Supervisor:
    """See the module. `run` returns when it was asked to stop and everything has ended."""

    def __init__(self, state_dir: Path, options: Options) -> None:
        self.state_dir, self.options = state_dir, options
        self.log_dir = state_dir / "logs"
        self._began = time.monotonic()
        self._stop_asked = False
        self._topics_ready = False
        self._topics_next = 0.0
        self._ready = self._was_ready = False
        self._generation = 0
        self._resource_ids: dict[str, str] = {}
        self._fresh: set[str] = set()
        self._saved: Stack | None = None
        self.keeper: JobKeeper | None = None
        self.repairs: JobKeeper | None = None
        self._build()

    def run(self) -> None:
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sig, self._ask_stop)
        self._save()
        try:
            self._report("stack", "starting", str(self.state_dir))
            self.kafka.prepare()
            self.valkey.prepare()
            self.flink.prepare()
            if self.gateway is not None:
                self.gateway.prepare()
            while not self._stop_asked:
                self._tick()
                time.sleep(TICK_S)
        except WaypostError as error:
            self._report("stack", "failed", str(error))
            raise
        finally:
            self._shut_down()

    # --- Cluster, as the job keeper sees it ---

    def replace_task_managers(self) -> None:
        for part in self._task_managers:
            part.stop_now()

    def task_managers_are_fresh(self) -> bool:
        return all(part.name in self._fresh for part in self._task_managers if part.process is not None)

    def fresh_task_managers(self) -> frozenset[str]:
        """Return the resource ids of the unused TaskManagers, empty unless all of them are there and unused."""
        if any(part.process is None or part.name not in self._fresh for part in self._task_managers):
            return frozenset()
        return frozenset(self._resource_ids[part.name] for part in self._task_managers)

    def task_managers_are_used(self) -> None:
        self._fresh.clear()

    # --- the loop ---

    def _tick(self) -> None:
        now = time.monotonic()
        for part in self.parts:
            status = part.note_end(now)
            if status is not None:
                self._report(part.name, "ended", f"status {status}, restarting")
            if part.is_due(now):
                part.start(self.state_dir, self.log_dir, now)
            if part.process is not None and not part.healthy and part.probe():
                part.healthy = True
                self._report(part.name, "healthy", self._address(part.name))
        self._prepare_topics(now)
        self._read_requests()
        if self.keeper is not None and self._servers_healthy():
            self.keeper.tick()
        # After the other: that one alone replaces TaskManagers, and this one takes what is left.
        if self.repairs is not None and self._servers_healthy() and (self.keeper is None or self.keeper.running):
            self.repairs.tick()
        # The first time all TaskManagers are waited for; later a standby may be missing for a while.
        complete = self._was_ready or all(part.healthy for part in self._task_managers)
        ready = complete and self._servers_healthy()
        ready = ready and all(keeper.running for keeper in (self.keeper, self.repairs) if keeper is not None)
        ready = ready and all(part.healthy for part in self._gateway_parts)
        became_ready = ready and not self._ready
        self._ready = ready
        self._was_ready = self._was_ready or ready
        self._save()
        if became_ready:  # after saving: whoever reads of it here finds it there
            self._report("stack", "ready", "")

    def _servers_healthy(self) -> bool:
        # One TaskManager may be down (its standby works); the keeper itself waits for all before it submits. The job
        # waits for no gateway: it is the other way round.
        spared = [*self._task_managers, *self._gateway_parts]
        return self._topics_ready and all(part.healthy for part in self.parts if part not in spared)

    def _prepare_topics(self, now: float) -> None:
        if self._topics_ready or not self._kafka_part.healthy or now < self._topics_next:
            return
        try:
            done = ensure_topics(self.kafka.bootstrap, default_topics())
        except TopicError as error:
            self._topics_next = now + 2.0
            self._report("topics", "failed", str(error))
            return
        self._topics_ready = True
        self._report("topics", "healthy", f"{len(done)} topics")

    def _read_requests(self) -> None:
        for path in sorted((self.state_dir / "requests").glob("*.json")):
            try:
                data = json.loads(path.read_text())
                record = JobRecord(**{**data.pop("record"), "arguments": tuple(data.pop("arguments"))})
                request = SubmitRequest(record=record, **data)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._report("stack", "refused", f"unreadable request {path.name}: {error}")
            else:
                if self.keeper is None:
                    self.keeper = self._keeper(record)
                self.keeper.ask(request)
            path.unlink(missing_ok=True)

    # --- composition ---

    def _build(self) -> None:
        earlier = _earlier_stack(self.state_dir)
        measured = self._measured_parts()
        wanted: list[int | None] = [None] * 9
        if earlier is not None:
            wanted = [
                _port(earlier.kafka_bootstrap),
                earlier.kafka_controller_port,
                _port(earlier.redis_url),
                _port(earlier.flink_rest),
                earlier.flink_rpc_port,
                earlier.flink_blob_port,
                *(
                    _port(url) if url else None
                    for url in (earlier.feed_url, earlier.gateway_url, earlier.gateway_admin)
                ),
            ]
        known = earlier.metrics if earlier is not None else {}
        wanted += [_port(known[part].removesuffix("/metrics")) if part in known else None for part in measured]
        kafka_port, controller_port, redis_port, rest_port, rpc_port, blob_port, *others = free_ports(wanted)
        gateway_ports, metrics_ports = others[:3], others[3:]
        self._metrics_ports = dict(zip(measured, metrics_ports, strict=True))
        java = java_home()
        self.kafka = Kafka(
            directory=self.state_dir / "kafka",
            jars=jars.kafka_jars(),
            java_home=java,
            port=kafka_port,
            controller_port=controller_port,
        )
        self.valkey = Valkey(directory=self.state_dir / "valkey", port=redis_port)
        self.flink = Flink(
            directory=self.state_dir / "flink",
            java_home=java,
            log_dir=self.log_dir,
            rest_port=rest_port,
            rpc_port=rpc_port,
            blob_port=blob_port,
            connector_jars=tuple(jars.flink_connector_jars()),
            snapshots=Snapshots(checkpoints=self.state_dir / "checkpoints", savepoints=self.state_dir / "savepoints"),
            memory=TaskManagerMemory(heap=self.options.task_heap_mb),
            extra_settings=self.options.flink_settings or {},
            metrics_ports=self._metrics_ports,
        )
        self.rest = FlinkRest(url=self.flink.rest)
        self._build_gateway(*gateway_ports)
        self._kafka_part = Part("kafka", command=self.kafka.command, probe=self.kafka.is_healthy)
        self._task_managers = [self._task_manager(i + 1) for i in range(self.options.task_managers)]
        self.parts = [
            Part("valkey", command=self.valkey.command, probe=self.valkey.is_healthy),
            self._kafka_part,
            Part(
                "jobmanager",
                command=self.flink.job_manager_command,
                probe=self.rest.is_healthy,
                environ=self.flink.environ(),
            ),
            *self._task_managers,
            self._witness(),
            *self._gateway_parts,
        ]
        record = self.options.job
        if record is None and earlier is not None:
            record = earlier.job
        self.keeper = self._keeper(record) if record else None
        if self.options.repair is not None:
            # It never asks for fresh ones: of one build, either job may be where the other was.
            self.repairs = self._keeper(self.options.repair, StandingTaskManagers(self.rest), "repair job")

    def _measured_parts(self) -> list[str]:
        if not self.options.metrics:
            return []
        return ["jobmanager", *(f"taskmanager-{i + 1}" for i in range(self.options.task_managers)), "witness"]

    def _build_gateway(self, feed_port: int, port: int, admin_port: int) -> None:
        self.gateway: Gateway | None = None
        self._gateway_parts: list[Part] = []
        kind = self.options.gateway
        if kind == "none":
            return
        self.feed = feed = Feed(redis_url=self.valkey.url, port=feed_port)
        make: Callable[..., Gateway] = {"traefik": Traefik, "envoy": Envoy}[kind]
        gateway = make(directory=self.state_dir / kind, port=port, admin_port=admin_port, feed_url=feed.url)
        self.gateway = gateway
        gateway.command()  # raises when the program is missing: now, not again and again later
        self._gateway_parts = [
            Part("gateway-feed", command=feed.command, probe=feed.is_healthy),
            Part(kind, command=gateway.command, probe=gateway.is_healthy),
        ]

    def _task_manager(self, number: int) -> Part:
        name = f"taskmanager-{number}"

        def command() -> list[str]:
            self._generation += 1
            self._resource_ids[name] = f"{name}.{int(self._began)}-{self._generation}"
            self._fresh.add(name)
            return self.flink.task_manager_command(self._resource_ids[name])

        def is_registered() -> bool:
            try:
                return self._resource_ids[name] in self.rest.task_managers()
            except (FlinkUnavailable, FlinkRefused):
                return False

        return Part(name, command=command, probe=is_registered, environ=self.flink.environ())

    def _witness(self) -> Part:
        command = [
            sys.executable,
            "-m",
            "waypost",
            "witness",
            "--kafka",
            self.kafka.bootstrap,
            "--topic",
            default_topics()[HEARTBEAT].name,
            "--shards",
            str(self.options.shards),
        ]
        if "witness" in self._metrics_ports:
            command += ["--metrics-port", str(self._metrics_ports["witness"])]
        # It says itself, by the log's first line, that it sends; that the process lives is enough here.
        return Part("witness", command=lambda: command, probe=lambda: True, may_start=lambda: self._topics_ready)

    def _keeper(self, record: JobRecord, cluster: Cluster | None = None, part: str = "job") -> JobKeeper:
        submit_log = self.log_dir / ("submit.log" if cluster is None else "submit-repair.log")
        return JobKeeper(
            record=record,
            flink=self.flink.run_command,
            stored=self.flink.snapshots,
            rest=self.rest,
            cluster=cluster or self,
            # Not part of the record: the ports may differ from run to run, and witness and job must agree on shards.
            addresses=(
                "--set",
                f"kafka.bootstrap={self.kafka.bootstrap}",
                "--set",
                f"redis.url={self.valkey.url}",
                "--set",
                f"lease.shards={self.options.shards}",
            ),
            start=lambda command: spawn(
                command, state_dir=self.state_dir, log=submit_log, environ=self.flink.environ()
            ),
            log=submit_log,
            report=lambda what, detail, request: self._report(part, what, detail, request),
        )

    # --- what others see ---

    def _address(self, part: str) -> str:
        addresses = {"kafka": self.kafka.bootstrap, "valkey": self.valkey.url, "jobmanager": self.flink.rest}
        if self.gateway is not None:
            addresses.update({"gateway-feed": self.feed.url, self.options.gateway: self.gateway.url})
        return addresses.get(part, "")

    def _save(self) -> None:
        stack = Stack(
            state_dir=self.state_dir,
            kafka_bootstrap=self.kafka.bootstrap,
            kafka_controller_port=self.kafka.controller_port,
            redis_url=self.valkey.url,
            flink_rest=self.flink.rest,
            flink_rpc_port=self.flink.rpc_port,
            flink_blob_port=self.flink.blob_port,
            task_managers=self.options.task_managers,
            gateway=self.options.gateway,
            gateway_url=self.gateway.url if self.gateway else "",
            gateway_admin=self.gateway.admin if self.gateway else "",
            feed_url=self.feed.url if self.gateway else "",
            supervisor=ProcessId.of(os.getpid()),
            parts={part.name: part.identity for part in self.parts if part.identity is not None},
            restarts={part.name: part.restarts for part in self.parts},
            job=self.keeper.record if self.keeper else None,
            repair=self.repairs.record if self.repairs else None,
            ready=self._ready,
            metrics={part: f"http://{LOOPBACK}:{port}/metrics" for part, port in self._metrics_ports.items()},
        )
        if stack != self._saved:
            stack.save()
            self._saved = stack

    def _report(self, part: str, what: str, detail: str, request: str | None = None) -> None:
        event: dict[str, Any] = {
            "at": time.time(),
            "elapsed": round(time.monotonic() - self._began, 1),
            "part": part,
            "what": what,
            "detail": detail,
        }
        if request:
            event["request"] = request
        with (self.state_dir / "events.jsonl").open("a") as diary:
            diary.write(json.dumps(event) + "\n")
        log.info("part=%s what=%s detail=%r", part, what, detail)

    # --- the end ---

    def _ask_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop_asked = True

    def _shut_down(self) -> None:
        purging = (self.state_dir / PURGING).exists()
        self._report("stack", "stopping", "")
        for keeper in filter(None, (self.keeper, self.repairs)):
            keeper.close()
            if not purging:
                with contextlib.suppress(StackError):
                    self._save_job(keeper)
        end([p.identity for p in self.parts if p.identity], grace=0.0 if purging else STOP_GRACE_S)
        if self._saved is not None:
            with contextlib.suppress(OSError):
                self._saved.stopped().save()
        self._report("stack", "stopped", "")

    def _save_job(self, keeper: JobKeeper, wait_s: float = 15.0) -> None:
        """Stop the job with a savepoint when that is quick; otherwise its newest checkpoint has to do."""
        job = keeper.living()
        if job is None or not job.is_running:
            return
        deadline = time.monotonic() + wait_s
        trigger = self.rest.stop_with_savepoint(job.id, keeper.snapshot_directories[1].as_uri())
        while self.rest.savepoint(job.id, trigger) is None and time.monotonic() < deadline:
            time.sleep(0.1)


def _earlier_stack(state_dir: Path) -> Stack | None:
    try:
        return load_stack(state_dir)
    except StackError:
        return None


def _port(address: str) -> int | None:
    return int(address.rpartition(":")[2].partition("/")[0]) if address else None


def main(arguments: list[str]) -> int:
    state_dir, options = Path(arguments[0]), Options.from_json(arguments[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)
    with (state_dir / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            log.info("another supervisor owns %s", state_dir)
            return ALREADY_RUNNING
        try:
            Supervisor(state_dir, options).run()
        except WaypostError as error:
            log.error("stopped: %s", error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
