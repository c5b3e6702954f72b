"""One whole stack for all end-to-end tests of a run: Kafka, Valkey, Flink and the route job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Waypost
from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables
from waypost.local.state import Stack, load_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, waypost: Waypost) -> Iterator[Stack]:
    """A healthy stack with the route job running; shared, so use services and instances of your own."""
    state_dir: Path = tmp_path_factory.mktemp("stack") / "state"
    try:
        up = waypost("up", "--detach", "--metrics", "--gateway", "traefik", "--state-dir", str(state_dir))
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{_last_words(state_dir)}"
        yield load_stack(state_dir)
    finally:
        waypost("down", "--purge", "--state-dir", str(state_dir))


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
