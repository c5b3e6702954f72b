"""Keep one job running: submit it once, adopt it when it is there, resume it when it is gone.

A state machine advanced by its owner's loop, so that a slow submission never stops the loop from
restarting a dead server. It alone submits, one submission at a time, and looks for a living job of
the same name right before each: a job is never submitted twice.

Every submission goes to TaskManagers that ran no job before, because a Python interpreter inside a
TaskManager keeps the modules of the first job it ran (thread mode).
"""

from __future__ import annotations

import logging
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from waypost.flink import snapshots
from waypost.flink.rest import FlinkRefused, FlinkRest, FlinkUnavailable, Job
from waypost.flink.submission import JobRecord, Snapshots, run_command

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
SUBMIT_TIMEOUT_S = 180.0
"""A cold `flink run` takes ~10 s on two busy cores."""
SAVEPOINT_TIMEOUT_S = 60.0
ACCEPTED_GRACE_S = 10.0
"""A job the JobManager accepted is not called missing for this long, should its list lag behind."""
_RETRY_S = (2.0, 30.0)
_SUBMITTED = re.compile(r"JobID ([0-9a-f]{32})")


class Cluster(Protocol):
    """What the keeper needs from whoever runs the TaskManagers."""

    def replace_task_managers(self) -> None: ...

    def task_managers_are_fresh(self) -> bool: ...

    def fresh_task_managers(self) -> frozenset[str]: ...

    def task_managers_are_used(self) -> None: ...


class Phase(Enum):
    LOOKING = "looking"
    STOPPING = "stopping"
    WAITING = "waiting for fresh TaskManagers"
    SUBMITTING = "submitting"


@dataclass(frozen=True, kw_only=True)
class SubmitRequest:
    """Replace the running job by this one, with its state unless told otherwise."""

    id: str
    record: JobRecord
    keep_state: bool = True
    allow_non_restored: bool = False


