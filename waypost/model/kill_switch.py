"""The one switch that stops all repairs, and the rule that not knowing is the same as stopped.

Whoever is about to do something asks at that moment, with what was read last. So a switch works within the time
between two readings, at most `STALE_MS`, also when what fails is the reading itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from waypost.model.refusals import Reason

STALE_MS = 10_000
"""DESIGN's promise for the switch. Doubled, a switched-off cluster could be repaired for twice as long."""


@dataclass(frozen=True, slots=True)
class Control:
    """The switch as it was read at `read_at`, epoch ms by the clock of `now`; 0: it never was."""

    enabled: bool
    read_at: int

    def refuses(self, now: int) -> Reason | None:
        """Return why nothing may be done now. A reading from the future is none: one of the clocks is wrong."""
        if abs(now - self.read_at) > STALE_MS:
            return Reason.CONFIG_UNKNOWN
        return None if self.enabled else Reason.KILL_SWITCH


UNREAD = Control(False, 0)
