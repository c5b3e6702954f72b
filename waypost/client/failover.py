"""Calls that fail over: the next instance, then the other zones, within a budget; an error lists every attempt.

    call ─► pick ─► try ─ ok ──────────────────────────► result
              ▲      └ failed, may be repeated ─► budget left? ─► pick one that was not tried, or the same one again
              └──────────────────────────────────────────┘

Each try looks the table up anew, so it sees a change that came during the try before. Instances that fail again and
again are left out for a while (`waypost.client.outliers`), whatever the registry says of them: it cannot see the
network between them and this caller.

What may be repeated is for the caller to say; by default connections that failed and answers that did not come. A call
that changes something and whose answer was lost may have been done: say `repeats=()` for those.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from waypost.client.balancers import Balancer
from waypost.client.cache import Table
from waypost.client.outliers import Outliers
from waypost.client.registry.instance import Instance
from waypost.errors import WaypostError

T = TypeVar("T")

REPEATS: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try: of whom, how it failed, and how long it took."""

    instance: Instance
    error: Exception
    took: timedelta


class CallFailed(WaypostError):
    """No instance answered; `attempts` has every try, `why` says what ended it."""

    def __init__(self, service: str, why: str, attempts: tuple[Attempt, ...]) -> None:
        tried = "; ".join(
            f"{a.instance.id} at {a.instance.address}:{a.instance.port} after {a.took.total_seconds():.3f} s: "
            f"{type(a.error).__name__}: {a.error}"
            for a in attempts
        )
        super().__init__(f"no instance of {service} answered ({why}); tried {tried or 'nobody'}")
        self.service = service
        self.why = why
        self.attempts = attempts


class RetryBudget:
    """How many repeats there may be: a part of all calls, and a few per second for those who call seldom.

    Without it, callers of a service that is down send it several times what brought it down. Finagle's rule: a call
    earns `part` of a repeat, a repeat costs one, and nobody saves up more than ten seconds' worth.
    """

    def __init__(
        self, *, part: float = 0.2, per_second: float = 1.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._part = part
        self._per_second = per_second
        self._now = now
        self._lock = threading.Lock()
        self._most = max(10.0 * per_second, 1.0)
        self._left = self._most
        self._at = now()

    def earn(self) -> None:
        """Count a call."""
        with self._lock:
            self._refill()
            self._left = min(self._most, self._left + self._part)

    def spend(self) -> bool:
        """Take one repeat; False: there is none left."""
        with self._lock:
            self._refill()
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True

    def _refill(self) -> None:
        now = self._now()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now


class Failover:
    """See the module. Safe to share between threads, one per service."""

    def __init__(
        self,
        lookup: Callable[[], Table],
        balancer: Balancer,
        *,
        same: int = 0,
        others: int = 2,
        repeats: tuple[type[Exception], ...] = REPEATS,
        budget: RetryBudget | None = None,
        outliers: Outliers | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`same`: how often one instance is tried again before the next; `others`: how many further ones are tried."""
        self._lookup = lookup
        self._balancer = balancer
        self._same = same
        self._others = others
        self._repeats = repeats
        self._budget = budget or RetryBudget(now=now)
        self._outliers = outliers or Outliers(now=now)
        self._now = now

    def call(self, function: Callable[[Instance], T], *, key: str | None = None) -> T:
        """Return what `function` returns for the first instance that answers. Raises CallFailed when none did, and at
        once whatever may not be repeated."""
        self._budget.earn()
        attempts: list[Attempt] = []
        tried: set[str] = set()
        while True:
            table = self._lookup()
            instance = self._pick(table, tried, key)
            if instance is None:
                raise CallFailed(table.service, "nobody is left to try", tuple(attempts))
            for again in range(self._same + 1):
                if attempts and not self._budget.spend():
                    raise CallFailed(table.service, "the retry budget is spent", tuple(attempts))
                begun = self._now()
                try:
                    with self._balancer.under_way(instance):
                        result = function(instance)
                except self._repeats as error:
                    self._outliers.failed(instance.id)
                    attempts.append(
                        Attempt(instance=instance, error=error, took=timedelta(seconds=self._now() - begun))
                    )
                    if again == self._same and len(tried) == self._others:
                        raise CallFailed(table.service, "as many as allowed", tuple(attempts)) from error
                else:
                    self._outliers.succeeded(instance.id)
                    return result
            tried.add(instance.id)

    def _pick(self, table: Table, tried: set[str], key: str | None) -> Instance | None:
        ejected = self._outliers.ejected([each.id for each in table.instances])
        chosen = self._balancer.pick(table.instances, without=tried | ejected, key=key)
        # Better somebody who failed a minute ago than nobody.
        return chosen or self._balancer.pick(table.instances, without=tried, key=key)
