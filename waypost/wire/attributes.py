"""What registrations, updates and route entries say of an instance, read by the same rules everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from waypost.errors import DecodeError
from waypost.model.events import (
    MAX_LEASE_SECONDS,
    MAX_WEIGHT,
    MIN_LEASE_SECONDS,
    UPDATABLE,
    Attributes,
)
from waypost.model.names import is_instance
from waypost.wire.addresses import MAX_ADDRESS, canonical_address
from waypost.wire.fields import as_int, as_object, as_text, bounded, required

MAX_ZONE = 253
MAX_METADATA_KEYS = 64
MAX_METADATA_KEY = 63
MAX_METADATA_VALUE = 1_024
MAX_METADATA_BYTES = 16 * 1024
"""All keys and values of one instance in UTF-8. Every reader of a table holds them for every endpoint: 100,000
endpoints with this much would be 1.6 GB, so it is a bound against abuse and not a size to plan with."""


def read_address(item: Any) -> str:
    """Return the canonical address of an instance."""
    return canonical_address(as_text("address", item, MAX_ADDRESS))


def read_port(item: Any) -> int:
    """Return a TCP port."""
    return bounded("port", as_int("port", item), 1, 65_535, "port-out-of-range")


def read_weight(item: Any) -> int:
    """Return a relative weight; 0 asks for no new requests."""
    return bounded("weight", as_int("weight", item), 0, MAX_WEIGHT, "weight-out-of-range")


def read_zone(item: Any) -> str:
    """Return a zone: free text, "" for none."""
    return as_text("zone", item, MAX_ZONE)


def read_node(item: Any) -> str:
    """Return a node name, "" for none. It becomes part of keys (`node/<name>`), hence the pattern of ids."""
    if type(item) is str and item and not is_instance(item):
        raise DecodeError("bad-node", "a node name is 1 to 253 of A-Z a-z 0-9 . _ : -")
    return as_text("node", item, MAX_ZONE)


def read_metadata(item: Any) -> dict[str, str]:
    """Return flat metadata. Values are strings only: whether 1.10 means "1.1" is not ours to decide."""
    found = as_object("metadata", item)
    if len(found) > MAX_METADATA_KEYS:
        raise DecodeError("metadata-too-large", f"metadata has more than {MAX_METADATA_KEYS} keys")
    size = 0
    for key, value in found.items():
        if not key:
            raise DecodeError("bad-metadata-key", "a metadata key is empty")
        as_text("a metadata key", key, MAX_METADATA_KEY)
        as_text("a metadata value", value, MAX_METADATA_VALUE)
        size += len(key.encode()) + len(value.encode())
    if size > MAX_METADATA_BYTES:
        raise DecodeError("metadata-too-large", f"metadata has more than {MAX_METADATA_BYTES} bytes")
    return found


def read_lease(item: Any) -> int:
    """Return the length of a lease in seconds."""
    seconds = as_int("lease_seconds", item)
    return bounded("lease_seconds", seconds, MIN_LEASE_SECONDS, MAX_LEASE_SECONDS, "lease-out-of-bounds")


_READERS: dict[str, Callable[[Any], Any]] = {
    "address": read_address,
    "port": read_port,
    "weight": read_weight,
    "zone": read_zone,
    "node": read_node,
    "metadata": read_metadata,
    "lease_seconds": read_lease,
}


def read_changes(doc: dict[str, Any]) -> dict[str, Any]:
    """Return those attributes that `doc` has, by name. Raises DecodeError for any that is invalid."""
    return {name: _READERS[name](doc[name]) for name in UPDATABLE if doc.get(name) is not None}


def read_attributes(doc: dict[str, Any]) -> Attributes:
    """Return all attributes of a registration; only `address` and `port` have to be there."""
    required(doc, "address")
    required(doc, "port")
    return Attributes(**read_changes(doc))


def attribute_fields(attributes: Attributes) -> dict[str, Any]:
    """Return the attributes by name, in the order of the contract, metadata sorted by key."""
    return {
        "address": attributes.address,
        "port": attributes.port,
        "weight": attributes.weight,
        "zone": attributes.zone,
        "node": attributes.node,
        "metadata": dict(sorted(attributes.metadata.items())),
        "lease_seconds": attributes.lease_seconds,
    }
