"""What a repair would take from whom: read from the live tables, before it is granted.

Where the tables cannot tell, the answer is the larger one. An endpoint is healthy when it is in its service's table;
nobody's own word counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from waypost.model.names import ServiceKey
from waypost.model.repair_action import RepairAction
from waypost.model.repair_steps import HARMLESS, Do


@dataclass(frozen=True, slots=True)
class Place:
    """Where a routable endpoint runs, and what, "" where it did not say. Without a pod the instance id stands for
    it."""

    node: str = ""
    zone: str = ""
    pod: str = ""
    version: str = ""
    address: str = ""


def homes(service: ServiceKey, instance: str, place: Place) -> tuple[str, str]:
    """Return under which names an endpoint's pod may be known to other services: `<namespace>/<pod>` and its address,
    "" where it did not say."""
    return f"{service.namespace}/{place.pod or instance}", place.address


Tables = Mapping[ServiceKey, Mapping[str, Place]]
"""Per service its routable endpoints by instance id. A service without any has an empty table; one that is not here is
unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """The numbers a grant is judged on. `takes` and `healthy` have the services that lose at least one endpoint."""

    domains: tuple[str, ...]
    takes: Mapping[ServiceKey, int] = field(default_factory=dict)
    healthy: Mapping[ServiceKey, int] = field(default_factory=dict)
    unknown: ServiceKey | None = None


def impact(action: RepairAction, tables: Tables) -> Impact:
    """Return what the action would take, and from which failure domains' budgets. Of a service, `tables` need only
    those that share a pod with it, of a node those with an endpoint there (`waypost.model.live_tables`)."""
    if all(step.do in HARMLESS for step in action.steps):
        return Impact(domains=())
    if action.service is None:
        return _of_node(action, tables)
    return _of_service(action, action.service, tables)


def _of_node(action: RepairAction, tables: Tables) -> Impact:
    moves = any(step.do in (Do.ISOLATE, Do.DRAIN) for step in action.steps)
    takes, zones = dict[ServiceKey, int](), set[str]()
    for service, endpoints in tables.items():
        there = [place for place in endpoints.values() if place.node == action.target.name]
        zones |= {place.zone for place in there if place.zone}
        if there and moves:
            takes[service] = len(there)
    return Impact(
        domains=_domains(action, "nodes", zones),
        takes=takes,
        healthy={service: len(tables[service]) for service in takes},
    )


def _of_service(action: RepairAction, service: ServiceKey, tables: Tables) -> Impact:
    endpoints = tables.get(service)
    kind = f"namespace/{service.namespace}"
    takers = {step.do for step in action.steps} & {Do.EVICT_POD, Do.RESTART, Do.ISOLATE}
    if endpoints is None:
        return Impact(domains=_domains(action, kind, ()), unknown=service if takers else None)
    there = {name: place for name, place in endpoints.items() if (place.pod or name) == action.pod}
    zones = {place.zone for place in there.values() if place.zone}
    anyone = Do.RESTART in takers or (bool(takers) and not there and not _named_by_pods(endpoints))
    takes = {service: max(len(there), min(1, len(endpoints))) if anyone else len(there)} if takers else {}
    if takers - {Do.ISOLATE}:  # The pod goes, and with it what it is for others.
        shared = _shared(service, endpoints if anyone else there, action.pod, tables)
        takes |= dict.fromkeys(shared, 1) if anyone else shared
    takes = {one: n for one, n in takes.items() if n}
    return Impact(domains=_domains(action, kind, zones), takes=takes, healthy={one: len(tables[one]) for one in takes})


def _shared(service: ServiceKey, of: Mapping[str, Place], pod: str, tables: Tables) -> dict[ServiceKey, int]:
    """Return how many endpoints other services have in the pods of these endpoints, or in the pod of that name. Who
    says no pod is taken to be any pod of its address."""
    own = [homes(service, name, place) for name, place in of.items()]
    pods = {home for home, _ in own} | ({f"{service.namespace}/{pod}"} if pod else set())
    at = {address for _, address in own if address}
    unnamed = not all(place.pod for place in of.values())

    def is_one(other: ServiceKey, name: str, place: Place) -> bool:
        home, address = homes(other, name, place)
        return home in pods or (address in at and (unnamed or not place.pod))

    found = {
        other: sum(is_one(other, name, place) for name, place in table.items())
        for other, table in tables.items()
        if other != service
    }
    return {other: n for other, n in found.items() if n}


def _named_by_pods(endpoints: Mapping[str, Place]) -> bool:
    """Tell whether a pod that is not among the endpoints is out of the table for certain. An id such as
    `10.1.2.3:8080` does not say which pod it is."""
    return all(place.pod or ":" not in name for name, place in endpoints.items())


def _domains(action: RepairAction, kind: str, zones: set[str] | tuple[()]) -> tuple[str, ...]:
    return (f"policy/{action.policy}", kind, *sorted(f"zone/{zone}" for zone in zones))
