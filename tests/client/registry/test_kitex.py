"""Go services registered by Kitex's own registry-etcd are found here, and the other way round."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.registry_contract import exactly, follow
from tests.contracts.registry_servers import EtcdServer, needed
from waypost.client.registry.etcd.layouts import KitexLayout
from waypost.client.registry.etcd.registry import EtcdRegistry
from waypost.client.registry.instance import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PROGRAM = Path(__file__).resolve().parents[1] / "kitex"


@pytest.fixture(scope="module")
def kitex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("kitex") / "kitex"
    build = subprocess.run(
        [needed("go"), "build", "-mod=readonly", "-o", str(program), "."],
        cwd=PROGRAM, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert build.returncode == 0, f"{build.stderr}\nrun scripts/registries.sh"
    return program


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def registry(server: EtcdServer) -> Iterator[EtcdRegistry]:
    with EtcdRegistry(server.url, layout=KitexLayout()) as registry:
        yield registry


def test_what_kitex_registers_is_found(kitex: Path, server: EtcdServer, registry: EtcdRegistry) -> None:
    process = subprocess.Popen(
        [kitex, "register", server.address, "echo.server", "10.1.2.3:8080", "20", "version=2.1"],
        stdin=subprocess.PIPE,
    )
    try:
        theirs = Instance(
            id="10.1.2.3:8080",
            name="echo.server",
            address="10.1.2.3",
            port=8080,
            weight=20,
            metadata={"version": "2.1"},
        )
        with registry.watch("echo.server") as watch:
            follow(watch, exactly(theirs))
            assert registry.discover("echo.server") == (theirs,)
            assert registry.list_services() == ("echo.server",)
            assert process.stdin is not None
            process.stdin.close()  # it deregisters
            follow(watch, exactly())
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_what_is_registered_here_is_resolved_by_kitex(kitex: Path, server: EtcdServer, registry: EtcdRegistry) -> None:
    registry.register(
        Instance(id="10.9.8.7:80", name="ours", address="10.9.8.7", port=80, weight=30, metadata={"version": "7"})
    )
    registry.register(Instance(id="2001:db8::7:81", name="ours", address="2001:db8::7", port=81))

    resolved = subprocess.run([kitex, "resolve", server.address, "ours"], capture_output=True, text=True, check=False)

    assert resolved.returncode == 0, resolved.stderr
    assert [json.loads(line) for line in resolved.stdout.splitlines()] == [
        {"address": "10.9.8.7:80", "network": "tcp", "weight": 30, "version": "7"},
        {"address": "[2001:db8::7]:81", "network": "tcp", "weight": 100, "version": ""},
    ]
