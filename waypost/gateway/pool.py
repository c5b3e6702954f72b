"""Whom a gateway may call for one service: what the tables say, in terms that any gateway understands.

Gateways balance over addresses, the tables over instances. The two differ when two instances share an address, as an
old process that drains and its successor on the same port do; then the routable one counts. Nothing that a producer
may choose freely comes further than this: no instance id, no metadata, only canonical addresses, numbers, and the
zone, which is text for whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from waypost.wire.endpoint import Endpoint, KnownInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One address. `weight` is at least 1. `draining`: no new requests, those under way may end."""

    address: str
    port: int
    weight: int
    zone: str
    draining: bool = False


Pool: TypeAlias = tuple[Target, ...]
"""In order of address and port, each pair once."""


def make_pool(endpoints: Mapping[str, Endpoint], draining: Mapping[str, KnownInstance]) -> Pool:
    """Return the pool of a service: its table, and those of its instances that drain.

    Weight 0 asks for no new requests, so such an endpoint counts as draining; when nobody has another weight they are
    equals, because a request served by one of them is better than a request refused. Of several instances at one
    address the routable one counts, then the one whose id comes first.
    """
    is_served = any(endpoint.weight for endpoint in endpoints.values())
    chosen: dict[tuple[str, int], Target] = {}
    for _, endpoint in sorted(endpoints.items()):
        target = Target(
            address=endpoint.address,
            port=endpoint.port,
            weight=max(1, endpoint.weight),
            zone=endpoint.zone,
            draining=is_served and not endpoint.weight,
        )
        place = (target.address, target.port)
        if place not in chosen or (chosen[place].draining and not target.draining):
            chosen[place] = target
    for _, instance in sorted(draining.items()):
        chosen.setdefault(
            (instance.address, instance.port),
            Target(
                address=instance.address,
                port=instance.port,
                weight=max(1, instance.weight),
                zone=instance.zone,
                draining=True,
            ),
        )
    return tuple(chosen[place] for place in sorted(chosen))
