"""One whole stack for all end-to-end tests of a run: Kafka, Valkey, Flink and the route job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Waypost
from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables
from waypost.local.state import Stack, load_stack

PATIENT = ("--flink-set", "heartbeat.timeout=120 s")
"""No process is taken for dead because the machine is busy: tests count restarts. One that is dead is found all the
same, because nobody answers at its port."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, waypost: Waypost) -> Iterator[Stack]:
    """A healthy stack with the route job running; shared, so use services and instances of your own."""
    state_dir: Path = tmp_path_factory.mktemp("stack") / "state"
    try:
        up = waypost("up", "--detach", "--metrics", "--gateway", "traefik", *PATIENT, "--state-dir", str(state_dir))
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{_last_words(state_dir)}"
        stack = load_stack(state_dir)
        with closing(LogWriter(stack.kafka_bootstrap)) as log:
            # What a test leaves behind falls silent at its end: in a fleet of nobody else the brake would hold it.
            log.storm("crowd", services=10, instances=1_000)
        yield stack
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
