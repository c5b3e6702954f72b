"""A real agent on a unix socket, spoken to as curl would."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.tables import CEILING_S, eventually


class AgentProcess:
    """One agent; it can be killed and started again on the same socket."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.socket = directory / "service.sock"
        self._options = options
        self._log = directory / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://agent", timeout=CEILING_S
        )

    def start(self) -> None:
        command = [sys.executable, "-m", "waypost", "agent", f"--service-registry={self.socket}", *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._is_up)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: {self.log()[-3000:]}"
        # Not by httpx: it forgets to close a unix socket that nobody listens on.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(self.socket)):
                return False
        return self.http.get("/healthz").status_code == 200

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> int:
        """Ask it to end and return its status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(CEILING_S)
        self._process = None
        return status

    def register(self, service: str, instance: str, port: int, **fields: Any) -> httpx.Response:
        body = {"address": "127.0.0.1", "port": port, **fields}
        return self.http.put(f"/v1/instances/{service}/{instance}", params={"wait": 30}, json=body)

    def instance(self, service: str, instance: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/instances/{service}/{instance}").json())

    def registered(self, service: str, instance: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/instances/{service}/{instance}/registered").json())

    def through(self, service: str, path: str) -> httpx.Response:
        """Call a service through the proxy on the socket."""
        return self.http.get(f"http://{service}.waypost{path}")

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextlib.contextmanager
def an_agent(directory: Path, *options: str) -> Iterator[AgentProcess]:
    agent = AgentProcess(directory, *options)
    agent.start()
    try:
        yield agent
    finally:
        agent.kill()
        agent.http.close()
