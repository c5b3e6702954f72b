"""What tests ask Flink's REST server about the job. Its answers are up to three seconds old."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.e2e.tables import eventually
from waypost.local.state import Stack


def flink(stack: Stack, path: str) -> Any:
    with urllib.request.urlopen(f"{stack.flink_rest}{path}", timeout=30) as answer:
        return json.load(answer)


def running_job(stack: Stack) -> str | None:
    jobs = flink(stack, "/jobs/overview")["jobs"]
    return next((job["jid"] for job in jobs if job["state"] == "RUNNING"), None)


def restarts(stack: Stack, job: str) -> int:
    """Return how often the job's tasks were started anew. (The metric `numRestarts` lags, and was seen to stay 0.)"""
    vertex = flink(stack, f"/jobs/{job}")["vertices"][0]["id"]
    subtasks = flink(stack, f"/jobs/{job}/vertices/{vertex}")["subtasks"]
    return max(int(subtask["attempt"]) for subtask in subtasks)


def records_in(stack: Stack, job: str, name: str) -> int:
    """Return how many records the subtasks of the vertex whose name begins with `name` took in."""
    vertices = flink(stack, f"/jobs/{job}")["vertices"]
    [vertex] = [v for v in vertices if v["name"].startswith(name)]
    # Flink's REST server collects metrics when they are asked for: the first answer may be empty.
    path = f"/jobs/{job}/vertices/{vertex['id']}/subtasks/metrics?get=numRecordsIn&agg=sum"
    [metric] = eventually(lambda: flink(stack, path))
    return int(metric["sum"])
