"""Whether the store still holds what was written: how a table is recomputed from the store's own entries.

The writer knows of each table what its `meta` must say. The audit reads `meta` and the entries themselves and
recomputes the digest, so whatever somebody changed by hand, or a replica lost, is found. Large tables are read part by
part; what the writer itself writes meanwhile counts as read.

Nothing here protects from a change between two audits that undoes itself, and nothing looks at `instances` entry by
entry: they are for people, and only their number is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from waypost.model.fencing import StoredMeta, TablePart
from waypost.model.route_table import entry_digest, format_digest

START = "0"
"""The cursor a scan begins with; the store answers it again when the last part was read."""


@dataclass(slots=True)
class Scan:
    """One pass over the entries of one table. Complete when the store's cursor is back at `START`."""

    cursor: str = START
    digests: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)

    def take(self, part: TablePart) -> bool:
        """Add the entries of one part, and tell whether it was the last. A store may give an entry twice."""
        for instance, endpoint in part.entries:
            self.digests[instance] = entry_digest(instance, endpoint)
        self.cursor = part.cursor
        return self.cursor == START

    def wrote(self, routes: Mapping[str, str | None]) -> None:
        """Note what the writer wrote during the scan, wherever the cursor was."""
        for instance, endpoint in routes.items():
            self.written[instance] = 0 if endpoint is None else entry_digest(instance, endpoint)

    def digest(self) -> str:
        """Return the digest of the table as read."""
        total = 0
        for value in (self.digests | self.written).values():
            total ^= value
        return format_digest(total)


def damage(part: TablePart, expected: StoredMeta) -> str:
    """Return what one part shows to be wrong, as a slug; "" when nothing is. The digest is looked at afterwards."""
    if part.meta is None:
        return "meta-missing"
    if part.meta != expected:
        return "meta-differs"
    if part.endpoints != expected.endpoints:
        return "entries-missing" if part.endpoints < expected.endpoints else "entries-added"
    if part.known < expected.endpoints:
        return "instances-missing"
    return "" if part.listed else "unlisted"


@dataclass(slots=True)
class Budget:
    """Slots for audits, so far apart that they take `percent` of the time at most, whoever asks for how many.

    A slot costs its measured time / share. Who asks first comes first, so every table has its turn, and a fleet too
    large for the budget is audited less often instead of at the expense of changes. Times are ms.
    """

    percent: int
    usual: float = 1.0
    """What one slot costs lately."""
    next_free: float = 0.0

    def reserve(self, now: int) -> int:
        """Return when the next audit may run: `now` or later."""
        at = max(float(now), self.next_free)
        self.next_free = at + self._apart(self.usual)
        return int(at) if at == now else int(at) + 1

    def spent(self, cost: float) -> None:
        """Note what the slot that just ran did cost."""
        self.next_free += self._apart(cost - self.usual)
        self.usual += (cost - self.usual) / 8

    def _apart(self, cost: float) -> float:
        return cost * 100 / self.percent
