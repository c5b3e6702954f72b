"""One whole stack for all end-to-end tests of a run: Kafka, Valkey, Flink and the route job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables
from waypost.local.process import belonging_to
from waypost.local.state import Stack, load_stack

Waypost = Callable[..., subprocess.CompletedProcess[str]]


def _waypost(*arguments: str, timeout: float = 300, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waypost", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="session")
def waypost() -> Waypost:
    """Run the command line; returns its status and output, raises nothing."""
    return _waypost


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A healthy stack with the route job running; shared, so use services and instances of your own."""
    state_dir: Path = tmp_path_factory.mktemp("stack") / "state"
    try:
        up = _waypost("up", "--detach", "--metrics", "--gateway", "traefik", "--state-dir", str(state_dir))
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{_last_words(state_dir)}"
        yield load_stack(state_dir)
    finally:
        _waypost("down", "--purge", "--state-dir", str(state_dir))


@pytest.fixture
def state_dir(tmp_path: Path, waypost: Waypost) -> Iterator[Path]:
    """A directory for a stack of the test's own; whatever runs there afterwards is stopped."""
    directory = tmp_path / "state"
    yield directory
    waypost("down", "--purge", "--state-dir", str(directory))
    assert belonging_to(directory) == []


def _last_words(state_dir: Path) -> str:
    """Return the ends of the logs: the directory is gone when somebody reads the failure."""
    logs = sorted((state_dir / "logs").glob("*.*"))
    return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


@pytest.fixture
def log(stack: Stack) -> Iterator[LogWriter]:
    writer = LogWriter(stack.kafka_bootstrap)
    yield writer
    writer.close()


@pytest.fixture
def tables(stack: Stack) -> Iterator[Tables]:
    reader = Tables(stack.redis_url)
    yield reader
    reader.close()
