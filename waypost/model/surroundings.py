"""What the live tables say about the place of a repair, at the moment of its grant.

Whoever executes a repair sees pods and nodes, not tables. So the grant carries what the tables knew: which endpoints
are meant, which services have one there, whom to leave alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from waypost.model.impact import Tables, impact
from waypost.model.names import ServiceKey
from waypost.model.repair_action import RepairAction


class Spared(NamedTuple):
    """An endpoint whose pod must stay: its namespace, and its pod, or the instance id when it did not say."""

    namespace: str
    pod: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """`instances`: of a service, those that are the pod of the action. `services`: of a node, those with an endpoint on
    it, without the excluded ones. `spared`: endpoints of excluded services there. `healthy`: how many endpoints the
    service's table had, -1 when nobody knows. `takes`: how many of them the action was granted to take."""

    instances: tuple[str, ...] = ()
    services: tuple[ServiceKey, ...] = ()
    spared: tuple[Spared, ...] = ()
    healthy: int = -1
    takes: int = 0


NOWHERE = Surroundings()


def surroundings(action: RepairAction, tables: Tables) -> Surroundings:
    """Return what the tables know of the place of an action that is being granted."""
    service = action.service
    if service is not None:
        table = tables.get(service)
        if table is None:
            return NOWHERE
        there = sorted(name for name, place in table.items() if action.pod and (place.pod or name) == action.pod)
        takes = impact(action, {service: table}).takes.get(service, 0)
        return Surroundings(instances=tuple(there), healthy=len(table), takes=takes)
    excluded = set(action.excluded)
    on_it = {
        service: [place.pod or name for name, place in table.items() if place.node == action.target.name]
        for service, table in tables.items()
    }
    return Surroundings(
        services=tuple(sorted(service for service, pods in on_it.items() if pods and service not in excluded)),
        spared=tuple(Spared(s.namespace, pod) for s in sorted(excluded) for pod in sorted(on_it.get(s, ()))),
    )