class JobKeeper:
    """See the module. `tick` returns quickly; `report(what, detail, request)` receives what happened.

    `flink` is Flink's command. `start(command)` runs it and appends its output to `log`.
    """

    def __init__(
        self,
        *,
        record: JobRecord,
        flink: Path,
        stored: Snapshots,
        rest: FlinkRest,
        cluster: Cluster,
        addresses: tuple[str, ...],
        start: Callable[[list[str]], subprocess.Popen[bytes]],
        log: Path,
        report: Callable[[str, str, str | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.record = record
        self.running = False
        self._flink, self._stored, self._rest, self._cluster = flink, stored, rest, cluster
        self._addresses = addresses
        self._start, self._log = start, log
        self._report, self._clock = report, clock
        self._phase = Phase.LOOKING
        self._next_look = 0.0
        self._failures = 0
        self._pending: SubmitRequest | None = None
        self._request: SubmitRequest | None = None
        self._previous: JobRecord | None = None
        self._stopping: tuple[str, str | None, float] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._process_deadline = 0.0
        self._accepted_until = 0.0
        self._explained: str | None = None
        self._log_offset = 0

    @property
    def _request_id(self) -> str | None:
        return self._request.id if self._request else None

    @property
    def snapshot_directories(self) -> tuple[Path, Path]:
        return self._stored.of(self.record.name)

    def ask(self, request: SubmitRequest) -> None:
        """Replace the job; the answer comes as a report with the request's id."""
        if self._request is not None or self._pending is not None:
            self._report("refused", "another submission is under way", request.id)
            return
        self._pending = request
        self._next_look = 0.0

    def tick(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        try:
            {
                Phase.LOOKING: self._look,
                Phase.STOPPING: self._stop,
                Phase.WAITING: self._wait,
                Phase.SUBMITTING: self._watch,
            }[self._phase]()
        except FlinkUnavailable as error:
            # The JobManager is starting or gone; its part is restarted by the supervisor.
            self._set_running(False)
            log.debug("flink does not answer: %s", error)

    def close(self) -> None:
        """End a submission under way. The job itself is left alone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def living(self) -> Job | None:
        """Return the job of our name that has not ended, None when there is none."""
        return self._living_of(self._rest.jobs())

    def _living_of(self, listed: list[Job]) -> Job | None:
        return next((job for job in listed if job.name == self.record.name and not job.has_ended), None)

    # --- phases ---

    def _look(self) -> None:
        listed = self._rest.jobs()
        job = self._living_of(listed)
        if self._pending is not None:
            self._request, self._pending = self._pending, None
            self._set_running(False)
            if job is None:
                self._prepare_submission()
            else:
                self._begin_stop(job)
            return
        if job is None:
            self._set_running(False)
            just_accepted = self._clock() < self._accepted_until and all(j.id != self.record.id for j in listed)
            if not just_accepted:
                self._prepare_submission()
            return
        self._cluster.task_managers_are_used()
        if self.record.id != job.id:
            self.record = replace(self.record, id=job.id)
        self._set_running(job.is_running)
        if not job.is_running:
            self._explain(job)

    def _explain(self, job: Job) -> None:
        """Say once why the job does not come to run: it restarts for ever, and its list entry says nothing."""
        reason = self._rest.why_failed(job.id)
        if reason and reason != self._explained:
            self._explained = reason
            self._report("failing", reason, None)

    def _begin_stop(self, job: Job) -> None:
        deadline = self._clock() + SAVEPOINT_TIMEOUT_S
        trigger: str | None = None
        if job.is_running and self._request is not None and self._request.keep_state:
            trigger = self._rest.stop_with_savepoint(job.id, self.snapshot_directories[1].as_uri())
            self._report("stopping", f"job {job.id} with a savepoint", self._request_id)
        else:
            self._cancel(job.id)
            self._report("stopping", f"job {job.id} by cancelling", self._request_id)
        self._stopping = (job.id, trigger, deadline)
        self._phase = Phase.STOPPING
        self._next_look = 0.0

    def _stop(self) -> None:
        assert self._stopping is not None
        job_id, trigger, deadline = self._stopping
        self._next_look = self._clock() + 0.2
        if trigger is not None:
            try:
                complete = self._rest.savepoint(job_id, trigger) is not None
                if not complete and self._clock() < deadline:
                    return
                problem = None if complete else f"no savepoint within {SAVEPOINT_TIMEOUT_S:.0f} s"
            except FlinkRefused as error:
                problem = str(error)
            self._stopping = (job_id, None, deadline)
            if problem:
                # The newest checkpoint, at most an interval old, will do: the inputs are replayed from there.
                self._report("savepoint-failed", f"{problem}; resuming from the newest checkpoint", self._request_id)
                self._cancel(job_id)
        if self.living() is None:
            self._stopping = None
            self._prepare_submission()

    def _cancel(self, job_id: str) -> None:
        try:
            self._rest.cancel(job_id)
        except FlinkRefused as error:  # it ended by itself
            log.info("cancelling job=%s refused: %s", job_id, error)

    def _prepare_submission(self) -> None:
        if not self._cluster.task_managers_are_fresh():
            self._report("refreshing", "TaskManagers, so that no module of an earlier job is left", None)
            self._cluster.replace_task_managers()
        self._phase = Phase.WAITING
        self._next_look = 0.0

    def _wait(self) -> None:
        self._next_look = self._clock() + 0.2
        # The fresh ones need not have registered: the job waits for their slots, and a cold `flink run` takes
        # as long as they do. But none of the ended ones may still be listed, or the job is sent there.
        fresh = self._cluster.fresh_task_managers()
        if not fresh or not set(self._rest.task_managers()) <= fresh:
            return
        if self.living() is not None:  # e.g. a submission that seemed to fail had come through
            self._phase = Phase.LOOKING
            return
        self._submit()

    def _submit(self) -> None:
        request = self._request
        self._previous = self.record if request else None
        record = request.record if request else self.record
        roots = self.snapshot_directories
        snapshot = snapshots.newest(roots) if request is None or request.keep_state else None
        if snapshot is not None:
            snapshots.prune(roots)
        self.record = replace(record, id=None, restored_from=str(snapshot) if snapshot else None)
        command = run_command(
            self._flink,
            self.record,
            addresses=self._addresses,
            checkpoints=roots[0],
            snapshot=snapshot,
            allow_non_restored=bool(request and request.allow_non_restored),
        )
        self._log_offset = self._log.stat().st_size if self._log.exists() else 0
        self._process = self._start(command)
        self._process_deadline = self._clock() + SUBMIT_TIMEOUT_S
        origin = f" from {snapshot.parent.name}/{snapshot.name}" if snapshot else " with empty state"
        self._report("submitting", f"{record.module} build {record.build}{origin}", self._request_id)
        self._phase = Phase.SUBMITTING
        self._next_look = 0.0

    def _watch(self) -> None:
        assert self._process is not None
        self._next_look = self._clock() + 0.2
        code = self._process.poll()
        if code is None:
            if self._clock() > self._process_deadline:
                self._process.kill()
            return
        self._process = None
        request, self._request = self._request, None
        self._phase = Phase.LOOKING
        output = self._output()
        submitted = _SUBMITTED.search(output)
        request_id = request.id if request else None
        if code == 0 and submitted:
            self._failures = 0
            self._accepted_until = self._clock() + ACCEPTED_GRACE_S
            self._cluster.task_managers_are_used()
            self.record = replace(self.record, id=submitted.group(1))
            self._report("submitted", f"job {submitted.group(1)}", request_id)
            return
        reason = f"flink run ended with {code}: {_last_words(output)}"
        if self._previous is not None:
            self.record, self._previous = self._previous, None
            self._report("failed", f"{reason}; going back to build {self.record.build}", request_id)
            return
        first, longest = _RETRY_S
        pause = min(longest, first * 2**self._failures)
        self._failures += 1
        self._next_look = self._clock() + pause
        self._report("failed", f"{reason} (again in {pause:.0f} s)", request_id)

    def _output(self) -> str:
        try:
            with self._log.open("rb") as opened:
                opened.seek(self._log_offset)
                return opened.read().decode(errors="replace")
        except OSError:
            return ""

    def _set_running(self, running: bool) -> None:
        if running != self.running:
            self.running = running
            self._report("healthy" if running else "not running", f"job {self.record.id}", None)


def _last_words(output: str) -> str:
    """Return the line of a failed submission that most likely says why."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"(Error|Exception|Refus)\w*:", line) and not line.startswith("at ")]
    python = [line for line in telling if not line.startswith(("Caused by", "org.apache", "java."))]
    chosen = (python or telling or lines or ["no output"])[-1]
    return chosen[:400]
