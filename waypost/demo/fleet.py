"""The demo's hand on its fleet: start an instance, send it a signal, end them all."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from waypost.demo.instance import Spec
from waypost.demo.lines import Line
from waypost.demo.worker import Worker
from waypost.local.process import GUEST, TAG, belonging_to, end

_NAME = "fleet"
_END_S = 20.0
"""More than the nursery's own patience."""


class Fleet:
    """A nursery and what it forks. Make it on the main thread."""

    def __init__(self, state_dir: Path, take: Callable[[Line], None]) -> None:
        self._stays = False
        self._worker = Worker(
            _NAME,
            "waypost.demo.nursery",
            take=take,
            log=state_dir / "logs" / "demo-fleet.log",
            # By these `waypost down` finds it, and ends it before the servers it needs to say goodbye to.
            environ={TAG: str(state_dir), GUEST: str(state_dir)},
        )

    def start(self, spec: Spec) -> None:
        self._worker.ask("start", spec=asdict(spec))

    def signal(self, instance: str, sig: signal.Signals) -> None:
        self._worker.ask("signal", instance=instance, signal=int(sig))

    def stay(self) -> None:
        """From now on it lives without the demo, and `end` leaves it alone."""
        self._stays = True
        self._worker.ask("stay")
        self._worker.let_go()

    def end(self) -> None:
        """Let all instances drain and deregister, and return when they are gone."""
        if self._stays:
            return
        self._worker.ask("end")
        self._worker.let_go()
        self._worker.wait(_END_S)


def end_earlier_fleets(state_dir: Path) -> int:
    """End what an earlier `demo --keep` left running; returns the number of processes."""
    guests = belonging_to(state_dir, variable=GUEST)
    end(guests, grace=10.0)
    return len(guests)
