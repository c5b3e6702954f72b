"""The promises of `up`, `status`, `submit` and `down`, on real servers.

Tests that kill the supervisor use a stack of their own without Flink's job; the others share one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.tables import eventually
from waypost.flink.snapshots import completed
from waypost.local.process import belonging_to
from waypost.local.state import Stack, load_stack
from waypost.topics import check_topics, default_topics

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def status_of(waypost: Any, state_dir: Path) -> dict[str, Any]:
    answer = waypost("status", "-o", "json", "--state-dir", str(state_dir))
    report = json.loads(answer.stdout)
    assert (answer.returncode == 0) == report["healthy"]
    return dict(report)


def test_a_fresh_stack_is_healthy_in_every_part(stack: Stack, waypost: Any) -> None:
    report = eventually(lambda: (r := status_of(waypost, stack.state_dir))["healthy"] and r)

    assert report["kafka"]["bootstrap"] == stack.kafka_bootstrap
    assert report["redis"]["url"] == stack.redis_url
    assert report["flink"]["rest"] == stack.flink_rest
    [job] = report["jobs"]
    assert job["name"] == "waypost-route-table"
    assert job["state"] == "RUNNING"
    assert stack.job is not None
    assert job["build"] == stack.job.build


def test_its_topics_are_what_the_job_demands(stack: Stack) -> None:
    assert check_topics(stack.kafka_bootstrap, default_topics().values()) == []


def test_its_redis_tells_of_key_changes(stack: Stack) -> None:
    client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
    try:
        assert set(client.config_get("notify-keyspace-events")["notify-keyspace-events"]) == set("Kg$x")
    finally:
        client.close()


def test_up_again_changes_nothing(stack: Stack, waypost: Any) -> None:
    before = load_stack(stack.state_dir).parts

    again = waypost("up", "--detach", "--state-dir", str(stack.state_dir))

    assert again.returncode == 0
    assert "already up" in again.stdout
    assert load_stack(stack.state_dir).parts == before


def test_a_killed_task_manager_comes_back_and_the_job_runs_on(stack: Stack, waypost: Any) -> None:
    victim = load_stack(stack.state_dir).parts["taskmanager-1"]

    os.kill(victim.pid, signal.SIGKILL)

    eventually(lambda: load_stack(stack.state_dir).parts.get("taskmanager-1", victim) != victim)
    report = eventually(lambda: (r := status_of(waypost, stack.state_dir))["healthy"] and r)
    assert len(report["jobs"]) == 1


def test_a_killed_job_manager_comes_back_with_one_job_from_its_checkpoint(stack: Stack, waypost: Any) -> None:
    before = load_stack(stack.state_dir)
    assert before.job is not None
    checkpoints = stack.state_dir / "checkpoints" / before.job.name
    eventually(lambda: completed([checkpoints]))

    os.kill(before.parts["jobmanager"].pid, signal.SIGKILL)

    eventually(
        lambda: (
            load_stack(stack.state_dir).parts.get("jobmanager", before.parts["jobmanager"])
            != before.parts["jobmanager"]
        )
    )
    report = eventually(lambda: (r := status_of(waypost, stack.state_dir))["healthy"] and r)
    after = load_stack(stack.state_dir).job
    assert after is not None
    assert [job["id"] for job in report["jobs"]] == [after.id]
    assert after.id != before.job.id
    assert after.restored_from is not None


def test_submit_replaces_the_job_and_keeps_its_state(stack: Stack, waypost: Any) -> None:
    before = load_stack(stack.state_dir)

    answer = waypost("submit", "--state-dir", str(stack.state_dir))

    assert answer.returncode == 0, answer.stdout + answer.stderr
    after = load_stack(stack.state_dir)
    assert before.job is not None
    assert after.job is not None
    assert after.job.id != before.job.id
    assert after.job.restored_from is not None
    assert "savepoint-" in after.job.restored_from
    assert after.parts["taskmanager-1"] != before.parts["taskmanager-1"]
    eventually(lambda: status_of(waypost, stack.state_dir)["healthy"])


def test_down_after_a_killed_supervisor_leaves_no_process(state_dir: Path, waypost: Any) -> None:
    up = waypost("up", "--detach", "--no-job", "--task-managers", "1", "--state-dir", str(state_dir))
    assert up.returncode == 0, up.stdout + up.stderr
    supervisor = load_stack(state_dir).supervisor
    assert supervisor is not None

    os.kill(supervisor.pid, signal.SIGKILL)
    down = waypost("down", "--state-dir", str(state_dir))

    assert down.returncode == 0
    assert belonging_to(state_dir) == []
    again = waypost("down", "--purge", "--state-dir", str(state_dir))
    assert again.returncode == 0
    assert not state_dir.exists()


@pytest.mark.parametrize("after", ["stack", "kafka"])
def test_an_interrupted_up_leaves_no_process(state_dir: Path, after: str) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "waypost", "up", "--no-job", "--task-managers", "1", "--state-dir", str(state_dir)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert up.stdout is not None
    for line in up.stdout:
        if f" {after} " in line:
            break

    up.send_signal(signal.SIGINT)
    up.stdout.read()

    assert up.wait(timeout=60) == 130
    up.stdout.close()
    assert belonging_to(state_dir) == []


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path, waypost: Any) -> None:
    (tmp_path / "letter.txt").write_text("dear")

    up = waypost("up", "--detach", "--no-job", "--state-dir", str(tmp_path))
    down = waypost("down", "--purge", "--state-dir", str(tmp_path))

    assert up.returncode == 1
    assert "not a Waypost state directory" in up.stderr
    assert down.returncode == 0
    assert (tmp_path / "letter.txt").read_text() == "dear"
