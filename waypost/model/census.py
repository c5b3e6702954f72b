"""Who runs where: the instances in the tables, counted by what they have in common.

An incident is judged on shares of the fleet, so the counts are kept with every change and not made anew. Whoever's
lease has ended stays counted for a while (`forget`): a node of which nobody is left is the clearest case of all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from waypost.model.names import ServiceKey


class About(str, Enum):
    """What instances may have in common; in this order an equal claim is decided."""

    ZONE = "zone"
    NODE = "node"
    VERSION = "version"


class Cause(NamedTuple):
    """One thing in common. `name` is that of a node or zone, or `<namespace>/<service>@<version>`."""

    about: About
    name: str


class InstanceId(NamedTuple):
    """An instance of a service."""

    service: ServiceKey
    instance: str


@dataclass(frozen=True, slots=True)
class Known:
    """Where an instance runs and what, "" where it did not say. `pod`: which pod it is; "" means that its id is the
    pod's name."""

    node: str = ""
    zone: str = ""
    version: str = ""
    pod: str = ""


def causes(subject: InstanceId, known: Known) -> Iterator[Cause]:
    """Return what an instance may have in common with others."""
    if known.node:
        yield Cause(About.NODE, known.node)
    if known.zone:
        yield Cause(About.ZONE, known.zone)
    if known.version:
        yield Cause(About.VERSION, f"{subject.service}@{known.version}")


@dataclass(slots=True)
class Census:
    """The known instances. Reading costs the same however many there are."""

    _known: dict[InstanceId, Known] = field(default_factory=dict)
    _sizes: Counter[Cause] = field(default_factory=Counter)
    _versions: defaultdict[ServiceKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    _pods: dict[tuple[ServiceKey, str], InstanceId] = field(default_factory=dict)
    _lapsed: dict[InstanceId, int] = field(default_factory=dict)

    @classmethod
    def of(cls, fleet: Mapping[InstanceId, Known]) -> Census:
        made = cls()
        for subject, known in fleet.items():
            made.join(subject, known)
        return made

    def __contains__(self, subject: object) -> bool:
        return subject in self._known

    def __getitem__(self, subject: InstanceId) -> Known:
        return self._known[subject]

    def size(self, cause: Cause) -> int:
        """Return how many instances have this in common."""
        return self._sizes[cause]

    def versions(self, service: ServiceKey) -> int:
        """Return how many versions of a service there are."""
        return len(self._versions.get(service, ()))

    def of_pod(self, service: ServiceKey, pod: str) -> InstanceId | None:
        """Return the instance of a service that is this pod, None when nobody knows it."""
        return self._pods.get((service, pod))

    def join(self, subject: InstanceId, known: Known) -> None:
        """Count an instance that is in a table, as it is now."""
        self.leave(subject)
        self._known[subject] = known
        self._pods[subject.service, known.pod or subject.instance] = subject
        for cause in causes(subject, known):
            self._sizes[cause] += 1
            if cause.about is About.VERSION:
                self._versions[subject.service].add(cause.name)

    def lapse(self, subject: InstanceId, at: int) -> None:
        """Note that an instance has left its table by the end of its lease: it is counted until it is forgotten."""
        if subject in self._known:
            self._lapsed[subject] = at

    def leave(self, subject: InstanceId) -> None:
        """Count an instance no longer. One that nobody knows is no error."""
        self._lapsed.pop(subject, None)
        known = self._known.pop(subject, None)
        if known is None:
            return
        if self._pods.get((subject.service, known.pod or subject.instance)) == subject:
            del self._pods[subject.service, known.pod or subject.instance]
        for cause in causes(subject, known):
            self._sizes[cause] -= 1
            if not self._sizes[cause]:
                del self._sizes[cause]
                if cause.about is About.VERSION:
                    self._versions[subject.service].discard(cause.name)

    def forget(self, before: int) -> None:
        """Count no longer whose lease ended before this moment, epoch ms."""
        for subject in [one for one, at in self._lapsed.items() if at < before]:
            self.leave(subject)
