"""One instance of a service, as every back end speaks of it, and what makes one acceptable.

A registration passes `checked` before anything is written, so what is refused is refused whole: no back end ever has
half of it. The rules are those of the wire, which the route job applies too; metadata is held to
less (see MAX_METADATA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from waypost.errors import (
    DecodeError,
    InvalidAddress,
    InvalidInstance,
    InvalidMetadata,
    InvalidName,
    InvalidPort,
)
from waypost.model.events import DEFAULT_WEIGHT
from waypost.model.lifecycle import Status
from waypost.wire.attributes import read_address, read_metadata, read_port, read_weight, read_zone
from waypost.wire.names import read_instance, service_name

MAX_METADATA = 8 * 1024
"""Bytes of all keys and values in UTF-8. The wire takes twice as much; a client asks for less because etcd's readers,
too, hold all of it for every endpoint, and a table of 10,000 endpoints is then 80 MB and not 160."""

DECLARABLE = frozenset(Status) - {Status.REMOVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance. `name` is its service's. `last_heartbeat` is in epoch ms, None where the back end does not say;
    two instances that differ in nothing else are equal, or every beat would be a change."""

    id: str
    name: str
    address: str
    port: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: Status = Status.UP
    last_heartbeat: int | None = field(default=None, compare=False)
    weight: int = DEFAULT_WEIGHT
    zone: str = ""

    @property
    def is_callable(self) -> bool:
        """Whether it wants requests now."""
        return self.status is Status.UP


def checked(instance: Instance) -> Instance:
    """Return the instance in canonical spelling. Raises InvalidInstance: the kind says which field is wrong."""
    checked_service(instance.name)
    checked_id(instance.id)
    try:
        address = read_address(instance.address)
    except DecodeError as error:
        raise InvalidAddress(error.reason, f"address {instance.address!r}: {error.detail}") from error
    try:
        port = read_port(instance.port)
    except DecodeError as error:
        raise InvalidPort(error.reason, f"{error.detail}, not {instance.port!r}") from error
    metadata = _checked_metadata(instance.metadata)
    try:
        weight, zone = read_weight(instance.weight), read_zone(instance.zone)
    except DecodeError as error:
        raise InvalidInstance(error.reason, error.detail) from error
    if instance.status not in DECLARABLE:
        raise InvalidInstance("unknown-status", "an instance that is removed is not registered: deregister it")
    return replace(instance, address=address, port=port, metadata=metadata, weight=weight, zone=zone)


def checked_service(name: str) -> str:
    """Return the name of a service. Raises InvalidName."""
    try:
        return service_name(name)
    except DecodeError as error:
        raise InvalidName(error.reason, f"service {_shown(name)}: {error.detail}") from error


def checked_id(instance: str) -> str:
    """Return the id of an instance. Raises InvalidName."""
    try:
        return read_instance(instance)
    except DecodeError as error:
        raise InvalidName(error.reason, f"instance {_shown(instance)}: {error.detail}") from error


def _checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    try:
        found = read_metadata(dict(metadata))
        size = sum(len(key.encode()) + len(value.encode()) for key, value in found.items())
    except DecodeError as error:
        raise InvalidMetadata(error.reason, error.detail) from error
    except UnicodeEncodeError as error:
        raise InvalidMetadata("bad-utf8", "metadata holds half a surrogate pair") from error
    if size > MAX_METADATA:
        raise InvalidMetadata(
            "metadata-too-large",
            f"metadata has {size} bytes, at most {MAX_METADATA} are allowed: point to the rest",
        )
    return dict(sorted(found.items()))


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:77]}…"
