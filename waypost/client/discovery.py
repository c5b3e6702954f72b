"""Registry, cache, health checker and balancer joined: everything a program needs to be found and to find others.

    register, deregister ──► registry
    call, pick ─► failover ─► balancer ─► cache of the tables, without those that do not answer ◄── registry

An instance that this caller's checks find unhealthy is left out, but never all of a service: when nobody answers, the
fault is more likely to be here, and everybody is tried.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from waypost.client.balancers import Balancer, Random
from waypost.client.cache import ServiceCache, Table
from waypost.client.failover import CallFailed, Failover
from waypost.client.health_checks import INTERVAL, HealthChecker, Probe
from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import Discoverer, ServiceRegistry
from waypost.errors import NotSupported

T = TypeVar("T")

FIRST_ANSWER = timedelta(seconds=5)
"""How long the first call of a service waits for its table; later ones never wait."""


class DiscoveryManager:
    """See the module. Safe to share between threads; one per program. Owns what it is given, and closes it."""

    def __init__(
        self,
        discoverer: Discoverer,
        *,
        make_balancer: Callable[[], Balancer] = Random,
        probe: Probe | None = None,
        file: Path | None = None,
        interval: timedelta = INTERVAL,
        **failover: Any,
    ) -> None:
        """`make_balancer` is asked once per service; `probe` None: no health checks, else every `interval`. What is
        left goes to `Failover`."""
        self._discoverer = discoverer
        self._cache = ServiceCache(discoverer, file=file)
        self._make_balancer = make_balancer
        self._probe = probe
        self._interval = interval
        self._failover_settings = failover
        self._lock = threading.Lock()
        self._services: dict[str, tuple[Failover, Balancer]] = {}
        self._checkers: dict[str, HealthChecker] = {}

    # -- being found -----------------------------------------------------------------------------------

    def register(self, instance: Instance) -> None:
        """As `ServiceRegistry.register`. Raises NotSupported where nobody can."""
        self._registry().register(instance)

    def deregister(self, service: str, instance: str) -> None:
        """As `ServiceRegistry.deregister`."""
        self._registry().deregister(service, instance)

    # -- finding others --------------------------------------------------------------------------------

    def call(self, service: str, function: Callable[[Instance], T], *, key: str | None = None) -> T:
        """Return what `function` returns for the first instance that answers; see `Failover.call`."""
        return self._service(service)[0].call(function, key=key)

    async def acall(self, service: str, function: Callable[[Instance], Awaitable[T]], *, key: str | None = None) -> T:
        """As `call`, for asyncio: the first call of a service waits for its table in a thread of the loop's pool."""
        known = self._services.get(service)
        if known is None:
            known = await asyncio.get_running_loop().run_in_executor(None, self._service, service)
        return await known[0].acall(function, key=key)

    def follows(self) -> frozenset[str]:
        """Return the services whose tables are kept, each in a thread of its own, because they were asked for."""
        return frozenset(self._services)

    def pick(self, service: str, *, key: str | None = None) -> Instance:
        """Return one instance to call. Raises CallFailed when there is nobody."""
        _, balancer = self._service(service)
        chosen = balancer.pick(self.table(service).instances, key=key)
        if chosen is None:
            raise CallFailed(service, "nobody is there", ())
        return chosen

    def table(self, service: str) -> Table:
        """Return the instances that may be called, without those that do not answer; and whether it is stale."""
        self._service(service)
        table = self._cache.lookup(service)
        checker = self._checkers.get(service)
        unhealthy = checker.verdicts.unhealthy if checker is not None else frozenset()
        if not unhealthy:
            return table
        healthy = tuple(each for each in table.instances if each.id not in unhealthy)
        return replace(table, instances=healthy) if healthy else table

    def close(self) -> None:
        """End everything. What is registered stays until its lease ends: deregister it first."""
        with self._lock:
            checkers = list(self._checkers.values())
        for checker in checkers:
            checker.close()
        self._cache.close()
        self._discoverer.close()

    def __enter__(self) -> DiscoveryManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _registry(self) -> ServiceRegistry:
        if not isinstance(self._discoverer, ServiceRegistry):
            raise NotSupported("this registry can only be read; etcd and waypost take registrations")
        return self._discoverer

    def _service(self, service: str) -> tuple[Failover, Balancer]:
        known = self._services.get(service)
        if known is not None:
            return known
        self._cache.follow(service, wait=FIRST_ANSWER)
        with self._lock:
            if service not in self._services:
                balancer = self._make_balancer()
                if self._probe is not None:
                    instances = lambda: self._cache.lookup(service).instances  # noqa: E731
                    self._checkers[service] = HealthChecker(instances, self._probe, interval=self._interval)
                    self._checkers[service].start()
                failover = Failover(lambda: self.table(service), balancer, **self._failover_settings)
                self._services[service] = failover, balancer
            return self._services[service]
