"""What one service has put aside: rows of records, or of leases, that wait for a slice (`jobs.operators.slices`).

A row is kept as it came, as bytes, here and in the service's journal in keyed state. It is read when its turn comes,
and the journal has it until all of it is folded: after a crash some is folded again, which changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from waypost.model.events import LeaseTransition
from waypost.model.stamp import Stamp
from waypost.wire.glue import ENTRY, FIELD, read_entries
from waypost.wire.transitions import decode_transitions


class Record(NamedTuple):
    """A record of the registry topic, or of the isolations'."""

    stamp: Stamp
    key: bytes
    body: bytes


def records(column: str) -> list[Record]:
    """Take a glued column apart, oldest record first."""
    return sorted(Record(stamp, key.encode(), text.encode()) for key, stamp, text in read_entries(column))


def append_time(column: str) -> int:
    """Return when a record of a glued column was appended, epoch ms."""
    return int(column.split(FIELD, 4)[3])


class Aside:
    """See the module."""

    def __init__(self, rows: Iterable[bytes] = ()) -> None:
        self._rows = deque(rows)
        self.size = sum(map(len, self._rows))
        """Bytes of the rows that are not begun."""
        self._row = b""
        """The one that was begun, and what is left of it."""
        self._items: deque[Record | LeaseTransition] = deque()
        self._folded = 0
        """Bytes of the journal that are folded, and could leave it."""

    def __bool__(self) -> bool:
        return bool(self._rows or self._items)

    @property
    def explicit(self) -> bool:
        """Tell whether the next that waits is an explicit change."""
        return isinstance(self._items[0], Record) if self._items else bool(self._rows) and _is_column(self._rows[0])

    def add(self, row: bytes) -> None:
        self._rows.append(row)
        self.size += len(row)

    def take(self, most: int) -> Sequence[Record | LeaseTransition]:
        """Return the next few; nothing: no more waits."""
        if not self._items and self._rows:
            self._folded += len(self._row)
            self._row = self._rows.popleft()
            self.size -= len(self._row)
            self._items.extend(_read(self._row))
        return [self._items.popleft() for _ in range(min(most, len(self._items)))]

    def count(self) -> int:
        """Return about how many records or leases are in rows that are not begun."""
        return sum(row.count(ENTRY.encode()) + 1 if _is_column(row) else 1 + len(row) // 150 for row in self._rows)

    def shorter_journal(self) -> list[bytes] | None:
        """Return what the journal becomes; None: it stays. Who always has more would keep all it ever had."""
        if self._folded <= len(self._row) + self.size:
            return None
        self._folded = 0
        return [self._row, *self._rows]


def _is_column(row: bytes) -> bool:
    """Only glued columns have separators."""
    return FIELD.encode() in row


def _read(row: bytes) -> Iterable[Record | LeaseTransition]:
    return records(row.decode()) if _is_column(row) else decode_transitions(row)
