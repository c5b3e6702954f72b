"""Places in the history of one API server, and which of two is later.

Versions of one store mean nothing in another, so a position names the server, the namespace and the port that was asked
for. The API calls versions opaque; that they grow is what every real server does (they are etcd's revisions), and the
only sign that a store was put back to an older copy.
"""

from __future__ import annotations

import hashlib

from waypost.client.registry.kubernetes.slices import PortChoice
from waypost.errors import WatchPositionLost


def place_of(server: str, namespace: str, choice: PortChoice) -> str:
    """Return what distinguishes positions of one registry from those of another: 12 hexadecimal digits."""
    return hashlib.sha256(f"{server}\n{namespace}\n{choice.name}\n{choice.number}".encode()).hexdigest()[:12]


def position_of(place: str, version: str) -> str:
    """Write a position."""
    return f"{place}.{version}"


def version_of(place: str, service: str, position: str) -> str:
    """Read a position. Raises WatchPositionLost when it is none of this registry."""
    where, _, version = position.rpartition(".")
    if where != place or not version.isdecimal() or int(version) == 0:
        raise WatchPositionLost(service, position, "it is no position of this API server and namespace")
    return version


def is_older(version: str, known: str) -> bool:
    """Tell whether a store is at an earlier version than one that was seen. Versions that are no numbers are equal."""
    return version.isdecimal() and known.isdecimal() and int(version) < int(known)
