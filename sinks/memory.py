"""The route store without a server: the fake that job tests write to.

It keeps the promises of `waypost.model.fencing.RouteStore` that tests rely on (epochs, bases, atomicity, what readers
see), proven by the same contract class as the real one. It trims nothing and measures no time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from sinks.publication import log_fields, meta_fields, require_sense
from waypost.errors import StoreUnavailable
from waypost.model.fencing import (
    NOBODY,
    Fenced,
    NeedSnapshot,
    NotOpen,
    Opened,
    Outcome,
    Sight,
    StoredMeta,
    TablePart,
    WriterId,
    Written,
)
from waypost.model.health_window import WindowStats
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication
from waypost.wire.changes import encode_change
from waypost.wire.window_stats import encode_window_stats

_lives = count(1)


@dataclass(slots=True)
class StoredService:
    """What readers see of one service."""

    route: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    log: list[dict[str, str]] = field(default_factory=list)
    listed: bool = True


class MemoryRouteStore:
    """A `RouteStore` in this process. Thread-safe.

    `services` and `changes` are what a reader would find. `wipe()` empties it as FLUSHALL does, `available = False`
    makes every call fail as a dead server does.
    """

    def __init__(self) -> None:
        self.services: dict[ServiceKey, StoredService] = {}
        self.changes: list[dict[str, str]] = []
        self.available = True
        self._lock = threading.Lock()
        self._owner: WriterId | None = None
        self._epoch = 0
        self._last_epoch = 0
        self._generation: str | None = None
        self._signs = 0

    def wipe(self) -> None:
        """Forget everything, also who writes. Only the object itself still knows its last epoch."""
        with self._lock:
            self.services.clear()
            self.changes.clear()
            self._owner = None
            self._epoch = self._signs = 0
            self._generation = None

    def open(self, writer: WriterId, now_ms: int, above: int = 0) -> Opened | Fenced:
        with self._lock:
            self._require_available()
            owner = self._owner
            if owner is not None and owner.job_id == writer.job_id and owner.attempt > writer.attempt:
                return Fenced(owner, self._epoch)
            if owner != writer or self._epoch <= above:
                self._epoch = self._last_epoch = max(self._epoch + 1, self._last_epoch + 1, now_ms, above + 1)
                self._owner = writer
            if self._generation is None:
                self._generation = f"life-{next(_lives)}"
            return Opened(self._epoch, self._generation)

    def look(self, epoch: int = 0) -> Sight:
        with self._lock:
            self._require_available()
            if self._owner is not None and epoch == self._epoch:
                self._signs += 1
            return Sight(self._generation, self._epoch, self._signs)

    def meta(self, service: ServiceKey) -> StoredMeta | None:
        with self._lock:
            self._require_available()
            return _stored_meta(self.services.get(service))

    def part(self, service: ServiceKey, cursor: str, count: int) -> TablePart:
        with self._lock:
            self._require_available()
            stored = self.services.get(service) or StoredService(listed=False)
            # Behind an id and not at a number: what goes away meanwhile must not hide what stays.
            rest = sorted(entry for entry in stored.route.items() if cursor == "0" or f">{entry[0]}" > cursor)
            return TablePart(
                meta=_stored_meta(stored),
                endpoints=len(stored.route),
                known=len(stored.instances),
                listed=stored.listed,
                entries=tuple(rest[:count]),
                cursor=f">{rest[count - 1][0]}" if len(rest) > count else "0",
            )

    def publish(self, publication: Publication, epoch: int, now_ms: int) -> Outcome:
        require_sense(publication)
        with self._lock:
            self._require_available()
            refusal = self._refusal(publication, epoch)
            if refusal is not None:
                return refusal
            if publication.op is ChangeOp.REMOVED:
                self.services.pop(publication.service, None)
            elif publication.op is ChangeOp.SNAPSHOT or publication.revision != publication.base:
                stored = self.services.setdefault(publication.service, StoredService())
                if publication.op is ChangeOp.SNAPSHOT:
                    stored.route.clear()
                    stored.instances.clear()
                _merge(stored.route, publication.routes)
                _merge(stored.instances, publication.instances)
                stored.meta.update(meta_fields(publication, epoch, now_ms))
                stored.log.append(log_fields(publication))
                stored.listed = True
            self.changes.append(encode_change(publication))
            return Written()

    def refresh(self, service: ServiceKey, stats: WindowStats, epoch: int) -> Outcome:
        with self._lock:
            self._require_available()
            refusal = self._wrong_writer(epoch)
            if refusal is not None:
                return refusal
            stored = self.services.get(service)
            if stored is None:
                return NeedSnapshot(0)
            if stats.end >= int(stored.meta.get("window_end", "0")):
                stored.meta.update(encode_window_stats(stats))
            return Written()

    def _wrong_writer(self, epoch: int) -> Outcome | None:
        if self._owner is None:
            return NotOpen()
        return Fenced(self._owner, self._epoch) if epoch != self._epoch else None

    def _refusal(self, publication: Publication, epoch: int) -> Outcome | None:
        refusal = self._wrong_writer(epoch)
        if refusal is not None:
            return refusal
        stored = _stored_meta(self.services.get(publication.service))
        if stored is not None and stored.epoch > epoch:
            return Fenced(NOBODY, stored.epoch)
        revision = stored.revision if stored is not None else 0
        if publication.op is ChangeOp.SNAPSHOT:
            return NeedSnapshot(revision) if publication.revision <= revision else None
        return NeedSnapshot(revision) if publication.base != revision else None

    def _require_available(self) -> None:
        if not self.available:
            raise StoreUnavailable("the store was told to be unavailable")


def _stored_meta(stored: StoredService | None) -> StoredMeta | None:
    meta = {} if stored is None else stored.meta
    if "revision" not in meta:
        return None
    return StoredMeta(
        int(meta["revision"]),
        int(meta["epoch"]),
        meta["digest"],
        int(meta["event_time"]),
        meta["position"],
        int(meta["endpoints"]),
    )


def _merge(entries: dict[str, str], changes: Mapping[str, str | None]) -> None:
    for name, text in changes.items():
        if text is None:
            entries.pop(name, None)
        else:
            entries[name] = text
