"""What travels on the window path: one shard's tallies of a window, and one service's window ↔ bytes.

Not a contract with anybody outside. Partials wait in Flink's window state, hence the version in each. They are put
one after the other with `join_partials`, which costs nothing however much has gathered, and read at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.health_window import Partial, ServiceWindow, Tally

VERSION = 1

NO_PARTIALS = b""


def encode_partial(partial: Mapping[str, Mapping[str, Tally]]) -> bytes:
    """Encode what one shard knows of the services of one bucket."""
    return orjson.dumps((VERSION, partial), default=tuple)  # default: orjson refuses named tuples


def join_partials(one: bytes, other: bytes) -> bytes:
    """Return both, one after the other; `NO_PARTIALS` is neither."""
    return one + b"," + other if one and other else one or other


def decode_partials(joined: bytes) -> Iterator[Partial]:
    """Decode what `encode_partial` wrote, any number of them joined."""
    for version, partial in orjson.loads(b"[%b]" % joined):
        _require(version)
        yield {service: _tallies(tallies) for service, tallies in partial.items()}


def encode_window(window: ServiceWindow) -> bytes:
    """Encode the window of one service."""
    return orjson.dumps((VERSION, window.start, window.end, window.tallies), default=tuple)


def decode_window(blob: bytes) -> ServiceWindow:
    """Decode what `encode_window` wrote."""
    version, *fields = orjson.loads(blob)
    _require(version)
    start, end, tallies = fields
    return ServiceWindow(start, end, _tallies(tallies))


def _tallies(fields: Mapping[str, Any]) -> dict[str, Tally]:
    return {instance: Tally(*numbers) for instance, numbers in fields.items()}


def _require(version: int) -> None:
    if version != VERSION:
        raise StateVersionError(f"part of a window of version {version}, but this build reads version {VERSION}")
