"""Instances that fail this caller again and again are left out for a while, each time longer.

Never more than half of a service: when most of it fails, the fault is nearer than they are, or everywhere, and to send
everything to the few that are left would break those too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(slots=True)
class _Record:
    failures: int = 0
    ejections: int = 0
    until: float = 0.0


class Outliers:
    """See the module. Safe to share between threads, one per service."""

    def __init__(
        self,
        *,
        failures: int = 5,
        ejection: timedelta = timedelta(seconds=30),
        longest: timedelta = timedelta(minutes=5),
        at_most: float = 0.5,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failures` in a row eject for `ejection` times the number of ejections, `longest` at most; never more than
        the part `at_most` of all instances."""
        self._failures = failures
        self._ejection = ejection.total_seconds()
        self._longest = longest.total_seconds()
        self._at_most = at_most
        self._now = now
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}

    def failed(self, instance: str) -> None:
        """Count a failure."""
        with self._lock:
            record = self._records.setdefault(instance, _Record())
            record.failures += 1
            if record.failures >= self._failures:
                record.failures = 0
                record.ejections += 1
                record.until = self._now() + min(self._longest, self._ejection * record.ejections)

    def succeeded(self, instance: str) -> None:
        """Forget the failures in a row, and that it was ever ejected once it has served its time."""
        with self._lock:
            record = self._records.get(instance)
            if record is not None:
                record.failures = 0
                if record.until <= self._now():
                    del self._records[instance]

    def ejected(self, instances: Iterable[str]) -> frozenset[str]:
        """Return which of these to leave out now: those that were ejected first, as many as allowed. Forgets about
        instances that are not among these."""
        with self._lock:
            if not self._records:
                return frozenset()
            those = set(instances)
            self._records = {id: record for id, record in self._records.items() if id in those}
            now = self._now()
            out = [id for id, record in self._records.items() if record.until > now]
            out.sort(key=lambda id: self._records[id].until)
            return frozenset(out[: int(len(those) * self._at_most)])
