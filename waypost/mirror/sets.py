"""What a registry has, against what was declared of it: the difference is what to declare. Pure."""

from __future__ import annotations

from collections.abc import Mapping

Endpoint = tuple[str, int]
Endpoints = frozenset[Endpoint]
NONE: Endpoints = frozenset()


def to_declare(wanted: Mapping[str, Endpoints], declared: Mapping[str, Endpoints]) -> dict[str, Endpoints]:
    """Return the sets to declare, by service; an empty one takes back what was declared before."""
    services = sorted(wanted.keys() | declared.keys())
    sets = {service: wanted.get(service, NONE) for service in services}
    return {service: found for service, found in sets.items() if found != declared.get(service, NONE)}
