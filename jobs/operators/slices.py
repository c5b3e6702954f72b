"""Whose turn it is, when more has to be done than passes at once.

Flink hands over rows in their order, and all timers that are due before the next row. Whoever folded a storm as it
comes, or wrote whatever is to be written by now, would hold up an explicit change of a service that has nothing to do
with it. So rows are folded as they come, and timers do what they were set for, only while that leaves half of the time
free, and no row that carries many records or leases is. Anything else is put aside by its service, which is cheap, and
done in slices. (Isolations and windows are few, and never wait.) Explicit changes have a half of their own: they wait
for each other, but not for leases that end or begin, nor for anybody's writes.

Every other turn goes to the service of which least waits: one with little to fold does not wait for a thousand with
much. The turns between go to who waits longest, so everybody's comes. There are two such queues, and they take turns,
too: services that wait with explicit changes, and all others.
"""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Callable

SLICE_MS = 10
"""How long a slice takes before it lets others go on. Writing what it folded last comes on top."""

_SHARE = 0.5
"""Which part of the time may go to rows that are folded as they come, and timers."""

_FIRST = 4
"""While the job is behind, rows have so many times as long as a slice took. What is read takes its turn; what is not
waits for everything before it."""

_OVERDUE_S = 1.0
"""So much later than it was meant to, a timer for the next slice is given up: the machine's clock was set back."""

_BEHIND_MS = 100
"""How long a row that came late is taken as a sign that more are on their way."""


class _Queue:
    """Who waits, and how much of each."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, int] = OrderedDict()
        """In the order in which they came; which entry of the heap counts, others are older or of those that left."""
        self._by_size: list[tuple[int, int, str]] = []
        self._entries = 0
        self._least = False
        """Whether the last turn was that of the least."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, service: str) -> bool:
        return service in self._waiting

    def add(self, service: str, size: int) -> None:
        """Queue a service; one that waits keeps its place, whatever its size is now."""
        self._entries += 1
        self._waiting[service] = self._entries
        heapq.heappush(self._by_size, (size, self._entries, service))

    def leave(self, service: str) -> None:
        self._waiting.pop(service, None)

    def next(self) -> str:
        self._least = not self._least
        service = self._smallest() if self._least else next(iter(self._waiting))
        del self._waiting[service]
        if not self._waiting:
            self._by_size.clear()
        return service

    def _smallest(self) -> str:
        while True:
            _, entry, service = heapq.heappop(self._by_size)
            if self._waiting.get(service) == entry:
                return service


class Slices:
    """What waits in one subtask, all services together. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._explicit, self._others = _Queue(), _Queue()
        self._turn = self._explicit
        self._sizes: dict[str, int] = {}
        """How many records and leases each has put aside, since nothing of it waited."""
        self._began = self._ended = self._noted = self._row = clock()
        self._behind_until = 0.0
        self._spent_on_rows = 0.0
        """Since the last slice."""
        self._owed = {True: 0.0, False: 0.0}
        """How long explicit changes, and all together, have taken beyond their share of the time."""

    def __bool__(self) -> bool:
        """Whether a service waits."""
        return bool(self._explicit or self._others)

    # -- rows ------------------------------------------------------------------------------------------

    def has_room(self, *, explicit: bool) -> bool:
        """Tell whether a row may be folded as it comes, or a timer do what it was set for."""
        self._pay(self._clock())
        return self._owed[explicit] < SLICE_MS / 1000

    def begin_row(self) -> None:
        """Note that a row has come, or a timer fires."""
        self._row = self._clock()
        self._pay(self._row)

    def note_backlog(self) -> bool:
        """Note that this row comes late, and tell whether others that did were just before it."""
        now = self._clock()
        before, self._behind_until = self._behind_until, now + _BEHIND_MS / 1000
        return now < before

    def end_row(self, *, explicit: bool) -> None:
        """Note that what it asked for is done."""
        now = self._noted = self._clock()
        spent = now - self._row
        self._spent_on_rows += spent
        for account in {explicit, False}:
            # Not more, so that a storm that is over holds up nobody.
            self._owed[account] = min(self._owed[account] + spent * (1 - _SHARE), 2 * SLICE_MS / 1000)

    def _pay(self, now: float) -> None:
        for account, owed in self._owed.items():
            self._owed[account] = max(0.0, owed - max(0.0, now - self._noted) * _SHARE)
        self._noted = now

    # -- slices ----------------------------------------------------------------------------------------

    def add(self, service: str, more: int, *, explicit: bool) -> None:
        """Queue a service that has put so many more records or leases aside (one for a timer; fewer than none: so many
        were folded, and others are left)."""
        size = self._sizes[service] = max(1, self._sizes.get(service, 0) + more)
        if explicit:
            self._others.leave(service)
        queue = self._explicit if explicit or service in self._explicit else self._others
        queue.add(service, size)

    def wait_ms(self) -> int:
        """Return how long the next slice leaves the time to rows; 0: it may begin.

        After a slice rows have as long as it took, unless there are none; while the job is behind, several times that.
        """
        now = self._clock()
        since, took, is_behind = now - self._ended, self._ended - self._began, now < self._behind_until
        left = took * (_FIRST if is_behind else 1) - since
        if left <= 0 or (not is_behind and self._spent_on_rows < since * _SHARE):
            return 0
        return int(left * 1000) + 1

    def begin(self) -> None:
        self._began = self._clock()

    def next(self) -> str:
        """Return whose turn it is in this slice. There must be one that waits."""
        other = self._others if self._turn is self._explicit else self._explicit
        self._turn = other or self._turn
        return self._turn.next()

    def is_over(self) -> bool:
        """Tell whether the slice has had its time."""
        return self._clock() >= self._began + SLICE_MS / 1000

    def end_turn(self, service: str) -> None:
        """Note that who had the turn has queued again if anything of it is left."""
        if service not in self._explicit and service not in self._others:
            self._sizes.pop(service, None)

    def end(self) -> None:
        """Note that the slice is over with all that it caused."""
        self._ended = self._noted = self._clock()
        self._spent_on_rows = 0.0


class WakeUp:
    """The one timer of a subtask that begins the next slice. Whose key it has does not matter. `clock` is in seconds,
    and nobody sets it; timers go by one that somebody may set back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = 0
        self._overdue = 0.0

    def is_overdue(self) -> bool:
        """Tell whether no timer is set that will fire."""
        return not self._at or self._clock() > self._overdue

    def set(self, now: int, wait_ms: int) -> int:
        """Return the time to set a timer for, epoch ms."""
        self._at = now + wait_ms
        self._overdue = self._clock() + wait_ms / 1000 + _OVERDUE_S
        return self._at

    def fires(self, now: int) -> bool:
        """Tell whether it is time for a slice, which is told once."""
        if not self._at or (now < self._at and not self.is_overdue()):
            return False
        self._at = 0
        return True
