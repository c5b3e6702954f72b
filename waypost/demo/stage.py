"""What every act works with: the fleet, what was seen, the script, a voice, and the judgements so far."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from waypost.demo.figures import Expectation
from waypost.demo.fleet import Fleet
from waypost.demo.gateway import Visits
from waypost.demo.instance import Spec
from waypost.demo.ledger import Ledger
from waypost.demo.observed import Member, Move, Observed
from waypost.demo.script import Script
from waypost.demo.writes import WriteCounter

PATIENCE_S = 45.0
"""How long an act waits for something that takes a second or ten before it says that it did not happen."""


def say(text: str = "") -> None:
    """Print one line with the time of day. Plain lines, so that a log of CI reads like a terminal."""
    # Local time, of the person who watches.
    stamp = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
    print(f"{stamp}  {text}".rstrip(), flush=True)


@dataclass(kw_only=True)
class Stage:
    """See the module. Acts add to `expectations` and `figures`."""

    script: Script
    bootstrap: str
    observed: Observed
    fleet: Fleet
    ledger: Ledger
    writes: WriteCounter
    visits: Visits | None
    """None: no gateway."""
    chance: random.Random
    say: Callable[[str], None] = say
    expectations: list[Expectation] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    excused: set[str] = field(default_factory=set)
    """Instances the script itself takes out of the table."""
    specs: dict[str, Spec] = field(default_factory=dict)
    """Who was started, by instance id."""
    _told: int = 0

    def start(self, service: str, instance: str) -> None:
        """Start the process of one instance."""
        cast = self.script.cast
        spec = Spec(
            service=service,
            instance=instance,
            bootstrap=self.bootstrap,
            lease_s=cast.lease_s,
            beat_s=cast.beat_s,
            grace_s=cast.grace_s,
            flap_s=self.script.flap_s,
            zone=self.chance.choice(cast.zones),
            seed=self.chance.randrange(2**31),
        )
        self.specs[instance] = spec
        self.fleet.start(spec)

    def member(self, instance: str) -> Member:
        return self.observed.members[instance]

    def watch(self, holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
        """Wait until it holds and tell meanwhile what the reader sees come and go; False when it never held."""
        deadline = time.monotonic() + timeout_s
        while True:
            done = self.observed.wait(
                lambda: holds() or len(self.observed.moves) > self._told, max(0.0, deadline - time.monotonic())
            )
            self._tell_moves()
            if holds():
                return True
            if not done:
                return False

    def next_beat(self, instance: str) -> None:
        """Wait for the instance to beat, and half a beat more: what was sent is on the log by then."""
        beats = self.member(instance).beats
        self.watch(lambda: self.member(instance).beats > beats)
        self.observed.pause(0.3 * self.script.cast.beat_s)

    def until_gone(self, instance: str, after: float) -> float | None:
        """Wait until the reader sees it leave; returns when, None when it never does."""
        self.watch(lambda: self.observed.first_move(instance, "delete", after) is not None)
        move = self.observed.first_move(instance, "delete", after)
        return move.at if move else None

    def until_back(self, instance: str, after: float) -> float | None:
        """Wait until the reader sees it return; returns when, None when it never does."""
        self.watch(lambda: self.observed.first_move(instance, "add", after) is not None)
        move = self.observed.first_move(instance, "add", after)
        return move.at if move else None

    def expect(self, expectation: Expectation) -> None:
        self.expectations.append(expectation)
        if not expectation.held:
            self.say(f"    NOT AS EXPECTED: {expectation.name}: {expectation.measured}, wanted {expectation.wanted}")

    def unexplained(self) -> list[Move]:
        """Return the departures that nothing in the script explains."""
        return [m for m in self.observed.moves if m.kind == "delete" and m.instance not in self.excused]

    def skip_moves(self) -> None:
        """Do not tell what was seen up to now."""
        self._told = len(self.observed.moves)

    def _tell_moves(self) -> None:
        moves = self.observed.moves
        while self._told < len(moves):
            move = moves[self._told]
            self._told += 1
            if move.kind == "update":
                continue
            if move.kind == "delete":
                self.say(f"  - {move.instance:<12} left the table of {move.service}")
            else:
                self.say(f"  + {move.instance:<12} {move.address:<16} in the table of {move.service}{self._age(move)}")

    def _age(self, move: Move) -> str:
        member = self.observed.members.get(move.instance)
        first = self.observed.first_move(move.instance, "add", 0.0)
        if member is None or first is not move:
            return " again"
        return f", {(move.at - member.started) * 1000:.0f} ms after its process began"
