"""One reader's copy of one table: what it accepts, and what it refuses to believe.

The law of this file: **the copy's revision never goes back, and the copy never becomes empty because the registry
did.** A store that was wiped, or replaced by an older copy of itself, looks exactly like one whose services are gone;
the copy then stays as it is until the registry has caught up with it.

It does not protect from a store that answers wrongly under a higher revision: revisions are what it trusts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, RouteTable, apply
from waypost.wire.changes import RouteChange


class Verdict(str, Enum):
    """What became of something that was offered to a copy."""

    APPLIED = "applied"
    IGNORED = "ignored"
    """Nothing new: the copy has this, or something newer, already."""
    REREAD = "reread"
    """Something is missing in between: read route and meta, then `take` them."""
    REFUSED = "refused"
    """The registry is behind the copy, or empty without saying why. The copy is kept, and is stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one MULTI found of a service. `revision` is 0 when the service has no meta.

    `life` is the generation of the store, "" when it has none; `endpoints` is how many meta says there are.
    """

    life: str
    revision: int = 0
    endpoints: int = 0
    event_time: int = 0
    routes: RouteTable


class LocalTable:
    """The copy. `routes` is replaced, never modified, so whoever holds it has a consistent table."""

    def __init__(self, service: ServiceKey) -> None:
        self.service = service
        self.routes: RouteTable = {}
        self.revision = 0
        self.event_time = 0
        self.exists = False
        self._life: str | None = None

    def offer(self, change: RouteChange, life: str) -> Verdict:
        """Fold one entry of the changes stream, seen any number of times and in any order."""
        if change.revision <= self.revision:
            return Verdict.IGNORED
        if change.op is ChangeOp.REMOVED:
            return self._become({}, change.revision, change.event_time, life, exists=False)
        if change.op is ChangeOp.SNAPSHOT:
            return self._become(change.delta.set, change.revision, change.event_time, life)
        if change.base != self.revision:
            return Verdict.REREAD
        return self._become(apply(self.routes, change.delta), change.revision, change.event_time, life)

    def take(self, reading: Reading) -> Verdict:
        """Fold what was read from the store."""
        if not reading.revision:
            return self._take_nothing(reading.life)
        if reading.revision < self.revision:
            return Verdict.REFUSED
        if reading.endpoints and not reading.routes and self.routes:
            return Verdict.REFUSED  # the route key alone is gone: evicted, or deleted by hand
        if reading.revision == self.revision and self.exists and reading.routes == self.routes:
            self._life = reading.life
            return Verdict.IGNORED
        return self._become(reading.routes, reading.revision, reading.event_time, reading.life)

    def doubt(self) -> None:
        """Forget which life of the store confirmed this copy: its history is not the one that was followed."""
        self._life = None

    def _take_nothing(self, life: str) -> Verdict:
        if not self.exists:
            return Verdict.IGNORED
        # The same life of the store that once had the service has it no more: it was removed, and the entry that
        # said so is trimmed. Any other life may simply not have got to it yet.
        if life and life == self._life:
            return self._become({}, self.revision, self.event_time, life, exists=False)
        return Verdict.REFUSED

    def _become(self, routes: RouteTable, revision: int, event_time: int, life: str, *, exists: bool = True) -> Verdict:
        self.routes, self.revision, self.event_time = routes, revision, event_time
        self.exists, self._life = exists, life
        return Verdict.APPLIED
