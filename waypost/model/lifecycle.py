"""The law of an instance's life: everything that decides its visible status is in this file.

An instance is three independent facts, each last-writer-wins by stamp:

    declared   what its owner or an operator says   STARTING UP DOWN OUT_OF_SERVICE DRAINING REMOVED
    health     what a checker or its beats say      PASS FAIL UNKNOWN
    lease      whether it still beats               LIVE LAPSED NONE (never leased)

Three marks are laid over them. None is about one instance alone, and all end by themselves:

    held       it stays in the table although its lease lapsed: too many fell silent together (`waypost.model.brake`);
               or although its lease lapsed, its health failed, it is damped, or a repair isolated it: nothing else of
               its service is routable (`waypost.model.service`)
    damped     it comes and goes, and has to stay away for a while (`waypost.model.damping`)
    isolated   somebody took it, or its node, out of the tables for a while (`waypost.model.isolation`)

Nothing else may be stored about its status. The five statuses people see are a *view* of the facts
(`view`), and so is the single question the gateway asks (`is_routable`):

    routable = declared UP and (held or (health not FAIL and lease not LAPSED and not damped and not isolated))

A failed health check makes an UP instance look DOWN and a passed one makes it look UP again, but no beat and no
check can lift OUT_OF_SERVICE or DRAINING, because those live in another fact.
"""

from __future__ import annotations

from enum import Enum


class Declared(str, Enum):
    """What the registration events say."""

    STARTING = "STARTING"
    UP = "UP"
    DOWN = "DOWN"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    DRAINING = "DRAINING"
    REMOVED = "REMOVED"


class Health(str, Enum):
    """What a checker, or a beat that carries a status, says."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Lease(str, Enum):
    """Whether the lease holds. NONE: the instance was declared as part of a set and has no lease."""

    LIVE = "live"
    LAPSED = "lapsed"
    NONE = "none"


class Status(str, Enum):
    """What people see."""

    STARTING = "STARTING"
    UP = "UP"
    DOWN = "DOWN"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    DRAINING = "DRAINING"
    REMOVED = "REMOVED"


# An UP instance is seen by its other two facts; every other declaration is seen as it is.
UP_VIEW: dict[tuple[Health, Lease], tuple[Status, str]] = {
    (Health.PASS, Lease.LIVE): (Status.UP, "up"),
    (Health.PASS, Lease.NONE): (Status.UP, "up"),
    (Health.UNKNOWN, Lease.LIVE): (Status.UP, "up"),
    (Health.UNKNOWN, Lease.NONE): (Status.UP, "up"),
    (Health.FAIL, Lease.LIVE): (Status.DOWN, "health-failed"),
    (Health.FAIL, Lease.NONE): (Status.DOWN, "health-failed"),
    (Health.FAIL, Lease.LAPSED): (Status.DOWN, "health-failed"),
    (Health.PASS, Lease.LAPSED): (Status.DOWN, "lease-lapsed"),
    (Health.UNKNOWN, Lease.LAPSED): (Status.DOWN, "lease-lapsed"),
}

DECLARED_VIEW: dict[Declared, tuple[Status, str]] = {
    Declared.STARTING: (Status.STARTING, "starting"),
    Declared.DOWN: (Status.DOWN, "declared-down"),
    Declared.OUT_OF_SERVICE: (Status.OUT_OF_SERVICE, "out-of-service"),
    Declared.DRAINING: (Status.DRAINING, "draining"),
    Declared.REMOVED: (Status.REMOVED, "deregistered"),
}

# What each word in an `op: status` event or in a beat's `status` field says, and about which fact.
HEALTH_WORDS: dict[str, Health] = {
    "pass": Health.PASS,
    "healthy": Health.PASS,
    "fail": Health.FAIL,
    "unhealthy": Health.FAIL,
    "unknown": Health.UNKNOWN,
}

# A beat only ever speaks of health. One that repeats a declaration (an agent echoing OUT_OF_SERVICE)
# renews the lease and changes nothing else.
BEAT_WORDS: dict[str, Health | None] = {
    **HEALTH_WORDS,
    "up": Health.PASS,
    "down": Health.FAIL,
    "starting": None,
    "out_of_service": None,
    "draining": None,
}


def view(
    declared: Declared,
    health: Health,
    lease: Lease,
    *,
    held: bool = False,
    damped: bool = False,
    isolated: bool = False,
) -> tuple[Status, str]:
    """Return the visible status and the reason for it, a stable slug.

    `held` keeps an instance routable that is lapsed, failed, damped or isolated, and means nothing for one that is none
    of it; it is then seen as UP with reason `held`. `damped` keeps out one that would be UP. `isolated` does as well,
    and is the reason that people see for whatever else is wrong with an instance that was not taken out by its owner.
    """
    if declared is not Declared.UP:
        return DECLARED_VIEW[declared]
    status, reason = UP_VIEW[health, lease]
    if held and (damped or isolated or status is not Status.UP):
        return Status.UP, "held"
    if isolated:
        return Status.OUT_OF_SERVICE, "isolated"
    if damped and status is Status.UP:
        return Status.DOWN, "damped"
    return status, reason


def is_routable(
    declared: Declared,
    health: Health,
    lease: Lease,
    *,
    held: bool = False,
    damped: bool = False,
    isolated: bool = False,
) -> bool:
    """Tell whether gateways may send requests: exactly when the instance is seen as UP."""
    return view(declared, health, lease, held=held, damped=damped, isolated=isolated)[0] is Status.UP
