"""Start, stop, inspect and feed a local stack: what the command line calls.

Everything here works on the state directory and may be interrupted at any moment; running the same
thing again, or `down`, always leads back to a known state.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from waypost.errors import StackError
from waypost.flink.rest import FlinkRest
from waypost.flink.submission import JobRecord
from waypost.local import job_zip
from waypost.local.gateways import READY, answers
from waypost.local.kafka import broker_answers
from waypost.local.process import GUEST, ProcessId, belonging_to, end, send, spawn
from waypost.local.state import Stack, load_stack, running_stack, write_whole
from waypost.local.supervisor import PURGING, STOP_GRACE_S, Options
from waypost.local.valkey import redis_answers

MARKER = "waypost-state"
"""File that says a directory is ours: `down --purge` deletes nothing else."""
JOB_NAME = "waypost-route-table"
JOB_MODULE = "jobs.route_table"
REPAIR_NAME = "waypost-repair"
REPAIR_MODULE = "jobs.repair"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the supervisor's diary."""

    elapsed: float
    part: str
    what: str
    detail: str
    request: str | None = None


# --- up ---------------------------------------------------------------------------------------


def start(state_dir: Path, options: Options, *, dies_with_us: bool) -> subprocess.Popen[bytes]:
    """Start the supervisor of a state directory. `dies_with_us`: it stops the stack when this process ends."""
    claim(state_dir)
    (state_dir / PURGING).unlink(missing_ok=True)
    (state_dir / "events.jsonl").unlink(missing_ok=True)
    shutil.rmtree(state_dir / "requests", ignore_errors=True)
    return spawn(
        [sys.executable, "-m", "waypost.local.supervisor", str(state_dir), options.to_json()],
        state_dir=state_dir,
        log=state_dir / "logs" / "supervisor.log",
        death_signal=signal.SIGTERM if dies_with_us else None,
    )


def claim(state_dir: Path) -> None:
    """Make the directory ours; raises `StackError` when it holds somebody else's files."""
    state_dir.mkdir(parents=True, exist_ok=True)
    if not (state_dir / MARKER).exists():
        if any(state_dir.iterdir()):
            raise StackError(f"{state_dir} exists and is not a Waypost state directory; choose another --state-dir")
        (state_dir / MARKER).write_text("Made by `waypost up`; `waypost down --purge` deletes this directory.\n")


def follow(
    state_dir: Path,
    *,
    until: Callable[[Event], bool],
    alive: Callable[[], bool],
    timeout_s: float,
    offset: int = 0,
) -> Iterator[Event]:
    """Yield what the supervisor noted from `offset` (see `diary_end`) on, to the event for which `until` holds.

    Raises `StackError` when the supervisor ends or the time is up.
    """
    path = state_dir / "events.jsonl"
    deadline = time.monotonic() + timeout_s
    while True:
        was_alive = alive()
        for event, end_of_line in _events(path, offset):
            offset = end_of_line
            yield event
            if until(event):
                return
        if not was_alive:
            raise StackError(f"the supervisor ended; see {state_dir / 'logs' / 'supervisor.log'}")
        if time.monotonic() > deadline:
            raise StackError(f"not there after {timeout_s:.0f} s; see {state_dir / 'logs'}")
        time.sleep(0.1)


def diary_end(state_dir: Path) -> int:
    """Return the offset behind the last event so far."""
    return (state_dir / "events.jsonl").stat().st_size


def _events(path: Path, offset: int) -> Iterator[tuple[Event, int]]:
    try:
        with path.open("rb") as diary:
            diary.seek(offset)
            for line in diary:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                data = json.loads(line)
                data.pop("at")
                yield Event(**data), offset
    except FileNotFoundError:
        return


def repair_of(record: JobRecord, kubeconfig: Path | None) -> JobRecord:
    """Return the repair job that goes with a route job: the same build, and the same settings."""
    reach = ("--set", f"repair.kubeconfig={kubeconfig.resolve()}") if kubeconfig else ()
    return replace(record, name=REPAIR_NAME, module=REPAIR_MODULE, arguments=record.arguments + reach)


def pack_job(
    state_dir: Path, *, archive: Path | None = None, module: str = JOB_MODULE, name: str = JOB_NAME,
    arguments: tuple[str, ...] = (),
) -> JobRecord:  # fmt: skip
    """Return the job to run: built from the source tree (also left in `dist/`), or a given archive.

    The stack keeps a copy per build: a later build of the tree must not change what is resubmitted after a crash.
    """
    if archive is None:
        root = job_zip.source_root()
        archive = root / "dist" / job_zip.NAME
        build = job_zip.build(root, archive)
    else:
        build = job_zip.build_id_of(archive)
    kept = state_dir / "jobs" / f"waypost-job-{build}.zip"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        scratch = kept.with_suffix(".part")
        shutil.copyfile(archive, scratch)
        scratch.replace(kept)
    return JobRecord(name=name, module=module, zip=str(kept), build=build, arguments=arguments)


# --- submit -----------------------------------------------------------------------------------


def request_submission(state_dir: Path, record: JobRecord, *, keep_state: bool, allow_non_restored: bool) -> str:
    """Ask the running supervisor to replace the job; returns the request's id, found in its events."""
    running_stack(state_dir)
    request_id = uuid.uuid4().hex[:12]
    request = {
        "id": request_id,
        "record": {k: v for k, v in asdict(record).items() if k != "arguments"},
        "arguments": list(record.arguments),
        "keep_state": keep_state,
        "allow_non_restored": allow_non_restored,
    }
    write_whole(state_dir / "requests" / f"{time.time_ns()}-{request_id}.json", json.dumps(request))
    return request_id


