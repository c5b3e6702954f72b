"""Keeps a registration alive: renews it a few times per lease, and writes it again when the registry has lost it.

It never gives up. Between tries it waits a random time, because everybody loses the same registry at the same moment.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from waypost.client.connection import Backoff
from waypost.client.registration import BEATS_PER_LEASE, JITTER
from waypost.errors import WaypostError

_log = logging.getLogger(__name__)

Wait = Callable[[threading.Event, float], bool]
"""Wait for the event, this many seconds at most, and return whether it is set."""


class Kept(Protocol):
    """A registration that can be renewed."""

    def renew(self) -> bool:
        """Renew the lease; False: the registry does not have it any more. Raises RegistryUnavailable."""
        ...

    def write(self) -> None:
        """Register again, with a lease of its own. Raises RegistryUnavailable."""
        ...


class Keeper:
    """One thread for one registration; see the module."""

    def __init__(
        self,
        name: str,
        kept: Kept,
        lease: timedelta,
        *,
        backoff: Backoff | None = None,
        chance: random.Random | None = None,
        wait: Wait = threading.Event.wait,
    ) -> None:
        self._name = name
        self._kept = kept
        self._lease = lease
        self._backoff = backoff or Backoff(first=timedelta(milliseconds=200))
        self._chance = chance or random.Random()
        self._wait = wait
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keeping {name}", daemon=True)
        self._next_try = 0.0
        self.renewed = 0
        self.rewritten = 0

    def start(self) -> None:
        """Begin; the registration has just been written."""
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing more is written. The registration itself stays until its lease ends."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _keep(self) -> None:
        is_lost = False
        while not self._wait(self._stopped, self._pause()):
            try:
                if is_lost or not self._kept.renew():
                    is_lost = True
                    self._kept.write()
                    self.rewritten += 1
                    _log.warning("%s was lost by the registry and is registered again", self._name)
                self.renewed += 1
            except WaypostError as error:
                if not self._backoff.failures:
                    _log.warning("%s is not kept alive, trying again: %s", self._name, error)
                self._next_try = self._backoff.next().total_seconds()
                continue
            is_lost = False
            self._backoff.reset()

    def _pause(self) -> float:
        third = self._lease.total_seconds() / BEATS_PER_LEASE
        if self._backoff.failures:
            return min(third, self._next_try)
        return third * self._chance.uniform(*JITTER)
