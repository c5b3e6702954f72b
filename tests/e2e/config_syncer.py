"""`waypost config-sync` as a process, for tests with a real Kubernetes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class Syncer:
    """One process; its log is kept for whoever reads a failure. Killed at the end, whatever it does."""

    def __init__(self, directory: Path, name: str, arguments: Sequence[str]) -> None:
        self.log = directory / f"{name}.log"
        self._command = [sys.executable, "-m", "waypost", "config-sync", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> int:
        """Ask it to end; return its status."""
        assert self._process is not None
        self._process.terminate()
        status = self._process.wait(timeout=60)
        self._process = None
        return status

    def status(self) -> int | None:
        """Return its exit status, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def said(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")
