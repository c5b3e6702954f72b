"""One instance of examples/06-peers as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[2] / "examples" / "06-peers"


class Peer:
    """See the module; `registry` is where it finds the others."""

    def __init__(self, name: str, host: str, port: int, registry: str, *, ask_again_s: float = 0.2) -> None:
        self.name, self.port = name, port
        self._url = f"http://{host}:{port}"
        environ = {**os.environ, "POD_NAME": name, "PORT": str(port), "ASK_AGAIN_S": str(ask_again_s)}
        self._process = subprocess.Popen(
            [sys.executable, str(PEERS / "main.py"), "peers", registry], env=environ, stdout=subprocess.DEVNULL
        )

    def put(self, key: str, value: str) -> None:
        self._ask("PUT", f"/cache/{key}", value.encode())

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"/cache/{key}")

    def get(self, key: str) -> Any:
        """Return the value; None: it has none, or does not answer."""
        return self._ask("GET", f"/cache/{key}")

    def peers(self) -> list[str] | None:
        """Return whom it knows; None: it does not answer."""
        found: list[str] | None = self._ask("GET", "/peers")
        return found

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(60)
        finally:
            self.kill()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        assert self._process.poll() is None, "it ended"
        try:
            request = urllib.request.Request(self._url + path, body, method=method)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, OSError):
            return None
