"""Changing a registered instance: which attributes may change, and what the result is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from waypost.client.registry.instance import Instance, checked
from waypost.errors import InvalidInstance

UPDATABLE = frozenset({"address", "port", "weight", "zone", "metadata", "status"})


def changed(instance: Instance, changes: Mapping[str, Any]) -> Instance:
    """Return the instance with these attributes, in canonical spelling. Raises InvalidInstance."""
    checked_changes(changes)
    return checked(replace(instance, **changes))


def checked_changes(changes: Mapping[str, Any]) -> None:
    """Refuse what cannot be changed at all. Raises InvalidInstance."""
    unknown = sorted(changes.keys() - UPDATABLE)
    if unknown:
        raise InvalidInstance(
            "unknown-field", f"{', '.join(unknown)} cannot be updated, only {', '.join(sorted(UPDATABLE))}"
        )
    if not changes:
        raise InvalidInstance("nothing-to-update", f"an update changes at least one of {', '.join(sorted(UPDATABLE))}")
