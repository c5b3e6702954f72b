"""`waypost controller` as processes, with the permissions it has in a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waypost.local.kubernetes import Kubernetes
from waypost.local.process import spawn

FAST_S = "0.5"
"""Seconds between passes, instead of 30."""


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One process. `log` is what it printed."""

    identity: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def leads(self) -> bool:
        return self.process.poll() is None and f"{self.identity} leads" in self.said

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def controller(
    cluster: Kubernetes, directory: Path, *, identity: str, kafka: str, redis: str, namespace: str = "waypost"
) -> Iterator[Controller]:
    """Run one until the block ends; killed then, unless it ended by itself."""
    kubeconfig = cluster.service_account_kubeconfig(namespace, "waypost-controller")
    own = directory / f"{identity}.kubeconfig"
    own.write_bytes(kubeconfig.read_bytes())
    own.chmod(0o600)
    log = directory / f"{identity}.out"
    command = [
        *(sys.executable, "-m", "waypost", "controller"),
        *("--namespace", namespace, "--kubeconfig", str(own), "--identity", identity, "--interval", FAST_S),
        *("--kafka", kafka, "--redis", redis),
    ]
    process = spawn(command, state_dir=directory, log=log)
    try:
        yield Controller(identity=identity, process=process, log=log)
    finally:
        process.kill()
        process.wait()
