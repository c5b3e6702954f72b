"""What a mirror has told of a registry, and what is to be told next."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta

from waypost.mirror.memory import Memory
from waypost.mirror.sets import NONE, Endpoints
from waypost.mirror.source import Tell


class Telling:
    """Tells what differs from what was told; `known` is what an earlier mirror has told. Hold `lock` around everything
    but `close`: a grace ends by a timer of its own."""

    def __init__(self, tell: Tell, known: Mapping[str, Endpoints], grace: timedelta) -> None:
        self.lock = threading.Lock()
        self.memory = Memory()
        self.told = dict(known)
        self._tell = tell
        self._grace = grace
        self._end_of_grace: threading.Timer | None = None
        self._is_closed = False

    def doubt(self, *, has_looked: bool) -> None:
        """The registry may have lost its memory: let a grace begin. Who `has_looked` keeps what the registry had, else
        what was told."""
        if has_looked:
            self.memory.replaced()
        else:
            self.memory = Memory(self.told)
        if self._end_of_grace is not None:
            self._end_of_grace.cancel()
        self._end_of_grace = threading.Timer(self._grace.total_seconds(), self._let_go)
        self._end_of_grace.daemon = True
        self._end_of_grace.start()

    def say(self, services: Iterable[str]) -> None:
        """Tell of these services what differs from what was told."""
        now = {service: self.memory.of(service) for service in services}
        told = {service: those for service, those in now.items() if those != self.told.get(service, NONE)}
        self.told.update(told)
        self._tell(told)

    def say_all(self) -> None:
        """Tell what differs of any service that was told or is there."""
        self.say(self.told.keys() | self.memory.all().keys())

    def close(self) -> None:
        """Let no grace end any more."""
        with self.lock:
            self._is_closed = True
            if self._end_of_grace is not None:
                self._end_of_grace.cancel()

    def _let_go(self) -> None:
        with self.lock:
            self.memory.end_grace()
            if not self._is_closed:
                self.say_all()
