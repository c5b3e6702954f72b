"""A store, a feed and the two real gateways, each a process of its own that a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.conftest import Server, valkey_binary
from tests.e2e.tables import CEILING_S, eventually
from tests.gateway.backends import Backend
from tests.gateway.tables import TableWriter
from waypost.local.gateways import Envoy, Gateway, Traefik, answers
from waypost.local.ports import free_ports


@dataclass
class Process:
    """One program: started, killed, frozen, started again on the same ports."""

    command: Callable[[], list[str]]
    probe: Callable[[], bool]
    log: Path
    _running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.log.parent)
        try:
            eventually(self._is_up)
        except AssertionError:
            raise AssertionError(f"not up: {self.log.read_text(errors='replace')[-3000:]}") from None

    def _is_up(self) -> bool:
        assert self._running is not None
        assert self._running.poll() is None, f"it ended: {self.log.read_text(errors='replace')[-3000:]}"
        return self.probe()

    def send(self, sig: signal.Signals) -> None:
        assert self._running is not None
        os.kill(self._running.pid, sig)

    def end(self) -> int:
        """Ask it to end and return its status."""
        assert self._running is not None
        self._running.terminate()
        status = self._running.wait(CEILING_S)
        self._running = None
        return status

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None


@dataclass
class Site:
    """Everything one test needs. `serve` starts a gateway with its feed."""

    directory: Path
    store: Server
    writer: TableWriter
    feed: Process
    feed_url: str
    gateway: Process | None = None
    at: Any = None
    backends: dict[str, Backend] = field(default_factory=dict)

    def backend(self, name: str) -> Backend:
        """Start one more server to be called."""
        self.backends[name] = Backend(name)
        return self.backends[name]

    def serve(self, kind: str, **options: Any) -> Gateway:
        """Start this gateway."""
        port, admin_port = free_ports([None, None])
        kinds: dict[str, Callable[..., Gateway]] = {"traefik": Traefik, "traefik-redis": Traefik, "envoy": Envoy}
        if kind == "traefik-redis":
            options = {"redis_url": self.store.url, "root": ROOT, **options}
        else:
            options = {"feed_url": self.feed_url, **options}
        self.at = kinds[kind](directory=self.directory / kind, port=port, admin_port=admin_port, **options)
        self.at.prepare()
        self.gateway = Process(self.at.command, self.at.is_healthy, self.directory / f"{kind}.log")
        self.gateway.start()
        return self.at

    def close(self) -> None:
        if self.gateway is not None:
            self.gateway.kill()
        self.feed.kill()
        self.writer.close()
        self.store.kill()
        for backend in self.backends.values():
            backend.stop()


ROOT = "waypost/traefik"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path)
    server.start("--notify-keyspace-events", "Kg$x")
    yield server
    server.kill()


@pytest.fixture
def make_site(tmp_path: Path, store: Server) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(*options: str) -> Site:
        [port] = free_ports([None])
        url = f"http://127.0.0.1:{port}"
        command = [
            sys.executable, "-m", "waypost", "gateway-feed", "--redis", store.url, "--listen", f"127.0.0.1:{port}",
            *options,
        ]  # fmt: skip
        feed = Process(lambda: command, lambda: answers(f"{url}/healthz"), tmp_path / "feed.log")
        site = Site(tmp_path, store, TableWriter(store.url), feed, url)
        sites.append(site)
        feed.start()
        return site

    yield make
    for site in sites:
        site.close()
