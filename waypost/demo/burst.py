"""Which changes a burst consists of. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from waypost.model.events import DEFAULT_WEIGHT

ROUND = 10
"""Of so many changes one is a drain and one, half a round later, the same instance's registration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One explicit change; `op` is weight, drain or register."""

    op: str
    service: str
    instance: str
    weight: int = DEFAULT_WEIGHT


def plan_burst(targets: Sequence[tuple[str, str]], count: int, chance: random.Random) -> list[Change]:
    """Return `count` changes of the (service, instance) targets, each of which changes something.

    One instance per service drains and comes back, the services taking turns; the others get weights that differ from
    the ones they have. Everything that was drained has come back at the end. Raises ValueError when a service has only
    one target: draining it would empty its table.
    """
    cycling = dict(targets)  # the last of each service
    steady = [target for target in targets if target[1] not in cycling.values()]
    if len({service for service, _ in steady}) < len(cycling):
        raise ValueError("a burst needs two targets of each service")
    services = sorted(cycling)
    weights: dict[str, int] = {}
    changes: list[Change] = []
    out: str | None = None
    for number in range(count):
        turn, place = divmod(number, ROUND)
        service = services[turn % len(services)]
        if place == 0 and number + ROUND // 2 < count:
            changes.append(Change(op="drain", service=service, instance=cycling[service]))
            out = service
        elif place == ROUND // 2 and out is not None:
            changes.append(Change(op="register", service=out, instance=cycling[out]))
            out = None
        else:
            service, instance = chance.choice(steady)
            weight = chance.choice([w for w in range(50, 151) if w != weights.get(instance, DEFAULT_WEIGHT)])
            weights[instance] = weight
            changes.append(Change(op="weight", service=service, instance=instance, weight=weight))
    return changes
