"""When a service with much to fold gets its next turn, so that the others do not wait for it.

Flink hands over rows in their order and calls timers in theirs. Whoever folded a storm as it comes would hold up, for
as long as the storm takes, an explicit change of a service that has nothing to do with it. So what comes in bulk is put
aside by its service, and folded in slices by timer: short ones, with room between any two for what came meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SLICE_MS = 10
"""How long a slice folds before it lets others go on."""

GAP_MS = 4
"""What is left between two slices."""


class Slices:
    """The slices of one subtask, all services together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = 0
        self._free_at = 0.0
        self._ends_at = 0.0

    def book(self, now: int) -> int:
        """Return when a slice may begin, on the clock of `now` (ms): after all that were booked before."""
        self._last = max(now + 1, self._last + SLICE_MS + GAP_MS)
        if self._last > now + 3_600_000:  # the clock was set back
            self._last = now + 1
        return self._last

    def begin(self) -> bool:
        """Tell whether a slice may begin now; its time begins, too. Slices that are late would follow each other
        without a gap."""
        now = self._clock()
        if now < self._free_at:
            return False
        self._ends_at = now + SLICE_MS / 1000
        return True

    def is_over(self) -> bool:
        return self._clock() >= self._ends_at

    def end(self) -> None:
        self._free_at = self._clock() + GAP_MS / 1000
