"""A stack with a gateway, and no job: tables are written by hand, requests go through the real program."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tables import eventually
from tests.gateway.backends import Backend, get
from tests.gateway.tables import TableWriter, an_endpoint
from waypost.local.state import load_stack
from waypost.model.names import ServiceKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PAY = ServiceKey("default", "payments")


@pytest.mark.parametrize("kind", ["traefik", "envoy"])
def test_a_stack_with_a_gateway(state_dir: Path, waypost: Any, kind: str) -> None:
    options = ("--detach", "--no-job", "--task-managers", "1", "--gateway", kind, "--state-dir", str(state_dir))
    up = waypost("up", *options)
    assert up.returncode == 0, up.stdout + up.stderr
    stack = load_stack(state_dir)
    assert f"{stack.gateway_url}/<namespace>/<service>/" in up.stdout
    backend, writer = Backend("a"), TableWriter(stack.redis_url)
    try:
        writer.publish(PAY, {"a": an_endpoint(backend.port)})
        served = lambda: get(stack.gateway_url, "/default/payments/x") == (200, "a GET /x 0")  # noqa: E731
        eventually(served)

        for part in (kind, "gateway-feed"):
            victim = load_stack(state_dir).parts[part]
            os.kill(victim.pid, signal.SIGKILL)
            eventually(lambda part=part, victim=victim: load_stack(state_dir).parts.get(part, victim) != victim)
            eventually(lambda: answered(served))

        gateway = eventually(
            lambda: (found := status_of(waypost, state_dir)["gateway"])["feed_ready"] and found["healthy"] and found
        )
        assert (gateway["kind"], gateway["url"], gateway["feed_ready"]) == (kind, stack.gateway_url, True)
        other = "envoy" if kind == "traefik" else "traefik"
        again = waypost("up", "--detach", "--gateway", other, "--state-dir", str(state_dir))
        assert again.returncode == 1
        assert f"the stack is up with gateway {kind}" in again.stderr
    finally:
        writer.close()
        backend.stop()


def status_of(waypost: Any, state_dir: Path) -> dict[str, Any]:
    return dict(json.loads(waypost("status", "-o", "json", "--state-dir", str(state_dir)).stdout))


def answered(served: Any) -> bool:
    try:
        return bool(served())
    except OSError:
        return False
