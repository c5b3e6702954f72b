"""What a step gets to see when it has its turn, and what it may answer.

A step has many turns, each with one change of the cluster at most: whoever gives it turns looks at the switch before
each, and keeps what was noted in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from waypost.model.isolation import Isolation
from waypost.model.repair_action import RepairAction
from waypost.model.repair_steps import Step
from waypost.model.surroundings import Surroundings
from waypost.repair.objects import Reference
from waypost.repair.opt_out import OPT_OUT
from waypost.repair.port import Cluster
from waypost.wire.repair_results import StepResult


class Word(str, Enum):
    """How far a step is. `left`: a person has decided otherwise meanwhile, and the rest of the action is theirs.
    `last`: it would take the last healthy endpoints, and has changed nothing."""

    DONE = "done"
    ALREADY = "already"
    SKIPPED = "skipped"
    WAIT = "wait"
    FAILED = "failed"
    LEFT = "left"
    LAST = "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One turn of a step. `notes` are added to what it noted before; `after_ms` is when it wants its next turn."""

    word: Word
    detail: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    after_ms: int = 0
    about: Reference | None = None
    isolations: tuple[Isolation, ...] = ()


class Webhooks(Protocol):
    """Where a step may call out to."""

    def post(self, url: str, body: bytes, *, timeout_ms: int, key: str) -> None:
        """Send a body; `key` is the same for every copy. Raises CallFailed: Refused for a URL that is not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a step knows in its turn. `table`: as in `Execution`. `since`: when it had its first, epoch ms. `isolated`:
    what the action that this one takes back had isolated. `results`: of the steps before this one."""

    action: RepairAction
    index: int
    around: Surroundings
    cluster: Cluster
    webhooks: Webhooks
    notes: Mapping[str, str] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    isolated: tuple[Isolation, ...] = ()
    results: tuple[StepResult, ...] = ()
    table: int = -1
    since: int
    now: int

    @property
    def step(self) -> Step:
        return self.action.steps[self.index]

    @property
    def claim(self) -> str:
        """Return the name under which an object remembers this step."""
        return f"{self.action.id}.{self.index}"

    def number(self, name: str) -> int:
        return int(self.step.parameters[name])

    def text(self, name: str) -> str:
        return str(self.step.parameters[name])


@dataclass(frozen=True, slots=True)
class Check:
    """Whether what a step did still holds. `left`: a person has undone it."""

    holds: bool
    detail: str = ""
    left: bool = False


HOLDS = Check(True)


def done(detail: str, about: Reference | None = None, **notes: str) -> Progress:
    return Progress(word=Word.DONE, detail=detail, about=about, notes=notes)


def already(detail: str, about: Reference | None = None, **notes: str) -> Progress:
    return Progress(word=Word.ALREADY, detail=detail, about=about, notes=notes)


def wait(detail: str, after_ms: int, **notes: str) -> Progress:
    return Progress(word=Word.WAIT, detail=detail, after_ms=after_ms, notes=notes)


def left(about: Reference) -> Progress:
    """Say that its owner wants nobody to repair it."""
    return Progress(word=Word.LEFT, detail=f"{about} says {OPT_OUT}", about=about)


def too_many(turn: Turn, takes: int) -> Progress | None:
    """Refuse to take so many endpoints when too few would be left in the table as it is now, however old the grant is.
    A table that was known then and is unknown now is empty for all that we know; of one that was empty then and is now
    nobody can go. None: they may go."""
    if not takes or turn.around.healthy < 0 or (turn.around.healthy == turn.table == 0):
        return None
    if turn.table - takes >= max(1, turn.action.min_healthy):
        return None
    have = turn.table if turn.table >= 0 else "nobody knows how many"
    return Progress(word=Word.LAST, detail=f"{turn.action.target} has {have} endpoints, {takes} would go")


def failed(detail: str, about: Reference | None = None) -> Progress:
    return Progress(word=Word.FAILED, detail=detail, about=about)
