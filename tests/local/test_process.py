import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from waypost.local.process import ProcessId, belonging_to, end, spawn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]


def eventually(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def identity_of(pid: int) -> ProcessId:
    found = ProcessId.of(pid)
    assert found is not None
    return found


def test_another_start_time_is_another_process() -> None:
    me = identity_of(os.getpid())

    assert me.is_alive()
    assert not ProcessId(pid=me.pid, started=me.started - 1).is_alive()


def test_a_recycled_pid_is_not_signalled(tmp_path: Path) -> None:
    process = spawn(SLEEP, state_dir=tmp_path, log=tmp_path / "log")
    someone_earlier = ProcessId(pid=process.pid, started=identity_of(process.pid).started - 1)

    end([someone_earlier], grace=0.0)

    assert process.poll() is None
    end([identity_of(process.pid)])
    process.wait()


def test_what_ignores_the_request_is_killed_after_its_grace(tmp_path: Path) -> None:
    process = spawn(STUBBORN, state_dir=tmp_path, log=tmp_path / "log")
    eventually(lambda: "ready" in (tmp_path / "log").read_text())

    end([identity_of(process.pid)], grace=0.2)

    assert process.wait() == -signal.SIGKILL


def test_a_grandchild_in_a_session_of_its_own_is_found(tmp_path: Path) -> None:
    script = f"import subprocess; subprocess.Popen({SLEEP!r}, start_new_session=True)"
    spawn([sys.executable, "-c", script], state_dir=tmp_path, log=tmp_path / "log").wait()

    left = belonging_to(tmp_path)

    assert len(left) == 1
    end(left)
    assert belonging_to(tmp_path) == []


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import pathlib, time; from waypost.local.process import spawn;"
        f"spawn({SLEEP!r}, state_dir=pathlib.Path({str(tmp_path)!r}), log=pathlib.Path({str(tmp_path / 'log')!r}));"
        "print('ready', flush=True); time.sleep(600)"
    )
    parent = spawn([sys.executable, "-c", script], state_dir=tmp_path, log=tmp_path / "parent")
    eventually(lambda: "ready" in (tmp_path / "parent").read_text())
    assert len(belonging_to(tmp_path)) == 2

    parent.kill()
    parent.wait()

    eventually(lambda: belonging_to(tmp_path) == [])
