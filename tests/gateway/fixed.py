"""A feed that knows what it is told."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.gateway.feed import Listener, Tables
from waypost.gateway.pool import Pool, Target
from waypost.model.names import ServiceKey


def a_target(port: int) -> Target:
    return Target(address="10.0.0.1", port=port, weight=1, zone="")


class FixedFeed:
    """Has the shape of `Feed`."""

    def __init__(self, pools: Mapping[ServiceKey, Pool] | None = None) -> None:
        self._tables = None if pools is None else Tables(number=1, pools=pools)
        self.stale = False
        self.asked: set[ServiceKey] = set()
        self._listeners: list[Listener] = []

    def tables(self) -> Tables | None:
        return self._tables

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def want_draining(self, *services: ServiceKey) -> None:
        self.asked.update(services)

    def become(self, pools: Mapping[ServiceKey, Pool]) -> None:
        before = self._tables.pools if self._tables else {}
        self._tables = Tables(number=self._tables.number + 1 if self._tables else 1, pools=pools)
        changed = frozenset(s for s in {*before, *pools} if before.get(s) != pools.get(s))
        for listener in self._listeners:
            listener(changed, before.keys() != pools.keys())
