"""What a registry has, against what was declared of it: the difference is what to declare. Pure.

**A registry that knows less than before is believed only if it is the same one.** One that was emptied, or put back to
an older copy, may say who is there, and not that a service is gone: its endpoints stay until somebody registers again.
"""

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


def believed(
    listed: Mapping[str, Endpoints], known: Mapping[str, Endpoints], *, is_same_store: bool
) -> dict[str, Endpoints]:
    """Return what to take for true of a whole listing, after `known` was.

    From another store, services that it does not have stay as they were known.
    """
    if is_same_store:
        return dict(listed)
    return {**known, **listed}
