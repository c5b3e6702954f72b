"""The few calls of Flink's REST API that a keeper needs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waypost.errors import StackError

ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})
"""States in which a job holds no slot and writes nothing."""

BUILD_PARAMETER = "waypost.build"
"""Global job parameter by which a running job says which code it is."""


class FlinkUnavailable(StackError):
    """The JobManager did not answer; ask again later."""


class FlinkRefused(StackError):
    """The JobManager answered that it cannot: asking again changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the JobManager lists it."""

    id: str
    name: str
    state: str
    tasks_running: int = 0
    tasks_total: int = 0

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_running(self) -> bool:
        """Every task runs. `RUNNING` alone is said of a job that still waits for its slots."""
        return self.state == "RUNNING" and self.tasks_total > 0 and self.tasks_running == self.tasks_total


@dataclass(frozen=True, kw_only=True)
class FlinkRest:
    """A client that waits at most `timeout` seconds per call: the caller's loop must go on."""

    url: str
    timeout: float = 2.0

    def is_healthy(self) -> bool:
        try:
            self._call("GET", "/config")
        except StackError:
            return False
        return True

    def task_managers(self) -> list[str]:
        """Return the resource ids of the TaskManagers the JobManager counts on."""
        return [str(tm["id"]) for tm in self._call("GET", "/taskmanagers")["taskmanagers"]]

    def working(self) -> list[str]:
        """Return the ids of the TaskManagers on which tasks of a running job run."""
        found = set()
        for job in self.jobs():
            for vertex in self._call("GET", f"/jobs/{job.id}")["vertices"] if job.is_running else ():
                subtasks = self._call("GET", f"/jobs/{job.id}/vertices/{vertex['id']}")["subtasks"]
                found |= {str(subtask["taskmanager-id"]) for subtask in subtasks}
        return sorted(found)

    def jobs(self) -> list[Job]:
        """Return all jobs the JobManager remembers, the newest first."""
        listed = self._call("GET", "/jobs/overview")["jobs"]
        listed.sort(key=lambda job: -int(job["start-time"]))
        return [
            Job(
                id=str(job["jid"]),
                name=str(job["name"]),
                state=str(job["state"]),
                tasks_running=int(job["tasks"].get("running", 0)),
                tasks_total=int(job["tasks"].get("total", 0)),
            )
            for job in listed
        ]

    def build_of(self, job_id: str) -> str | None:
        """Return what the job says about its code, None when it says nothing."""
        config = self._call("GET", f"/jobs/{job_id}/config").get("execution-config", {})
        value = config.get("user-config", {}).get(BUILD_PARAMETER)
        return str(value) if value is not None else None

    def why_failed(self, job_id: str) -> str | None:
        """Return the deepest cause of the job's newest failure in one line, None when there was none."""
        history = self._call("GET", f"/jobs/{job_id}/exceptions").get("exceptionHistory", {}).get("entries", [])
        if not history:
            return None
        lines = str(history[0].get("stacktrace", "")).splitlines()
        causes = [line for line in lines if line.startswith("Caused by:")]
        return (causes or lines or [str(history[0].get("exceptionName", ""))])[-1 if causes else 0][:500]

    def stop_with_savepoint(self, job_id: str, directory: str) -> str:
        """Ask the job to write a savepoint and end; returns the id to ask `savepoint` with."""
        answer = self._call("POST", f"/jobs/{job_id}/stop", {"targetDirectory": directory, "drain": False})
        return str(answer["request-id"])

    def savepoint(self, job_id: str, request_id: str) -> str | None:
        """Return the savepoint's location, None while it is not complete; raises `FlinkRefused` when it failed."""
        answer = self._call("GET", f"/jobs/{job_id}/savepoints/{request_id}")
        if answer["status"]["id"] != "COMPLETED":
            return None
        operation = answer.get("operation", {})
        if "location" not in operation:
            cause = str(operation.get("failure-cause", {}).get("class", "unknown"))
            raise FlinkRefused(f"the savepoint of job {job_id} failed: {cause}")
        return str(operation["location"])

    def cancel(self, job_id: str) -> None:
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        # No proxy, whatever the environment says: this is a neighbour.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.timeout) as response:
                payload = response.read()
        except urllib.error.HTTPError as error:
            # 503 is said while a restarted JobManager elects itself.
            kind = FlinkUnavailable if error.code >= 500 else FlinkRefused
            raise kind(f"{method} {path}: {error.code} {error.reason}") from error
        except OSError as error:
            raise FlinkUnavailable(f"{method} {path}: {error}") from error
        answer = json.loads(payload or b"{}")
        return answer if isinstance(answer, dict) else {}
