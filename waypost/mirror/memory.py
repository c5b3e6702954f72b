"""What to take for true of a registry, when it may have lost its memory. Pure.

**A registry that knows less than before is believed only if it is the same one.** One that was emptied, or put back to
an older copy, may say who is there and not who is gone:

    endpoints of a service that it has      stay for a grace, as long as it takes their owners to register anew
    services that it has not                stay until somebody registers there again, and for that grace

What is deleted there in front of our eyes is gone at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from waypost.mirror.sets import NONE, Endpoints


class Memory:
    """See the module. `kept` are what another store had; `has` is what the present one has."""

    def __init__(self, kept: Mapping[str, Endpoints] | None = None) -> None:
        self.has: dict[str, Endpoints] = {}
        self.kept: dict[str, Endpoints] = dict(kept or {})
        self.is_grace = bool(kept)

    def all(self) -> dict[str, Endpoints]:
        """Return what to take for true, services without endpoints left out."""
        services = self.has.keys() | self.kept.keys()
        found = {service: self.of(service) for service in services}
        return {service: those for service, those in found.items() if those}

    def of(self, service: str) -> Endpoints:
        """Return what to take for true of one service."""
        return self.has.get(service, NONE) | self.kept.get(service, NONE)

    def replaced(self) -> None:
        """The store is another one, or an older copy: a grace begins."""
        self.has, self.kept, self.is_grace = {}, self.all(), True

    def change(self, service: str, endpoints: Endpoints, deleted: Set[tuple[str, int]] = NONE) -> None:
        """The store has these endpoints of a service now, and has just deleted those."""
        self.has[service] = endpoints
        if endpoints and not self.is_grace:
            self.kept.pop(service, None)
        elif service in self.kept:
            self.kept[service] -= deleted

    def end_grace(self) -> None:
        """Believe the store about every service that it has."""
        self.is_grace = False
        self.kept = {service: those for service, those in self.kept.items() if not self.has.get(service)}
