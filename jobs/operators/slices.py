"""Whose turn it is to be folded, when more has come than passes at once.

Flink hands over rows in their order. Whoever folded a storm as it comes would hold up, for as long as the storm takes,
an explicit change of a service that has nothing to do with it. So rows are folded as they come only while that leaves
half of the time free, and none that carries many records or leases. Anything else of them is put aside by its service,
which is cheap, and folded in slices, one service at a time. (Isolations and windows are few, and never wait,
nor do single leases: each tick tells its own.)

Whose slice is next is decided by fair queueing (Demers, Keshav and Shenker, 1989): by the *round* in which a service
would be through, were all that wait folded in turns, a record each. One with little to fold is through in an early
round, so it goes before a thousand others that wait longer and want more. Who always wants more takes turns.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

SLICE_MS = 10
"""How long a slice folds before it lets others go on. Writing what it folded comes on top."""

_SHARE = 0.5
"""Which part of the time rows may take that are folded as they come."""

_FIRST = 4
"""While the job is behind, rows have so many times as long as a slice took. What is read takes its turn; what is not
waits for everything before it."""

_OVERDUE_S = 1.0
"""So much later than it was meant to, a timer for the next slice is given up: the machine's clock was set back."""

_BEHIND_MS = 100
"""How long a row that came late is taken as a sign that more are on their way."""


class Slices:
    """What waits in one subtask, all services together. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue: list[tuple[float, int, str]] = []
        """A heap: the round in which a service is through, and the order in which they came."""
        self._waiting: set[str] = set()
        self._through: dict[str, float] = {}
        """In which round each service is through with all it ever put aside, since the queue was empty."""
        self._round = 0.0
        self._came = 0
        self._began = self._ended = self._noted = self._row = clock()
        self._behind_until = 0.0
        self._spent_on_rows = 0.0
        """Since the last slice."""
        self._owed = 0.0
        """How long rows have taken beyond their share of the time."""

    def __bool__(self) -> bool:
        """Whether a service waits."""
        return bool(self._queue)

    # -- rows ------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Tell whether a row may be folded as it comes."""
        self._pay(self._clock())
        return self._owed < SLICE_MS / 1000

    def begin_row(self) -> None:
        """Note that a row has come."""
        self._row = self._clock()
        self._pay(self._row)

    def note_backlog(self) -> None:
        """Note that this row comes late, because there are many."""
        self._behind_until = self._clock() + _BEHIND_MS / 1000

    def end_row(self) -> None:
        """Note that what the row asked for is done."""
        now = self._noted = self._clock()
        spent = now - self._row
        self._spent_on_rows += spent
        # Not more, so that a storm that is over holds up nobody.
        self._owed = min(self._owed + spent * (1 - _SHARE), 2 * SLICE_MS / 1000)

    def _pay(self, now: float) -> None:
        self._owed = max(0.0, self._owed - max(0.0, now - self._noted) * _SHARE)
        self._noted = now

    # -- slices ----------------------------------------------------------------------------------------

    def add(self, service: str, records: int) -> None:
        """Queue a service that has put so many more records aside."""
        through = self._through[service] = max(self._round, self._through.get(service, 0.0)) + records
        if service not in self._waiting:
            self._waiting.add(service)
            self._came += 1
            heapq.heappush(self._queue, (through, self._came, service))

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

    def begin(self) -> str:
        """Begin a slice, and return whose it is. There must be one that waits."""
        self._began = self._clock()
        _, _, service = heapq.heappop(self._queue)
        self._waiting.remove(service)
        return service

    def is_over(self) -> bool:
        return self._clock() >= self._began + SLICE_MS / 1000

    def end(self, records: int) -> None:
        """Note that the slice is over with all that it caused, and how many records it has folded."""
        self._ended = self._noted = self._clock()
        self._spent_on_rows = 0.0
        if self._queue:
            self._round += records / len(self._queue)
        else:
            self._through.clear()
            self._round = 0.0


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
