"""The acts of the show, as data. `waypost.demo.acts` performs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays: services with their numbers of instances, and how an instance behaves."""

    services: Mapping[str, int]
    lease_s: int = 6
    """Short, so that a death is seen soon; the default of the project is 90."""
    beat_s: float = 2.0
    """A third of the lease: two beats may be lost."""
    grace_s: float = 2.0
    """How long a drained instance serves on after its last call: 200 times what a change usually takes to be seen."""
    zones: tuple[str, ...] = ("a", "b", "c")

    @property
    def size(self) -> int:
        return sum(self.services.values())

    def instances(self) -> list[tuple[str, str]]:
        """Return (service, instance) of all, the services taking turns."""
        most = max(self.services.values())
        return [(s, f"{s}-{i}") for i in range(1, most + 1) for s, n in self.services.items() if i <= n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrive:
    """All instances start, as in a rolling deployment."""

    per_second: float
    at_once: int = 4
    """So many may be between their start and their registration: they share the processors with everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Nothing but unchanged beats."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL: nobody says goodbye, the lease has to."""

    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """SIGTERM: the instance drains, serves on for its grace, and stops."""

    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deregister:
    """An operator deregisters an instance that goes on beating and serving."""

    instance: str
    beats: int
    """How many of its late beats to watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """An instance stops beating past its lease, serving on, and then comes back."""

    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flap:
    """An instance reports the opposite health many times a second."""

    instance: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Every instance of a service is replaced while requests come through the gateway. Without one it is left out."""

    service: str
    per_second: float = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Explicit changes at a steady rate: weights, and an instance per service that drains and registers again."""

    changes: int
    per_second: float


Act = Arrive | Quiet | Kill | Drain | Deregister | Silence | Flap | Roll | Burst


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A show."""

    cast: Cast
    acts: tuple[Act, ...]

    @property
    def flap_s(self) -> float:
        """How long an instance that is told to flap does so."""
        return next((act.seconds for act in self.acts if isinstance(act, Flap)), 0.0)


FULL = Script(
    cast=Cast(services={"payments": 8, "orders": 8, "catalog": 8, "search": 8, "users": 8}),
    acts=(
        Arrive(per_second=8),
        Quiet(seconds=12),
        Kill(instance="payments-3"),
        Drain(instance="orders-5"),
        Deregister(instance="catalog-2", beats=2),
        Silence(instance="search-4"),
        Flap(instance="users-6", seconds=5),
        Roll(service="users"),
        Burst(changes=200, per_second=20),
    ),
)
"""About a minute and a half."""

SHORT = Script(
    cast=Cast(services={"payments": 4, "orders": 4, "catalog": 4}, lease_s=4, beat_s=1.0, grace_s=4.0),
    acts=(
        Arrive(per_second=6),
        Quiet(seconds=3),
        Kill(instance="payments-3"),
        Drain(instance="orders-2"),
        Deregister(instance="catalog-2", beats=1),
        Silence(instance="orders-4"),
        Flap(instance="catalog-4", seconds=2),
        Roll(service="payments"),
        Burst(changes=30, per_second=20),
    ),
)
"""The same acts in half a minute, for tests."""

SCRIPTS = {"full": FULL, "short": SHORT}
