"""Keep a job running on a Flink cluster that somebody else runs, e.g. docker-compose.

The TaskManagers are not ours to replace. They run one image with one build of the jobs, so a resumed job finds the
modules it was written with; whoever brings a new build brings new TaskManagers.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from waypost.flink.keeper import JobKeeper
from waypost.flink.rest import FlinkRest, FlinkUnavailable
from waypost.flink.submission import JobRecord, Snapshots

_TICK_S = 0.25


class StandingTaskManagers:
    """The keeper's view of TaskManagers that stand by themselves: always fit for a job once they are there."""

    def __init__(self, rest: FlinkRest) -> None:
        self._rest = rest

    def replace_task_managers(self) -> None:
        """Nothing: `task_managers_are_fresh` never asks for it."""

    def task_managers_are_fresh(self) -> bool:
        return True

    def fresh_task_managers(self) -> frozenset[str]:
        return frozenset(self._rest.task_managers())

    def task_managers_are_used(self) -> None:
        """Nothing to remember: the next job is of the same build."""


def keep_running(
    *,
    record: JobRecord,
    flink: Path,
    rest: FlinkRest,
    stored: Snapshots,
    log: Path,
    report: Callable[[str, str], None],
    stopped: threading.Event,
    on_running: Callable[[], None] = lambda: None,
) -> None:
    """Submit the job unless it runs, resume it from its newest snapshot whenever it is gone; until `stopped`.

    The job itself is left running at the end. Submissions write what Flink's command says to `log`. `on_running` is
    called again and again while every task of the job runs: a sign of life.
    """
    log.parent.mkdir(parents=True, exist_ok=True)

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    keeper = JobKeeper(
        record=record,
        flink=flink,
        stored=stored,
        rest=rest,
        cluster=StandingTaskManagers(rest),
        addresses=(),
        start=start,
        log=log,
        report=lambda what, detail, _request: report(what, detail),
    )
    try:
        while not stopped.wait(_TICK_S):
            keeper.tick()
            if keeper.running:
                on_running()
    finally:
        keeper.close()


def is_running(rest: FlinkRest, name: str) -> tuple[bool, str]:
    """Return whether every task of the job of this name runs, and one line that says what is there."""
    try:
        job = next((job for job in rest.jobs() if job.name == name and not job.has_ended), None)
    except FlinkUnavailable as error:
        return False, f"the JobManager does not answer: {error}"
    if job is None:
        return False, f"no job {name} at {rest.url}"
    detail = f"job {name} {job.id} {job.state}, {job.tasks_running} of {job.tasks_total} tasks run"
    reason = None if job.is_running else rest.why_failed(job.id)
    return job.is_running, f"{detail}: {reason}" if reason else detail