# --- down -------------------------------------------------------------------------------------


def stop(state_dir: Path, *, purge: bool = False, say: Callable[[str], None] = lambda _: None) -> bool:
    """Stop everything that belongs to the state directory; returns whether anything ran.

    First the programs that use the stack, while they can still deregister; then the supervisor, which stops the job
    with a savepoint; then, whatever became of the supervisor,
    every process that is recorded or carries the directory in its environment.
    """
    stack = _recorded(state_dir)
    found_any = False
    if purge and (state_dir / MARKER).exists():
        (state_dir / PURGING).touch()
    if not purge and (guests := belonging_to(state_dir, variable=GUEST)):
        found_any = True
        say(f"ending {len(guests)} processes of programs that use it")
        end(guests, grace=10.0)
    supervisor = stack.supervisor if stack else None
    if supervisor is not None and supervisor.is_alive():
        found_any = True
        say("stopping the job and its servers")
        send(supervisor, signal.SIGTERM)
        # The savepoint may take 15 s, the servers their grace.
        _wait_gone(supervisor, 15.0 + STOP_GRACE_S + 10.0)
    while left := _left_behind(state_dir):
        found_any = True
        say(f"ending {len(left)} leftover process{'es' if len(left) > 1 else ''}")
        end(left, grace=0.0 if purge else 3.0)
    stack = _recorded(state_dir)
    if stack is not None and (stack.supervisor is not None or stack.parts):
        stack.stopped().save()
    if purge and (state_dir / MARKER).exists():
        shutil.rmtree(state_dir)
    return found_any


def _left_behind(state_dir: Path) -> list[ProcessId]:
    recorded = _recorded(state_dir)
    known = set(recorded.parts.values()) if recorded else set()
    if recorded and recorded.supervisor:
        known.add(recorded.supervisor)
    return [p for p in known | set(belonging_to(state_dir)) if p.is_alive()]


def _recorded(state_dir: Path) -> Stack | None:
    with contextlib.suppress(StackError):
        return load_stack(state_dir)
    return None


def _wait_gone(process: ProcessId, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)


# --- status -----------------------------------------------------------------------------------


def status(stack: Stack) -> dict[str, Any]:
    """Return every part with its address and its health, asked for now (not what the supervisor believes)."""
    rest = FlinkRest(url=stack.flink_rest)
    witness = stack.parts.get("witness")
    report: dict[str, Any] = {
        "state_dir": str(stack.state_dir),
        "supervisor": {
            "pid": stack.supervisor.pid if stack.supervisor else None,
            "healthy": stack.is_up,
        },
        "kafka": {"bootstrap": stack.kafka_bootstrap, "healthy": broker_answers(stack.kafka_bootstrap)},
        "redis": {"url": stack.redis_url, "healthy": redis_answers(stack.redis_url)},
        "flink": {"rest": stack.flink_rest, **_flink_status(rest, stack)},
        "witness": {"pid": witness.pid if witness else None, "healthy": witness is not None and witness.is_alive()},
        "jobs": _jobs_status(rest, stack),
        "metrics": dict(stack.metrics),
    }
    names = ["supervisor", "kafka", "redis", "flink", "witness"]
    if stack.gateway != "none":
        report["gateway"] = _gateway_status(stack)
        names.append("gateway")
    parts = [report[name] for name in names]
    report["healthy"] = all(part["healthy"] for part in [*parts, *report["jobs"]])
    return report


def _flink_status(rest: FlinkRest, stack: Stack) -> dict[str, Any]:
    try:
        present = len(rest.task_managers())
    except StackError:
        return {"task_managers": 0, "task_managers_wanted": stack.task_managers, "healthy": False}
    return {
        "task_managers": present,
        "task_managers_wanted": stack.task_managers,
        "healthy": present >= stack.task_managers,
    }


def _gateway_status(stack: Stack) -> dict[str, Any]:
    return {
        "kind": stack.gateway,
        "url": stack.gateway_url,
        "admin": stack.gateway_admin,
        "feed": stack.feed_url,
        # The feed has tables once the job has opened the store.
        "feed_ready": answers(f"{stack.feed_url}/readyz"),
        "healthy": answers(f"{stack.feed_url}/healthz") and answers(stack.gateway_admin + READY[stack.gateway]),
    }


def _jobs_status(rest: FlinkRest, stack: Stack) -> list[dict[str, Any]]:
    try:
        living = [job for job in rest.jobs() if not job.has_ended]
    except StackError:
        living = []
    jobs = []
    for job in living:
        entry: dict[str, Any] = {"name": job.name, "id": job.id, "state": job.state, "build": None}
        with contextlib.suppress(StackError):
            entry["build"] = rest.build_of(job.id)
        for record in filter(None, (stack.job, stack.repair)):
            if entry["build"] is None and record.id == job.id:
                entry["build"] = record.build
        entry["healthy"] = job.is_running
        if not job.is_running:
            if job.state == "RUNNING":
                entry["state"] = "INITIALIZING"
            with contextlib.suppress(StackError):
                entry["reason"] = rest.why_failed(job.id)
        jobs.append(entry)
    for record in filter(None, (stack.job, stack.repair)):
        if not any(entry["name"] == record.name for entry in jobs):
            jobs.append(
                {"name": record.name, "id": record.id, "state": "MISSING", "build": record.build, "healthy": False}
            )
    return jobs
