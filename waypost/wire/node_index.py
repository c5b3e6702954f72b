"""Which services are on which nodes: as SQL glues it together, and as keyed state.

    node SP namespace/service LF node SP namespace/service LF …

Neither name can hold a space or a line feed: SQL passes on only what matches their patterns. In state a column has its
version in a line before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from waypost.errors import StateVersionError

FIELD = " "
ENTRY = "\n"

_VERSION = "1"


def join_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Write (node, service) pairs the way the SQL does."""
    return ENTRY.join(f"{node}{FIELD}{service}" for node, service in pairs)


def read_pairs(column: str) -> Iterator[tuple[str, str]]:
    """Yield the (node, service) pairs of a column; the same pair may come more than once."""
    for entry in column.split(ENTRY):
        node, service = entry.split(FIELD)
        yield node, service


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode pairs for state."""
    return f"{_VERSION}{ENTRY}{join_pairs(pairs)}".encode()


def decode_pairs(blob: bytes) -> Iterator[tuple[str, str]]:
    """Decode what `encode_pairs` wrote."""
    version, _, column = blob.decode().partition(ENTRY)
    if version != _VERSION:
        raise StateVersionError(
            f"a node index of version {version}, but this build reads version {_VERSION}: "
            "restore the savepoint with the release that wrote it, take a new one, then upgrade in steps"
        )
    return read_pairs(column)
