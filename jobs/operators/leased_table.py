"""Which instances of one service are in its table on a lease: the route fold's memory of it, to compare with beats.

Kept in memory and not in state, because the state says it already, entry by entry. Reading thousands of entries in one
call would hold up everybody else's changes, so after a start they are read a few at a time; until all are, nothing is
compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import islice

from waypost.model.route_table import ChangeOp
from waypost.model.service import Plan

_AT_ONCE = 500
"""Entries read per call: about 10 ms."""


class LeasedTable:
    """Begins with `unread`, the state's entries as `ServiceFold.leased_routes` yields them, and follows what is
    published from then on."""

    def __init__(self, unread: Iterator[tuple[str, bool]]) -> None:
        self._unread: Iterator[tuple[str, bool]] | None = unread
        self._known: set[str] = set()

    def read_on(self) -> Set[str] | None:
        """Read some more; return the instances when all were read, else None. Call it in the service's own turn."""
        if self._unread is not None:
            entries = list(islice(self._unread, _AT_ONCE))
            self._known.update(instance for instance, is_leased in entries if is_leased)
            if len(entries) == _AT_ONCE:
                return None
            self._unread = None
        return self._known

    def note(self, plan: Plan) -> None:
        """Follow a publication that the store has taken."""
        if plan.publication.op is ChangeOp.SNAPSHOT:
            self._known, self._unread = set(plan.leased), None
        else:
            self._known.difference_update(plan.publication.instances)
            self._known.update(plan.leased)
