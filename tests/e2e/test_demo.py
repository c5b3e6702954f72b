"""The show itself, shortened: it comes to its end, tells what it measured, and leaves nothing behind.

How fast things were is the show's own judgement, not asserted here: a test must not fail for a busy machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.tables import eventually
from waypost.client.keys import Keys
from waypost.local.process import GUEST, ProcessId, belonging_to
from waypost.local.state import Stack, load_stack
from waypost.model.names import ServiceKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

WITHIN_S = 60.0

A_TIME = re.compile(r"\d m?s$")


def guests(state_dir: Path) -> list[ProcessId]:
    return belonging_to(state_dir, variable=GUEST)


def test_the_show_from_nothing_to_nothing(state_dir: Path, waypost: Any) -> None:
    demo = waypost("demo", "--keep", "--script", "short", "--state-dir", str(state_dir))

    result = json.loads((state_dir / "demo.json").read_text())
    expectations = {e["name"]: e for e in result["expectations"]}
    assert (demo.returncode == 0) == result["held"], demo.stdout + demo.stderr
    missed = [e for e in expectations.values() if not e["held"] and not A_TIME.search(e["wanted"])]
    assert missed == [], demo.stdout
    assert result["calls"]["made"] > 0
    assert result["calls"]["failed"] == 0
    assert result["gateway"]["kind"] == "traefik"
    assert result["gateway"]["requests"] > 0
    assert result["gateway"]["failed"] == 0
    assert result["rolling_replacement"]["replaced"] == 3
    assert result["rolling_replacement"]["failed"] == 0
    assert result["quiet"]["changes_entries"] == 0
    assert result["quiet"]["beats"] > 0
    assert result["silent_death"]["removed_s_after_last_beat"] >= result["silent_death"]["lease_s"]
    assert result["change_to_reader_ms"]["count"] == result["burst"]["sent"]
    assert result["build"] == load_stack(state_dir).job.build  # type: ignore[union-attr]
    # Kept: everybody but the killed, the drained and the deregistered, and the nursery.
    assert len(guests(state_dir)) == 12 - 3 + 1
    stack = load_stack(state_dir)
    assert routed(stack, "orders") == {"orders-1", "orders-3", "orders-4"}

    log = state_dir / "logs" / "demo-fleet.log"
    complaints = log.read_text()

    down = waypost("down", "--state-dir", str(state_dir))

    assert down.returncode == 0
    assert belonging_to(state_dir) == []
    # They said goodbye while there was somebody to say it to: otherwise they would have complained of Kafka.
    assert log.read_text() == complaints


@contextmanager
def playing(stack: Stack) -> Iterator[subprocess.Popen[str]]:
    """A demo on a running stack whose first instance has arrived."""
    command = [sys.executable, "-m", "waypost", "demo", "--script", "short", "--state-dir", str(stack.state_dir)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        assert any(" in the table of " in line for line in demo.stdout)
        yield demo
    finally:
        demo.kill()
        demo.communicate()


def test_an_interrupted_show_takes_its_fleet_along_and_leaves_the_stack(stack: Stack) -> None:
    with playing(stack) as demo:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)

    assert demo.returncode == 130
    assert guests(stack.state_dir) == []
    assert load_stack(stack.state_dir).is_up
    eventually(lambda: not any(routed(stack, service) for service in ("payments", "orders", "catalog")), WITHIN_S)


def test_a_killed_show_leaves_no_process(stack: Stack) -> None:
    with playing(stack) as demo:
        assert guests(stack.state_dir)
        os.kill(demo.pid, signal.SIGKILL)
        demo.wait()

    eventually(lambda: guests(stack.state_dir) == [], WITHIN_S)
    known = set(load_stack(stack.state_dir).parts.values()) | {load_stack(stack.state_dir).supervisor}
    eventually(lambda: set(belonging_to(stack.state_dir)) <= known, WITHIN_S)
    assert load_stack(stack.state_dir).is_up


def routed(stack: Stack, service: str) -> set[str]:
    client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
    try:
        return set(client.hkeys(Keys().route(ServiceKey("default", service))))
    finally:
        client.close()
