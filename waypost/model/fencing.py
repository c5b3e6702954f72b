"""Who may write the tables.

One *writer* is one execution attempt of one Flink job; all its subtasks share one epoch. The store keeps the
epoch of the writer that opened last, and refuses everyone else, so a task that was paused for two minutes
while its job was restarted elsewhere cannot overwrite what its successor wrote.

This does not protect from a writer with a valid epoch and wrong state: that is what `base` in every
publication and the catch-up rule after a restore are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from waypost.model.health_window import WindowStats
from waypost.model.names import ServiceKey
from waypost.model.route_table import Publication


@dataclass(frozen=True, slots=True)
class WriterId:
    """One execution attempt of one job. `attempt` counts up within a job, from 0."""

    job_id: str
    attempt: int


NOBODY = WriterId("", -1)
"""The owner of a table whose epoch is above that of the owner of all tables: the key that says who took it is lost, or
somebody edited `meta`."""


@dataclass(frozen=True, slots=True)
class Written:
    """The publication is visible to readers."""


@dataclass(frozen=True, slots=True)
class NeedSnapshot:
    """The stored revision is not the publication's base; nothing was written."""

    stored_revision: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """A newer writer owns the tables; nothing was written."""

    owner: WriterId
    epoch: int


@dataclass(frozen=True, slots=True)
class NotOpen:
    """The store does not know any writer: it was wiped. Open again, then publish snapshots."""


Outcome = Written | NeedSnapshot | Fenced | NotOpen


@dataclass(frozen=True, slots=True)
class StoredMeta:
    """What the store holds of one service's `meta`, as far as a writer needs it."""

    revision: int
    epoch: int
    digest: str
    event_time: int
    position: str
    endpoints: int


@dataclass(frozen=True, slots=True)
class TablePart:
    """What the audit reads of a service at once: its `meta`, how much there is, and some of the route entries.

    `endpoints` and `known` count the entries of `route` and `instances`, `listed` says whether the service is in the
    list of services. `cursor` is where to go on, and "0" when everything was read.
    """

    meta: StoredMeta | None
    endpoints: int
    known: int
    listed: bool
    entries: tuple[tuple[str, str], ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Opened:
    """This writer owns the tables under `epoch`. `generation` names this life of the store: it changes
    when the store was wiped, and only then."""

    epoch: int
    generation: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at the store shows: the name of this life of it (None before any writer), the owner's epoch, and a
    number that grows as long as the owner lives."""

    generation: str | None
    epoch: int = 0
    signs: int = 0


class RouteStore(Protocol):
    """Where route tables become visible to gateways.

    Every method raises `StoreUnavailable` when the store does not answer in time; a publication may then have
    been written or not (the next one finds out by its base). All but `open` and `look` raise
    `PublicationRefused` when the store will not do it for this service, whenever it is asked.
    """

    def open(self, writer: WriterId, now_ms: int, above: int = 0) -> Opened | Fenced:
        """Take over the tables. The epoch is the store's max(last epoch + 1, now_ms, above + 1), or, for a
        further subtask of the attempt that owns them already, that attempt's epoch if it is above `above`. FENCED
        when a later attempt of the same job opened before. Another job always takes over."""
        ...

    def look(self, epoch: int = 0) -> Sight:
        """Return what is to be seen without writing a table. With the epoch of the owner it is a sign of its life."""
        ...

    def meta(self, service: ServiceKey) -> StoredMeta | None:
        """Return what is stored of a service, None when nothing is."""
        ...

    def part(self, service: ServiceKey, cursor: str, count: int) -> TablePart:
        """Return about `count` route entries from `cursor` on ("0" at first), and the rest that an audit compares.

        An entry that is there from the first part to the last is in one of them at least."""
        ...

    def publish(self, publication: Publication, epoch: int, now_ms: int) -> Outcome:
        """Make one publication visible, atomically."""
        ...

    def refresh(self, service: ServiceKey, stats: WindowStats, epoch: int) -> Outcome:
        """Write down what the beats of a window said, beside the table: no revision, no entry in `changes`, nothing
        that a reader would have to notice. `Written` also when the store has a newer window already; `NeedSnapshot`
        when it has no table of the service, and then nothing is written."""
        ...
