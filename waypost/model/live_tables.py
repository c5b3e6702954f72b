"""The route tables as the audit log tells them: who is in which table, and where they run.

A change counts on top of the revision it was made on. One that is missing (the log was cut, a writer died between two
records) makes a table *unknown* until its next snapshot: not knowing is told, it is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from waypost.model.impact import Place, Tables, homes
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp


@dataclass(slots=True)
class LiveTables:
    """All tables, by service. `tables` has those that are known; do not change it."""

    tables: dict[ServiceKey, dict[str, Place]] = field(default_factory=dict)
    revisions: dict[ServiceKey, int] = field(default_factory=dict)
    _by_home: dict[str, tuple[ServiceKey, ...]] | None = None
    """Per name of a pod and per address, the service of each endpoint there. Made when somebody asks: 200 bytes for
    each endpoint are spared where nobody does."""
    _by_node: dict[str, dict[ServiceKey, int]] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """Return on how many nodes somebody is in a table. A cluster may have more."""
        return len(self._by_node)

    def on(self, node: str) -> Tables:
        """Return the tables with an endpoint on a node, whole. For what is about that node, they are all."""
        return {service: self.tables[service] for service in self._by_node.get(node, ())}

    def beside(self, service: ServiceKey, pod: str = "") -> Tables:
        """Return the table of a service and those of all that share a pod with it, whole; `pod` is one more of its
        pods. For what is about that service, they are all."""
        if self._by_home is None:
            self._by_home = {}
            for one, table in self.tables.items():
                for name, place in table.items():
                    self._house(one, name, place, 1)
        found = {service, *self._by_home.get(f"{service.namespace}/{pod}", ())}
        for name, place in self.tables.get(service, {}).items():
            for home in homes(service, name, place):
                found.update(self._by_home.get(home, ()))
        return {one: self.tables[one] for one in found if one in self.tables}

    def load(self, service: ServiceKey, revision: int, table: Mapping[str, Place] | None) -> None:
        """Take over what was stored; None for a table that was unknown."""
        self.revisions[service] = revision
        if table is not None:
            self._replace(service, dict(table))

    def fold(
        self, service: ServiceKey, op: ChangeOp, revision: int, base: int, into: Mapping[str, Place], out: Iterable[str]
    ) -> bool:
        """Take a change; False for one that was known."""
        known = self.revisions.get(service, 0)
        if revision <= known:
            return False
        self.revisions[service] = revision
        if op is ChangeOp.REMOVED:
            self._forget(service)
        elif op is ChangeOp.SNAPSHOT:
            self._replace(service, dict(into))
        elif base != known or (known and service not in self.tables):
            self._forget(service)
        else:
            table = self.tables.setdefault(service, {})
            for name in [*out, *into]:
                if (place := table.pop(name, None)) is not None:
                    self._count(service, name, place, -1)
            for name, place in into.items():
                table[name] = place
                self._count(service, name, place, 1)
        return True

    def _replace(self, service: ServiceKey, table: dict[str, Place]) -> None:
        self._forget(service)
        self.tables[service] = table
        for name, place in table.items():
            self._count(service, name, place, 1)

    def _forget(self, service: ServiceKey) -> None:
        for name, place in self.tables.pop(service, {}).items():
            self._count(service, name, place, -1)

    def _house(self, service: ServiceKey, name: str, place: Place, n: int) -> None:
        if self._by_home is None:
            return
        for home in filter(None, homes(service, name, place)):
            there = list(self._by_home.get(home, ()))
            if n > 0:
                there.append(service)
            else:
                there.remove(service)
            if there:
                self._by_home[home] = tuple(there)
            else:
                del self._by_home[home]

    def _count(self, service: ServiceKey, name: str, place: Place, n: int) -> None:
        self._house(service, name, place, n)
        if not place.node:
            return
        services = self._by_node.setdefault(place.node, {})
        services[service] = services.get(service, 0) + n
        if not services[service]:
            del services[service]
        if not services:
            del self._by_node[place.node]
