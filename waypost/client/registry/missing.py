"""Instances that a store had before it was emptied or put back, and does not have yet.

They stay in the table, beside those who are there again, for `grace`: as long as it takes them to notice that they have
to register anew. Otherwise the first one back would get all calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from waypost.client.registry.instance import Instance


class Missing:
    """Who is awaited. The caller holds `lock` for every call but the last: `let_go(ids)` comes from a thread of ours,
    with the lock, when the grace is over."""

    def __init__(
        self, grace: timedelta, lock: AbstractContextManager[Any], let_go: Callable[[list[str]], None]
    ) -> None:
        self._grace = grace
        self._lock = lock
        self._let_go = let_go
        self._timer: threading.Timer | None = None
        self.instances: Mapping[str, Instance] = {}

    def __bool__(self) -> bool:
        return bool(self.instances)

    def note(self, found: Container[str], known: Mapping[str, Instance] | None = None) -> None:
        """Note that these were found: nobody waits for them any more, but for any others that were known."""
        awaited = {**self.instances, **(known or {})}
        self.instances = {id: instance for id, instance in awaited.items() if id not in found}

    def begin_grace(self) -> None:
        """Wait for them from now on, if anybody is awaited; who does so already goes on."""
        if self.instances and self._timer is None:
            self._timer = threading.Timer(self._grace.total_seconds(), self._end)
            self._timer.daemon = True
            self._timer.start()

    def end_grace(self) -> None:
        """Take nobody away for now: where nobody is, nobody has come back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return  # It was ended while it was waiting for its turn.
            gone, self.instances, self._timer = list(self.instances), {}, None
            if gone:
                self._let_go(gone)
