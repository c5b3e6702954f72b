"""Everything the show has seen so far, gathered from the lines of its processes.

Written by the threads that listen to the processes, read by the show. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from waypost.demo.lines import Line
from waypost.errors import StackError


@dataclass(slots=True)
class Member:
    """One instance, as its own process tells it. Times are None until it happened."""

    instance: str
    service: str
    pid: int
    started: float
    registered: float | None = None
    beats: int = 0
    last_beat: float | None = None
    killed: float | None = None
    stopping: float | None = None
    exited: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One change of an endpoint, as the reader saw it. `kind` is add, update or delete."""

    at: float
    kind: str
    service: str
    instance: str
    address: str
    weight: int


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that failed; `attempt` 2 is the failover, and its failure is the caller's."""

    at: float
    service: str
    instance: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class FailedVisit:
    """A request through the gateway that failed."""

    at: float
    began: float
    service: str
    reason: str


@dataclass(slots=True)
class Observed:
    """See the module. `take` may be called from any thread; read the fields inside `wait` or after it."""

    members: dict[str, Member] = field(default_factory=dict)
    tables: dict[str, frozenset[str]] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    revisions: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    calls: int = 0
    failed_calls: list[FailedCall] = field(default_factory=list)
    visits: int = 0
    """Requests through the gateway."""
    failed_visits: list[FailedVisit] = field(default_factory=list)
    met: dict[str, float] = field(default_factory=dict)
    """When an instance first answered through the gateway."""
    beats: int = 0
    lost_beats: int = 0
    expected_to_end: set[str] = field(default_factory=set)
    """Workers whose end is no accident."""
    gone: set[str] = field(default_factory=set)
    fleet_stays: bool = False
    """The fleet has heard that it is to outlive the demo."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, line: Line) -> None:
        """Note one line of one of the demo's processes."""
        with self._changed:
            self._note(line)
            self._changed.notify_all()

    def wait(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Return whether `holds` came true in time. Raises StackError when a process that is needed ended."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (true := holds()):
                self._require_workers()
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            return true

    def pause(self, seconds: float) -> None:
        """Let time pass, watchfully."""
        self.wait(lambda: False, seconds)

    def end_expected(self, worker: str) -> None:
        with self._changed:
            self.expected_to_end.add(worker)

    def first_move(self, instance: str, kind: str, after: float) -> Move | None:
        """Return the first such change that the reader saw at or after that time."""
        return next((m for m in self.moves if m.instance == instance and m.kind == kind and m.at >= after), None)

    def moves_of(self, instance: str, after: float) -> list[Move]:
        """Return when the instance came to and left the table, from that time on."""
        return [m for m in self.moves if m.instance == instance and m.kind != "update" and m.at >= after]

    def starting(self) -> int:
        """Return how many instances have been started and neither registered nor ended."""
        return sum(m.registered is None and m.exited is None for m in list(self.members.values()))

    def is_routed(self, instance: str) -> bool:
        return any(instance in table for table in list(self.tables.values()))

    def seen_at(self, service: str, revision: int) -> float | None:
        """Return when the reader's copy of a service had reached a revision."""
        return next((at for seen, at in self.revisions.get(service, ()) if seen >= revision), None)

    def reasons(self) -> Counter[str]:
        """Return why first tries failed."""
        return Counter(call.reason for call in self.failed_calls if call.attempt == 1)

    # -- the lines -------------------------------------------------------------------------------------

    def _note(self, line: Line) -> None:
        what, at = line["what"], line.get("at", 0.0)
        if what == "started":
            self.members[line["instance"]] = Member(line["instance"], line["service"], line["pid"], at)
        elif what == "seen":
            self._see(line, at)
        elif what == "called":
            self.calls = line["calls"]
        elif what == "call-failed":
            self.failed_calls.append(FailedCall(at, line["service"], line["instance"], line["attempt"], line["reason"]))
        elif what == "visited":
            self.visits = line["requests"]
        elif what == "visit-failed":
            self.failed_visits.append(FailedVisit(at, line["began"], line["service"], line["reason"]))
        elif what == "met":
            self.met[line["instance"]] = at
        elif what == "staying":
            self.fleet_stays = True
        elif what == "gone":
            self.gone.add(line["worker"])
        elif member := self.members.get(line.get("instance", "")):
            self._note_life(member, line, at)

    def _note_life(self, member: Member, line: Line, at: float) -> None:
        what = line["what"]
        if what == "registered":
            member.registered = at
        elif what == "beat":
            member.beats += 1
            member.last_beat = at
            self.beats += 1
        elif what == "signalled" and line["signal"] == 9:
            member.killed = at
        elif what == "stopping":
            member.stopping = at
        elif what == "left":
            self.lost_beats += line["lost_beats"]
        elif what == "exited":
            member.exited = at
            member.status = line["status"]

    def _see(self, line: Line, at: float) -> None:
        for service, revision in line["revisions"].items():
            self.revisions.setdefault(service, []).append((revision, at))
        for event in line["events"]:
            move = Move(at, event["kind"], event["service"], event["instance"], event["address"], event["weight"])
            self.moves.append(move)
            # Replaced, not modified: somebody may be looking at it.
            table, one = self.tables.get(move.service, frozenset()), {move.instance}
            self.tables[move.service] = table - one if move.kind == "delete" else table | one

    def _require_workers(self) -> None:
        if missing := self.gone - self.expected_to_end:
            raise StackError(f"a process of the demo ended: {', '.join(sorted(missing))}")
