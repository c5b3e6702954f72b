"""Builders and strategies of what the folds take. `T0` is when every story begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from waypost.model.beats import Beat
from waypost.model.events import (
    UPDATABLE,
    Attributes,
    Hold,
    InstanceEvent,
    LeaseFact,
    LeaseTransition,
    Op,
    RouteEvent,
    SetEvent,
)
from waypost.model.isolation import REPAIR, Isolation, Verb
from waypost.model.leases import TimedBeat
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

T0 = 1_700_000_000_000
SERVICE = ServiceKey("default", "payments")
OTHER = ServiceKey("default", "webhook")
ELSEWHERE = ServiceKey("staging", "payments")
SECOND = 1_000

LAW = settings(derandomize=True, deadline=None, max_examples=80)
"""The same examples on every run: a red test is red for everybody."""


def at(seconds: float, offset: int = 0, partition: int = 0) -> Stamp:
    """The stamp of a record logged `seconds` after T0."""
    return Stamp(T0 + round(seconds * 1000), partition, offset)


def an_event(op: Op, when: float | Stamp, instance: str = "p-1", **fields: Any) -> InstanceEvent:
    stamp = when if isinstance(when, Stamp) else at(when)
    return InstanceEvent(op=op, service=fields.pop("service", SERVICE), instance=instance, stamp=stamp, **fields)


def registered(when: float | Stamp, instance: str = "p-1", **fields: Any) -> InstanceEvent:
    """A register; fields of `Attributes`, and `declared`, `source`, `service`, `request_id`."""
    said = {name: fields.pop(name) for name in UPDATABLE if name in fields}
    attributes = Attributes(**{"address": "10.0.0.1", "port": 8080, **said})
    fields.setdefault("declared", Declared.UP)
    return an_event(Op.REGISTER, when, instance, attributes=attributes, **fields)


def updated(when: float | Stamp, instance: str = "p-1", **changes: Any) -> InstanceEvent:
    service = changes.pop("service", SERVICE)
    return an_event(Op.UPDATE, when, instance, changes=changes, service=service)


def drained(when: float | Stamp, instance: str = "p-1", **fields: Any) -> InstanceEvent:
    return an_event(Op.DRAIN, when, instance, **fields)


def deregistered(when: float | Stamp, instance: str = "p-1", **fields: Any) -> InstanceEvent:
    return an_event(Op.DEREGISTER, when, instance, **fields)


def unprotected(when: float | Stamp, **fields: Any) -> InstanceEvent:
    return an_event(Op.UNPROTECT, when, "", **fields)


def declared(status: Declared, when: float | Stamp, instance: str = "p-1") -> InstanceEvent:
    return an_event(Op.STATUS, when, instance, declared=status)


def checked(health: Health, when: float | Stamp, instance: str = "p-1") -> InstanceEvent:
    return an_event(Op.STATUS, when, instance, health=health)


def a_set(when: float | Stamp, *endpoints: str, last_updated: int = 1, healthy: bool = True, **fields: Any) -> SetEvent:
    stamp = when if isinstance(when, Stamp) else at(when)
    pairs = tuple((host, int(port)) for host, _, port in (e.rpartition(":") for e in endpoints))
    return SetEvent(service=SERVICE, stamp=stamp, endpoints=pairs, healthy=healthy, last_updated=last_updated, **fields)


def a_fact(
    fact: LeaseFact, when: float, generation: float | Stamp, instance: str = "p-1", **fields: Any
) -> LeaseTransition:
    """What the lease path says; the gate stamps by a tick's end, beats by their own."""
    is_ticks = fact in (LeaseFact.LAPSED, LeaseFact.HELD, LeaseFact.DAMPED)
    stamp = Stamp(T0 + round(when * 1000)) if is_ticks else at(when, 7, 3)
    return LeaseTransition(
        fact=fact,
        service=fields.pop("service", SERVICE),
        instance=instance,
        generation=generation if isinstance(generation, Stamp) else at(generation),
        stamp=stamp,
        **fields,
    )


def isolated(
    when: float | Stamp, instance: str = "", *, node: str = "", by: str = REPAIR, for_s: float = 3_600, **fields: Any
) -> Isolation:
    """An isolation of one instance, of a node, or without either of `p-1`."""
    stamp = when if isinstance(when, Stamp) else at(when)
    return Isolation(
        verb=Verb.ISOLATE,
        service=fields.pop("service", SERVICE),
        instance=instance or ("" if node else "p-1"),
        node=node,
        by=by,
        expires_at=stamp.at + round(for_s * 1000),
        stamp=stamp,
        **fields,
    )


def released(when: float | Stamp, instance: str = "", **fields: Any) -> Isolation:
    """What ends an `isolated`."""
    return replace(isolated(when, instance, **fields), verb=Verb.RELEASE, expires_at=0)


