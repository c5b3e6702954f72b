"""The process that forks the instances of the fleet: `python -m waypost.demo.nursery PARENT_PID`.

Importing what an instance needs takes 0.25 s of processor time and 30 MB. Done once here, before any thread exists,
a fork of it costs milliseconds and shares the memory. It takes commands on standard input and reports on standard
output, a pipe that its children share.

When its input ends, or on SIGTERM, the whole fleet leaves in order. When it is killed, the kernel kills the fleet.
After `stay` it lives on without the demo, until `waypost down` ends it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import select
import signal
import sys
import time
import traceback
from types import FrameType

from kafka import KafkaProducer  # noqa: F401  what the forks need is imported before the first of them

from waypost.demo.instance import LEAVE, Instance, Spec
from waypost.demo.lifeline import die_with, live_on
from waypost.demo.lines import Line, teller

_LOOK_S = 0.1
_PATIENCE_S = 12.0
"""For a fleet that leaves in order: its grace, its calls under way, a slow Kafka. Then it is killed."""


class Nursery:
    """Forks, reaps and signals. `run` returns when the fleet is gone."""

    def __init__(self, commands: int, reports: int) -> None:
        self._commands = commands
        self._reports = reports
        self._tell = teller(reports)
        self._running: dict[int, str] = {}
        self._unread = b""
        self._end_asked = False
        self._stays = False

    def run(self) -> None:
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._ask_end)
        listening = True
        while not self._end_asked:
            if listening and select.select([self._commands], [], [], _LOOK_S)[0]:
                listening = self._listen()
                self._end_asked = self._end_asked or (not listening and not self._stays)
            elif not listening:
                time.sleep(_LOOK_S)
            self._reap()
        self._end()

    def _listen(self) -> bool:
        """Do what arrived; False when nothing can arrive any more."""
        chunk = os.read(self._commands, 65536)
        self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(chunk)

    def _obey(self, command: Line) -> None:
        what = command["what"]
        if what == "start":
            self._start(Spec(**command["spec"]))
        elif what == "signal":
            for pid, instance in self._running.items():
                if instance == command["instance"]:
                    # A child that was not reaped keeps its pid: this cannot hit anybody else.
                    os.kill(pid, command["signal"])
                    self._tell("signalled", instance=instance, signal=command["signal"])
        elif what == "stay":
            self._stays = True
            live_on()
            self._tell("staying")
        elif what == "end":
            self._end_asked = True

    def _start(self, spec: Spec) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os._exit(self._be(spec, parent))
        self._running[pid] = spec.instance
        self._tell("started", instance=spec.instance, service=spec.service, pid=pid)

    def _be(self, spec: Spec, parent: int) -> int:
        """Run in the fork; returns its exit status."""
        die_with(parent)
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), self._commands)
        try:
            Instance(spec, self._tell).run()
        except Exception:
            traceback.print_exc()
            return 1
        return 0

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            instance = self._running.pop(pid)
            self._tell("exited", instance=instance, status=os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        for pid in self._running:
            os.kill(pid, LEAVE)
        deadline = time.monotonic() + _PATIENCE_S
        while self._running:
            if time.monotonic() > deadline:
                for pid in self._running:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.02)

    def _ask_end(self, signum: int, frame: FrameType | None) -> None:
        self._end_asked = True


def main(parent: int) -> None:
    die_with(parent)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    # What exists now is left alone by the collector, so its pages stay shared with the forks.
    gc.collect()
    gc.freeze()
    Nursery(sys.stdin.fileno(), sys.stdout.fileno()).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
