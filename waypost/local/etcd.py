"""One etcd server from the system's package."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from waypost.local.gateways import answers
from waypost.local.kubernetes_programs import etcd_program
from waypost.local.ports import LOOPBACK


@dataclass(frozen=True, kw_only=True)
class Etcd:
    """How to start the server and how to ask whether it serves. Loopback, plain HTTP, no authentication."""

    directory: Path
    port: int
    peer_port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Empty the data directory: a new server knows nothing. A restart without `prepare` keeps its data."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(parents=True, mode=0o700)

    def command(self) -> list[str]:
        peer = f"http://{LOOPBACK}:{self.peer_port}"
        return [
            str(etcd_program()),
            "--name=local",
            f"--data-dir={self._data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=local={peer}",
            # It begins empty each time: what a power cut would lose is nothing, and a busy disk ends no lease.
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        ]

    def is_healthy(self) -> bool:
        """Return whether the server has a leader (itself) and answers."""
        return answers(f"{self.url}/health")

    @property
    def _data(self) -> Path:
        return self.directory / "data"
