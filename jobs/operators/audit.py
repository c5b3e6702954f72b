"""The audit of one service's table: small steps between its changes, for all services within one budget.

    audit_ms ─► reserve a slot ─► read a part ─┬─ damage ─────────► the fold writes a snapshot
                      ▲                        ├─ more parts ─┐
                      └────────────────────────│──────────────┘
                                               └─ last part: does the digest of all entries fit?

What is compared is in `waypost.model.audit`. The comparison needs no keyed state: what the store must hold is
remembered when it is written, and is gone with the task, which compares everything anew when it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waypost.errors import PublicationRefused, StoreUnavailable
from waypost.model.audit import Budget, Scan, damage
from waypost.model.fencing import RouteStore, StoredMeta
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication, format_digest

_COUNTS = (30, 1_000)
"""Entries read at once, at least and at most. A thousand of the usual size take 4 ms, with 16 KiB of metadata each a
quarter of a second; hence the next."""

_LONG_MS = 10.0
"""A part that takes longer is followed by smaller ones: nothing may hold up changes for 20 ms."""


@dataclass(slots=True)
class Audited:
    """What the audit knows of one service. `stored` is None while nobody knows what the store holds: before the first
    comparison, and after a write whose answer got lost."""

    stored: StoredMeta | None = None
    scan: Scan | None = None
    slot: int = 0
    count: int = _COUNTS[1]

    def wrote(self, publication: Publication, epoch: int) -> None:
        """Note a publication that the store has taken."""
        if publication.op is not ChangeOp.SNAPSHOT and publication.revision == publication.base:
            return  # answers only
        self.stored = StoredMeta(
            revision=publication.revision,
            epoch=epoch,
            digest=format_digest(publication.digest),
            event_time=publication.event_time,
            position=publication.position,
            endpoints=publication.endpoints,
        )
        if publication.op is ChangeOp.SNAPSHOT:
            self.scan = None
        elif self.scan is not None:
            self.scan.wrote(publication.routes)


class TableAudit:
    """The audits of one subtask."""

    def __init__(self, percent: int, stopwatch: Callable[[], float], note: Callable[[float], None]) -> None:
        """`stopwatch` counts seconds of this thread's processor time, and `note` is told what each part took of it.

        Not the time that passes: on a busy machine most of it is waiting for a processor, and the audit would stand
        still just when things go wrong (measured: 10 s to find damage became a minute at a load of 20 on two cores).
        """
        self._budget = Budget(percent)
        self._note = note
        self._stopwatch = stopwatch

    def begin(self, audited: Audited, now: int) -> int:
        """Reserve a slot for a new comparison unless one is under way; return when, 0 for not at all."""
        if audited.stored is None or audited.slot:
            return 0
        audited.scan = None
        return self._reserve(audited, now)

    def step(self, store: RouteStore, service: ServiceKey, audited: Audited, now: int) -> str:
        """Read one part if it is time to, and return what is damaged, "" for nothing so far.

        `audited.slot` then says when to go on. Raises StoreUnavailable.
        """
        if not audited.slot or now < audited.slot:
            return ""
        audited.slot = 0
        if audited.stored is None:
            return ""
        began = self._stopwatch()
        try:
            found = self._read(store, service, audited)
        except PublicationRefused:
            found = "wrong-type"
        except StoreUnavailable:
            audited.scan = None
            raise
        finally:
            took = self._stopwatch() - began
            cost = took * 1000
            self._note(took)
            self._budget.spent(cost)
            audited.count = _next_count(audited.count, cost)
        if audited.scan is not None:
            self._reserve(audited, now)
        return found

    def _read(self, store: RouteStore, service: ServiceKey, audited: Audited) -> str:
        assert audited.stored is not None
        scan, audited.scan = audited.scan or Scan(), None
        part = store.part(service, scan.cursor, audited.count)
        found = damage(part, audited.stored)
        if not found and not scan.take(part):
            audited.scan = scan
        elif not found and scan.digest() != audited.stored.digest:
            found = "entries-differ"
        return found

    def _reserve(self, audited: Audited, now: int) -> int:
        audited.slot = self._budget.reserve(now)
        return audited.slot


def _next_count(count: int, cost: float) -> int:
    fewest, most = _COUNTS
    if cost > _LONG_MS:
        return max(fewest, count // 2)
    return min(most, count * 2) if cost < _LONG_MS / 4 else count
