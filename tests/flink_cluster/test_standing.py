"""`keep_running` and `run-job --check` against a small HTTP server that speaks as a JobManager does."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from waypost.cli import main
from waypost.flink.rest import FlinkRest
from waypost.flink.standing import is_running, keep_running
from waypost.flink.submission import JobRecord, Snapshots

NAME = "waypost-route-table"
ID = "0123456789abcdef" * 2


class JobManager:
    """Answers the calls of `FlinkRest`; `jobs` is what it lists."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers: dict[str, Any] = {
                    "/jobs/overview": {"jobs": outer.jobs},
                    "/taskmanagers": {"taskmanagers": [{"id": "tm-1"}]},
                }
                body = json.dumps(answers.get(self.path, {})).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def lists(self, state: str, *, running: int = 2) -> None:
        self.jobs = [
            {"jid": ID, "name": NAME, "state": state, "start-time": 1, "tasks": {"total": 2, "running": running}}
        ]

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def manager() -> Iterator[JobManager]:
    manager = JobManager()
    yield manager
    manager.close()


@pytest.fixture
def flink(tmp_path: Path) -> Path:
    """A `flink` that notes how it was called and says what Flink's says."""
    command = tmp_path / "flink"
    command.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        f"with open({str(tmp_path / 'calls')!r}, 'a') as calls: print(*sys.argv[1:], file=calls)\n"
        f"print('Job has been submitted with JobID {ID}')\n"
    )
    command.chmod(0o755)
    return command


def keep(
    manager: JobManager,
    flink: Path,
    stopped: threading.Event,
    reports: list[str],
    on_running: Callable[[], None] = lambda: None,
) -> threading.Thread:
    tmp = flink.parent
    keeping = threading.Thread(
        target=keep_running,
        kwargs={
            "record": JobRecord(name=NAME, module="jobs.route_table", zip="/job.zip", build="b"),
            "flink": flink,
            "rest": FlinkRest(url=manager.url),
            "stored": Snapshots(checkpoints=tmp / "checkpoints", savepoints=tmp / "savepoints"),
            "log": tmp / "logs" / "submit.log",
            "report": lambda what, _detail: reports.append(what),
            "stopped": stopped,
            "on_running": on_running,
        },
    )
    keeping.start()
    return keeping


def eventually(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_missing_job_is_submitted_and_a_lost_one_resumed_from_its_checkpoint(
    manager: JobManager, flink: Path, tmp_path: Path
) -> None:
    stopped, reports = threading.Event(), list[str]()
    calls = tmp_path / "calls"

    keeping = keep(manager, flink, stopped, reports)
    eventually(lambda: "submitted" in reports)
    manager.lists("RUNNING")
    eventually(lambda: "healthy" in reports)
    checkpoint = tmp_path / "checkpoints" / NAME / ID / "chk-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    manager.lists("FAILED", running=0)
    eventually(lambda: reports.count("submitted") == 2)
    stopped.set()
    keeping.join()

    first, second = calls.read_text().splitlines()
    assert "--fromSavepoint" not in first
    assert f"--fromSavepoint {checkpoint.as_uri()}" in second


def test_a_running_job_is_adopted_and_left_alone_at_the_end(manager: JobManager, flink: Path, tmp_path: Path) -> None:
    stopped, reports = threading.Event(), list[str]()
    manager.lists("RUNNING")

    keeping = keep(manager, flink, stopped, reports)
    eventually(lambda: "healthy" in reports)
    stopped.set()
    keeping.join()

    assert not (tmp_path / "calls").exists()
    assert is_running(FlinkRest(url=manager.url), NAME)[0]


def test_signs_of_life_are_given_while_every_task_runs_and_only_then(manager: JobManager, flink: Path) -> None:
    stopped, reports, signs = threading.Event(), list[str](), list[float]()
    manager.lists("RUNNING", running=1)

    keeping = keep(manager, flink, stopped, reports, lambda: signs.append(time.monotonic()))
    time.sleep(2.5)  # longer than the keeper leaves between two looks
    early = len(signs)
    manager.lists("RUNNING")
    eventually(lambda: len(signs) > 3)
    manager.lists("RUNNING", running=1)
    eventually(lambda: "not running" in reports)
    at_the_end = len(signs)
    stopped.set()
    keeping.join()

    assert early == 0
    assert len(signs) <= at_the_end + 1


@pytest.mark.parametrize(
    ("state", "running", "status", "said"),
    [("RUNNING", 2, 0, "2 of 2"), ("RUNNING", 1, 1, "1 of 2"), ("RESTARTING", 0, 1, "RESTARTING")],
)
def test_check_tells_a_probe_whether_every_task_runs(
    manager: JobManager, state: str, running: int, status: int, said: str
) -> None:
    manager.lists(state, running=running)

    done = CliRunner().invoke(main, ["run-job", "--check", "--flink", manager.url])

    assert (done.exit_code, said in done.output) == (status, True)


def test_check_tells_a_missing_job_from_a_missing_jobmanager(manager: JobManager) -> None:
    absent = CliRunner().invoke(main, ["run-job", "--check", "--flink", manager.url])
    unreachable = CliRunner().invoke(main, ["run-job", "--check", "--flink", "http://127.0.0.1:9"])

    assert (absent.exit_code, unreachable.exit_code) == (1, 1)
    assert "no job waypost-route-table" in absent.output
    assert "does not answer" in unreachable.output
