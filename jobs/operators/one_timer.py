"""One processing-time timer per key that can be moved."""

from __future__ import annotations

from typing import Any

from pyflink.datastream import RuntimeContext

from jobs.operators.keyed_state import StateValue


class OneTimer:
    """Where it is set is kept in keyed state, because timers are."""

    def __init__(self, context: RuntimeContext) -> None:
        self._at: StateValue[int] = StateValue(context, "timer", lambda at: b"%d" % at, int, int)

    def set(self, at: int | None, ctx: Any) -> None:
        """Fire at `at`, epoch ms, and at no other time; None: never."""
        before = self._at.get()
        if (at or 0) == before:
            return
        if before:
            ctx.timer_service().delete_processing_time_timer(before)
        if at is None:
            self._at.clear()
        else:
            self._at.set(at)
            ctx.timer_service().register_processing_time_timer(at)

    def set_once(self, at: int, ctx: Any) -> None:
        """Fire at `at` unless a time is set already."""
        if not self._at.get():
            self.set(at, ctx)

    def fires(self, timestamp: int) -> bool:
        """Tell whether the timer that fires is the one; then it is none any more."""
        if timestamp != self._at.get():
            return False
        self._at.clear()
        return True
