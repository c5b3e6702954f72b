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
from collections.abc import Awaitable, Callable
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
        self.lookup = lookup
        self.same = same
        self.others = others
        self.budget = budget or RetryBudget(now=now)
        self.outliers = outliers or Outliers(now=now)
        self.now = now
        self._balancer = balancer
        self._repeats = repeats

    def call(self, function: Callable[[Instance], T], *, key: str | None = None) -> T:
        """Return what `function` returns for the first instance that answers. Raises CallFailed when none did, and at
        once whatever may not be repeated."""
        tries = self.tries(key=key)
        while True:
            instance = tries.next()
            try:
                with self._balancer.under_way(instance):
                    result = function(instance)
            except self._repeats as error:
                tries.failed(error)
            else:
                tries.succeeded()
                return result

    async def acall(self, function: Callable[[Instance], Awaitable[T]], *, key: str | None = None) -> T:
        """As `call`, for asyncio. It never waits for anything but the function."""
        tries = self.tries(key=key)
        while True:
            instance = tries.next()
            try:
                with self._balancer.under_way(instance):
                    result = await function(instance)
            except self._repeats as error:
                tries.failed(error)
            else:
                tries.succeeded()
                return result

    def tries(self, *, key: str | None = None) -> Tries:
        """Begin a call; for those who make the tries themselves."""
        self.budget.earn()
        return Tries(self, key)

    def pick(self, table: Table, tried: set[str], key: str | None) -> Instance | None:
        """Return whom to try next, None when everybody was tried."""
        ejected = self.outliers.ejected([each.id for each in table.instances])
        chosen = self._balancer.pick(table.instances, without=tried | ejected, key=key)
        # Better somebody who failed a minute ago than nobody.
        return chosen or self._balancer.pick(table.instances, without=tried, key=key)


class Tries:
    """The tries of one call. `next`, then `failed` or `succeeded`, by turns."""

    def __init__(self, failover: Failover, key: str | None) -> None:
        self._failover = failover
        self._key = key
        self._made: list[Attempt] = []
        self._tried: set[str] = set()
        self._instance: Instance | None = None
        self._again = 0
        self._begun = 0.0

    def next(self) -> Instance:
        """Return whom to try. Raises CallFailed when that is nobody."""
        rules, table = self._failover, self._failover.lookup()
        if self._instance is not None and self._again < rules.same:
            self._again += 1
        else:
            if self._instance is not None:
                self._tried.add(self._instance.id)
            if len(self._tried) > rules.others:
                raise self._gives_up(table.service, "as many as allowed")
            self._instance, self._again = rules.pick(table, self._tried, self._key), 0
        if self._instance is None:
            raise self._gives_up(table.service, "nobody is left to try")
        if self._made and not rules.budget.spend():
            raise self._gives_up(table.service, "the retry budget is spent")
        self._begun = rules.now()
        return self._instance

    def failed(self, error: Exception) -> None:
        """Note that the try failed and may be repeated."""
        assert self._instance is not None
        took = timedelta(seconds=self._failover.now() - self._begun)
        self._failover.outliers.failed(self._instance.id)
        self._made.append(Attempt(instance=self._instance, error=error, took=took))

    def succeeded(self) -> None:
        """Note that it did not."""
        assert self._instance is not None
        self._failover.outliers.succeeded(self._instance.id)

    def _gives_up(self, service: str, why: str) -> CallFailed:
        failed = CallFailed(service, why, tuple(self._made))
        failed.__cause__ = self._made[-1].error if self._made else None
        return failed
