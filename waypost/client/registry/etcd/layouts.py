"""How instances are written in etcd: Waypost's own layout, and that of Kitex's registry-etcd.

    waypost   /services/<service>/<id>                    {"id","name","address","port","metadata","status",
                                                           "last_heartbeat","weight","zone"}
    kitex     kitex/registry-etcd/<service>/<host:port>   {"network":"tcp","address":"host:port","weight","tags"}

Kitex knows neither status nor zone nor an id: an instance's id is its address there, and one that is not UP is not
written at all, because a Kitex client would call it. Its service names may be any text without a slash; those that are
no DNS-1123 names cannot be asked for here.

Values come from anybody who can write to etcd: one that cannot be read is left out and logged.
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from waypost.client.registry.instance import Instance, checked
from waypost.errors import DecodeError, InvalidAddress, InvalidInstance, NotSupported
from waypost.model.events import MAX_WEIGHT
from waypost.model.lifecycle import Status
from waypost.wire.addresses import join_endpoint, split_endpoint
from waypost.wire.attributes import read_address, read_metadata, read_port, read_weight, read_zone
from waypost.wire.fields import as_int, as_text, read_object, required
from waypost.wire.words import read_word

MAX_BYTES = 64 * 1024
KITEX_DEFAULT_WEIGHT = 10
"""What Kitex's resolver takes for a weight of 0 or none."""


class Layout(Protocol):
    """Instance ↔ key and value."""

    prefix: str
    """Ends with a slash."""

    def key(self, instance: Instance) -> str:
        """Return where an instance is written. Raises NotSupported."""
        ...

    def key_of(self, service: str, instance: str) -> str:
        """Return where an instance of this id is."""
        ...

    def id_of(self, key: str) -> str:
        """Return the id of the instance that is at `key`; it may not be readable."""
        ...

    def encode(self, instance: Instance) -> bytes:
        """Return the value. Raises NotSupported when it has no place for something that matters."""
        ...

    def decode(self, service: str, key: str, value: bytes) -> Instance:
        """Read a value. Raises DecodeError or InvalidInstance."""
        ...


class WaypostLayout:
    """See the module."""

    def __init__(self, prefix: str = "/services") -> None:
        self.prefix = f"{prefix.rstrip('/')}/"

    def key(self, instance: Instance) -> str:
        return self.key_of(instance.name, instance.id)

    def key_of(self, service: str, instance: str) -> str:
        return f"{self.prefix}{service}/{instance}"

    def id_of(self, key: str) -> str:
        return key.rpartition("/")[2]

    def encode(self, instance: Instance) -> bytes:
        return orjson.dumps(
            {
                "id": instance.id,
                "name": instance.name,
                "address": instance.address,
                "port": instance.port,
                "metadata": dict(instance.metadata),
                "status": instance.status.value,
                "last_heartbeat": instance.last_heartbeat,
                "weight": instance.weight,
                "zone": instance.zone,
            }
        )

    def decode(self, service: str, key: str, value: bytes) -> Instance:
        doc = read_object(value, MAX_BYTES)
        beat = doc.get("last_heartbeat")
        fields: dict[str, Any] = {}
        if doc.get("weight") is not None:
            fields["weight"] = read_weight(doc["weight"])
        if doc.get("zone") is not None:
            fields["zone"] = read_zone(doc["zone"])
        return checked(
            Instance(
                id=self.id_of(key),
                name=service,
                address=read_address(required(doc, "address")),
                port=read_port(required(doc, "port")),
                metadata=read_metadata(doc.get("metadata") or {}),
                status=Status.UP if doc.get("status") is None else read_word(Status, doc, "status"),
                last_heartbeat=None if beat is None else as_int("last_heartbeat", beat),
                **fields,
            )
        )


class KitexLayout:
    """See the module."""

    def __init__(self, prefix: str = "kitex/registry-etcd") -> None:
        self.prefix = f"{prefix.rstrip('/')}/"

    def key(self, instance: Instance) -> str:
        endpoint = join_endpoint(instance.address, instance.port)
        if instance.id not in (endpoint, f"{instance.address}:{instance.port}"):
            raise NotSupported(
                f"Kitex's layout has no ids but addresses: register {endpoint!r} as instance {endpoint!r}, "
                f"not {instance.id!r}, or use the layout waypost"
            )
        return f"{self.prefix}{instance.name}/{endpoint}"

    def key_of(self, service: str, instance: str) -> str:
        try:
            address, port = _split(instance)
        except DecodeError as error:
            raise InvalidAddress(error.reason, f"in Kitex's layout an id is host:port, not {instance!r}") from error
        return f"{self.prefix}{service}/{join_endpoint(address, port)}"

    def id_of(self, key: str) -> str:
        last = key.rpartition("/")[2]
        try:
            address, port = split_endpoint(last)
        except DecodeError:
            return last
        return f"{address}:{port}"

    def encode(self, instance: Instance) -> bytes:
        if not instance.is_callable:
            raise NotSupported("Kitex's layout has no status, its clients would call the instance: deregister it")
        if instance.zone:
            raise NotSupported("Kitex's layout has no zone: put it into the metadata, which become tags")
        return orjson.dumps(
            {
                "network": "tcp",
                "address": join_endpoint(instance.address, instance.port),
                "weight": instance.weight,
                "tags": dict(instance.metadata) or None,
            }
        )

    def decode(self, service: str, key: str, value: bytes) -> Instance:
        doc = read_object(value, MAX_BYTES)
        network = as_text("network", doc.get("network") or "tcp", 16)
        if not network.startswith("tcp"):
            raise DecodeError("bad-address", f"network {network!r} has no host and port")
        address, port = split_endpoint(as_text("address", required(doc, "address"), 270))
        weight = as_int("weight", doc.get("weight") or 0)
        return checked(
            Instance(
                id=self.id_of(key),
                name=service,
                address=address,
                port=port,
                metadata=read_metadata(doc.get("tags") or {}),
                weight=min(weight, MAX_WEIGHT) if weight > 0 else KITEX_DEFAULT_WEIGHT,
            )
        )


def _split(id: str) -> tuple[str, int]:
    host, _, port = id.rpartition(":")
    return split_endpoint(id if not (":" in host and not host.startswith("[")) else f"[{host}]:{port}")


UNREADABLE = (DecodeError, InvalidInstance)
"""What decoding raises for a value that somebody else has spoiled."""
