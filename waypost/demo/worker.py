"""A process of the demo: JSON lines go in by its standard input and come out by its standard output."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from waypost.demo.lines import Line


class Worker:
    """Starts `python -m MODULE <our pid> ARGUMENTS…` and hands every line it tells to `take`, in a thread.

    After the last line comes one more, `{"what": "gone", "worker": name}`. Make it on the main thread: the process
    dies with the thread that started it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        take: Callable[[Line], None],
        log: Path,
        environ: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log = log
        self._take = take
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(os.getpid()), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environ},
                start_new_session=True,  # Ctrl-C is for the demo, which then ends everything in order
            )
        threading.Thread(target=self._listen, name=name, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, **fields: Any) -> None:
        """Send a command. A process that is gone is not asked; its `gone` line says so to whoever waits."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"what": what, **fields}).encode() + b"\n")
            self._process.stdin.flush()

    def let_go(self) -> None:
        """Close its input; a process that was not told to stay takes this as the end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; a process that does not come to it is killed. Tells whether it ended by itself."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # half a line of a process that was killed
                self._take(json.loads(line))
        self._take({"what": "gone", "worker": self.name})
