"""What the log can say, already validated; `waypost.wire.registry` makes these from bytes.

Every event carries the stamp of its record. Values are plain and immutable, so one event may be folded by
several operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from waypost.model.isolation import Isolation
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

DEFAULT_LEASE_SECONDS = 90
"""Three missed beats of 30 s, as Eureka and Kubernetes' node leases count them."""

MIN_LEASE_SECONDS = 2
MAX_LEASE_SECONDS = 86_400

DEFAULT_WEIGHT = 100
MAX_WEIGHT = 65_535
"""What both Envoy (uint32) and Traefik (int) accept; a weight of 0 means: take no new requests."""

MAX_SET_ENDPOINTS = 5_000

DEFAULT_SOURCE = "default"


class Op(str, Enum):
    """What an instance-form registration event does."""

    REGISTER = "register"
    UPDATE = "update"
    STATUS = "status"
    DRAIN = "drain"
    DEREGISTER = "deregister"
    UNPROTECT = "unprotect"
    """Of the service, not of an instance: what the brake holds of it leaves now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a registration says of an instance besides its three facts."""

    address: str
    port: int
    weight: int = DEFAULT_WEIGHT
    zone: str = ""
    node: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    lease_seconds: int = DEFAULT_LEASE_SECONDS


UPDATABLE = ("address", "port", "weight", "zone", "node", "metadata", "lease_seconds")
"""Fields an `op: update` may change, each on its own; all others stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEvent:
    """One instance-form registration event.

    `attributes` is set for REGISTER only; `changes` (a subset of `UPDATABLE`) for UPDATE only; `declared` or
    `health`, exactly one, for STATUS (and `declared` for REGISTER: UP unless the event says otherwise). `instance` is
    "" for UNPROTECT.
    """

    op: Op
    service: ServiceKey
    instance: str
    stamp: Stamp
    attributes: Attributes | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    declared: Declared | None = None
    health: Health | None = None
    source: str = DEFAULT_SOURCE
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEvent:
    """One service-form registration event: the whole set of endpoints of its `source`.

    `endpoints` are (address, port) pairs without duplicates; the instance id of each is `address:port`.
    `last_updated` is in seconds, chosen by the producer, and orders the sets of one source.
    """

    service: ServiceKey
    stamp: Stamp
    endpoints: tuple[tuple[str, int], ...]
    healthy: bool
    last_updated: int
    source: str = DEFAULT_SOURCE
    request_id: str = ""


class Target(NamedTuple):
    """One registered instance, as the lease fold and the gate speak of it."""

    service: ServiceKey
    instance: str


class LeaseFact(str, Enum):
    """What the lease path says of one registration."""

    LAPSED = "lapsed"
    HELD = "held"
    RENEWED = "renewed"
    HEALTH = "health"
    DAMPED = "damped"


class Hold(str, Enum):
    """Why an endpoint is in the table although its lease lapsed, its health failed, it flaps, or it is isolated."""

    SERVICE = "service"
    """Too many of its service fell silent together."""
    FLEET = "fleet"
    """Too many of the fleet did."""
    LAST = "last"
    """Nothing else of its service is routable."""
    FLAPS = "flaps"
    """The same, and it is damped: alive, but coming and going."""
    FAILS = "fails"
    """The same, and its health is fail: alive, but ill by its own word or a check's. Without an end: no probe empties a
    table, neither at once nor later."""
    ISOLATED = "isolated"
    """The same, and a repair isolated it, or its node: no repair empties a table. Until the isolation ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTransition:
    """A lease lapsed or lives again, a beat reported another health than the one before, or an instance flaps.

    `generation` is the stamp of the registration the lease belongs to: a transition of an older
    registration is ignored by the route fold. `stamp` orders transitions of one generation: (end of the tick, -1, -1)
    for what the gate decides, the stamp of the beat for RENEWED and HEALTH. `deadline` and `last_beat` (epoch ms; 0 =
    never beat) say why, for LAPSED and HELD.

    `until` (epoch ms of the log) is when the gate will speak again:

    HELD     the hold ends, and a LAPSED follows unless a beat comes before; `hold` says why it is held
    LAPSED   were the instance the last of its service, it stays until then. 0: it leaves whatever that means
    DAMPED   the instance has to stay away until then. 0: it may come back
    """

    fact: LeaseFact
    service: ServiceKey
    instance: str
    generation: Stamp
    stamp: Stamp
    health: Health | None = None
    deadline: int = 0
    last_beat: int = 0
    lease_ms: int = 0
    until: int = 0
    hold: Hold | None = None


RouteEvent = InstanceEvent | SetEvent | LeaseTransition | Isolation
"""Everything the route fold of a service accepts."""