def a_beat(when: float | Stamp, instance: str = "p-1", health: Health | None = None, **said: Any) -> TimedBeat:
    return TimedBeat(instance, when if isinstance(when, Stamp) else at(when), Beat(health=health, **said))


# -- whole logs of one service ----------------------------------------------------------------------------

IDS = ["p-1", "p-2", "10.0.0.1:80"]
_SET_ENDPOINTS = [("10.0.0.1", 80), ("10.0.0.2", 80)]
_CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "address": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    "port": st.sampled_from([80, 81]),
    "weight": st.integers(0, 2),
    "metadata": st.sampled_from([{}, {"version": "2"}]),
    "lease_seconds": st.sampled_from([2, 90]),
    "node": st.sampled_from(["n1", "n2"]),
}


@st.composite
def _service_log(draw: st.DrawFn, max_size: int = 12) -> list[RouteEvent]:
    """All records about one service and what the lease fold says of it, in the order of the log.

    Several records share a millisecond, as the appends of one batch do. A fact of a lease names a registration that
    the log really has, at or after its own time.
    """
    events: list[RouteEvent] = []
    generations: dict[str, list[Stamp]] = {name: [] for name in IDS}
    now = T0
    for offset in range(draw(st.integers(1, max_size))):
        now += draw(st.sampled_from([0, 0, 1, 1000, 90_000]))
        stamp = Stamp(now, draw(st.integers(0, 2)), offset)
        instance = draw(st.sampled_from(IDS))
        kind = draw(
            st.sampled_from(
                [
                    "register",
                    "register",
                    "update",
                    "update",
                    "status",
                    "health",
                    "drain",
                    "deregister",
                    "set",
                    "lease",
                    "lease",
                    "beat",
                    "damp",
                    "unprotect",
                    "isolate",
                    "isolate",
                    "release",
                ]
            )
        )
        request = draw(st.sampled_from(["", f"r-{offset}"]))
        if kind == "register":
            attributes = draw(st.fixed_dictionaries({}, optional=_CHANGES))
            status = draw(st.sampled_from([Declared.UP, Declared.UP, Declared.STARTING, Declared.OUT_OF_SERVICE]))
            events.append(registered(stamp, instance, declared=status, request_id=request, **attributes))
            generations[instance].append(stamp)
        elif kind == "update":
            events.append(updated(stamp, instance, **draw(st.fixed_dictionaries({}, optional=_CHANGES).filter(bool))))
        elif kind == "status":
            events.append(
                declared(draw(st.sampled_from([d for d in Declared if d is not Declared.REMOVED])), stamp, instance)
            )
        elif kind == "health":
            events.append(checked(draw(st.sampled_from(Health)), stamp, instance))
        elif kind == "drain":
            events.append(drained(stamp, instance, request_id=request))
        elif kind == "deregister":
            events.append(deregistered(stamp, instance, request_id=request))
        elif kind == "set":
            events.append(
                SetEvent(
                    service=SERVICE,
                    stamp=stamp,
                    endpoints=tuple(draw(st.lists(st.sampled_from(_SET_ENDPOINTS), unique=True, max_size=2))),
                    healthy=draw(st.booleans()),
                    last_updated=draw(st.integers(0, 3)),
                    source=draw(st.sampled_from(["dns", "sync"])),
                    request_id=request,
                )
            )
        elif kind in ("isolate", "release"):
            about = draw(st.sampled_from([{"instance": instance}, {"node": "n1"}, {"node": "n2"}]))
            say = isolated if kind == "isolate" else released
            events.append(say(stamp, by=draw(st.sampled_from([REPAIR, "operator:anna"])), request_id=request, **about))
        elif kind == "unprotect":
            events.append(unprotected(stamp, request_id=request))
        elif generations[instance]:
            generation = draw(st.sampled_from(generations[instance]))
            fact = {"beat": LeaseFact.HEALTH, "damp": LeaseFact.DAMPED}.get(kind) or draw(
                st.sampled_from([LeaseFact.LAPSED, LeaseFact.RENEWED, LeaseFact.HELD])
            )
            now += 1  # Two facts of one tick about one lease would be one fact.
            until = 0 if fact in (LeaseFact.HEALTH, LeaseFact.RENEWED) else now + draw(st.sampled_from([0, 600_000]))
            events.append(
                LeaseTransition(
                    fact=fact,
                    service=SERVICE,
                    instance=instance,
                    generation=generation,
                    stamp=Stamp(now, 3, offset) if fact in (LeaseFact.HEALTH, LeaseFact.RENEWED) else Stamp(now),
                    until=until if until > now else 0,
                    hold=Hold.SERVICE if fact is LeaseFact.HELD else None,
                    health=draw(st.sampled_from(Health)) if fact is LeaseFact.HEALTH else None,
                )
            )
    return events


def service_logs(max_size: int = 12) -> st.SearchStrategy[list[RouteEvent]]:
    """Logs of at least one record; see `_service_log`."""
    return _service_log(max_size).filter(bool)
