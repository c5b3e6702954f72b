"""A live table ↔ bytes of state, and a record of `route-changes` as the change of one."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from waypost.errors import StateVersionError
from waypost.model.impact import Place
from waypost.wire.endpoint import decode_endpoint
from waypost.wire.route_changes import RouteRecord

VERSION = 3
"""1 did not know what version of a service an endpoint is, 2 did not know its address."""
POD = "pod"
"""In an endpoint's metadata: the pod that it is. Without it the instance id stands for it."""
RELEASE = "version"
"""In an endpoint's metadata: of which version of its service it is."""


def places(record: RouteRecord) -> dict[str, Place]:
    """Return where the endpoints run that a record brings. Raises DecodeError."""
    return {name: place(text) for name, text in record.delta.set.items()}


def place(text: str) -> Place:
    """Return where a table entry runs. Raises DecodeError."""
    endpoint = decode_endpoint(text)
    told = endpoint.metadata
    return Place(endpoint.node, endpoint.zone, told.get(POD, ""), told.get(RELEASE, ""), endpoint.address)


def encode_table(revision: int, table: Mapping[str, Place] | None) -> bytes:
    """Encode a table; None is one that is unknown."""
    entries = None
    if table is not None:
        entries = {name: (p.node, p.zone, p.pod, p.version, p.address) for name, p in table.items()}
    return orjson.dumps((VERSION, revision, entries))


def decode_table(blob: bytes) -> tuple[int, dict[str, Place] | None]:
    """Decode what `encode_table` wrote. Raises StateVersionError."""
    version, *fields = orjson.loads(blob)
    if not 1 <= version <= VERSION:
        raise StateVersionError(
            f"state of version {version}, but this build reads versions 1 to {VERSION}: "
            "restore the savepoint with the release that wrote it"
        )
    revision, entries = fields
    return revision, None if entries is None else {name: Place(*one) for name, one in entries.items()}
