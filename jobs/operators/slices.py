"""When a service with much to fold gets its next turn, so that the others do not wait for it.

Flink hands over rows in their order and calls timers in theirs; between two timers that are due it hands over one row.
Whoever folded a storm as it comes would hold up, for as long as the storm takes, an explicit change of a service that
has nothing to do with it. So what comes in bulk is put aside by its service, and folded in slices by timer, which take
half of the time: after each, rows have as long as it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SLICE_MS = 10
"""How long a slice folds before it lets others go on. Writing what it folded comes on top."""

_MEMORY = 0.2
"""Weight of the newest slice in the mean that the spacing follows."""


class Slices:
    """The slices of one subtask, all services together. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = 0.0
        self._mean_ms = float(SLICE_MS)
        self._began = 0.0
        self._free_at = 0.0

    def book(self, now: int) -> int:
        """Return when a slice may begin, on the clock of `now` (ms): after all that were booked before."""
        after = self._last + 2 * self._mean_ms
        self._last = after if now < after < now + 3_600_000 else now + 1.0  # or the clock was set back
        return int(self._last) + 1

    def begin(self) -> bool:
        """Begin a slice, or tell that it has to be booked again: it is late, and the one before is hardly over."""
        self._began = self._clock()
        return self._began >= self._free_at

    def is_over(self) -> bool:
        return self._clock() >= self._began + SLICE_MS / 1000

    def end(self) -> None:
        """Note what the slice took, with all that it caused."""
        now = self._clock()
        spent = now - self._began
        self._free_at = now + spent
        self._mean_ms += _MEMORY * (max(1.0, spent * 1000) - self._mean_ms)
