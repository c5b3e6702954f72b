"""Entries of the `route` and `instances` hashes in Redis.

The text of a route entry is what the table digest covers, so equal endpoints must give equal bytes: the order of
the keys is fixed, metadata is sorted, and every field is always written. Gateways read the route hash only; the
instances hash is for people and tools, and says of each instance why it is or is not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from waypost.model.events import DEFAULT_LEASE_SECONDS, DEFAULT_WEIGHT, Attributes, Hold
from waypost.model.lifecycle import Declared, Health, Lease, Status
from waypost.model.service import Held, InstanceView
from waypost.wire.attributes import (
    read_address,
    read_lease,
    read_metadata,
    read_node,
    read_port,
    read_weight,
    read_zone,
)
from waypost.wire.fields import as_bool, as_object, as_text, read_object, required, safe_int
from waypost.wire.isolation import MAX_BY, MAX_CAUSE
from waypost.wire.names import read_source
from waypost.wire.words import read_word

MAX_BYTES = 64 * 1024
"""More than 16 KiB of metadata can become when every sign of it has to be escaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One routable endpoint as a gateway sees it. `since` (epoch ms of the log): in the table without a break
    since then. `held`: its lease ran out or it is ill, and it is kept in the table."""

    address: str
    port: int
    weight: int = DEFAULT_WEIGHT
    zone: str = ""
    node: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: int = 0
    held: bool = False


def encode_endpoint(attributes: Attributes, *, since: int, held: bool = False) -> str:
    """Return the canonical JSON of one route entry."""
    return _dumps(
        {
            "address": attributes.address,
            "port": attributes.port,
            "weight": attributes.weight,
            "zone": attributes.zone,
            "node": attributes.node,
            "metadata": dict(sorted(attributes.metadata.items())),
            "since": since,
            "held": held,
        }
    )


def decode_endpoint(text: str | bytes) -> Endpoint:
    """Read one route entry; all fields of the contract must be there. Raises DecodeError."""
    doc = read_object(text, MAX_BYTES)
    return Endpoint(
        **_attributes(doc),
        since=safe_int("since", required(doc, "since")),
        held=as_bool("held", required(doc, "held")),
    )


def _attributes(doc: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": read_address(required(doc, "address")),
        "port": read_port(required(doc, "port")),
        "weight": read_weight(required(doc, "weight")),
        "zone": read_zone(required(doc, "zone")),
        "node": read_node(required(doc, "node")),
        "metadata": read_metadata(required(doc, "metadata")),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedBy:
    """Who took an instance out of its table, why, since when and until when, epoch ms."""

    by: str
    cause: str = ""
    since: int = 0
    until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInstance:
    """One known instance as `get instances` and `explain` show it: attributes, the three facts, the view of
    them with its reason, since when it is (not) routable, and when it was registered (`generation`), epoch ms.

    `held`: why it is in the table although its lease lapsed, its health failed, it flaps or is isolated, since when and
    until when at most (0: no end is set).
    `damped_until`: it flaps and has to stay away until then; 0: it has not.
    `isolated`: who took it out of the table; it is in it all the same when `held` says so."""

    address: str
    port: int
    weight: int = DEFAULT_WEIGHT
    zone: str = ""
    node: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    lease_seconds: int = DEFAULT_LEASE_SECONDS
    source: str
    declared: Declared
    health: Health
    lease: Lease
    status: Status
    routable: bool
    reason: str
    since: int
    generation: int
    held: Held | None = None
    damped_until: int = 0
    isolated: IsolatedBy | None = None


def encode_instance(
    *,
    address: str,
    port: int,
    weight: int,
    zone: str,
    node: str,
    metadata: Mapping[str, str],
    lease_seconds: int,
    source: str,
    declared: Declared,
    health: Health,
    lease: Lease,
    status: Status,
    routable: bool,
    reason: str,
    since: int,
    generation: int,
    held: Held | None = None,
    damped_until: int = 0,
    isolated: IsolatedBy | None = None,
) -> str:
    """Return the canonical JSON of one entry of the `instances` hash; see `KnownInstance`."""
    return _dumps(
        {
            "address": address,
            "port": port,
            "weight": weight,
            "zone": zone,
            "node": node,
            "metadata": dict(sorted(metadata.items())),
            "lease_seconds": lease_seconds,
            "source": source,
            "declared": declared.value,
            "health": health.value,
            "lease": lease.value,
            "status": status.value,
            "routable": routable,
            "reason": reason,
            "since": since,
            "generation": generation,
            "held": None if held is None else {"why": held.why.value, "since": held.since, "until": held.until},
            "damped_until": damped_until,
            "isolated": None
            if isolated is None
            else {
                "by": isolated.by,
                "cause": isolated.cause,
                "since": isolated.since,
                "until": isolated.until,
            },
        }
    )


def decode_instance(text: str | bytes) -> KnownInstance:
    """Read one entry of the `instances` hash; all fields must be there, except those of a hold and of an
    isolation, which entries written before there were any do not have. Raises DecodeError."""
    doc = read_object(text, MAX_BYTES)
    required(doc, "source")
    return KnownInstance(
        **_attributes(doc),
        lease_seconds=read_lease(required(doc, "lease_seconds")),
        source=read_source(doc),
        declared=read_word(Declared, doc, "declared"),
        health=read_word(Health, doc, "health"),
        lease=read_word(Lease, doc, "lease"),
        status=read_word(Status, doc, "status"),
        routable=as_bool("routable", required(doc, "routable")),
        reason=as_text("reason", required(doc, "reason"), 253),
        since=safe_int("since", required(doc, "since")),
        generation=safe_int("generation", required(doc, "generation")),
        held=None if doc.get("held") is None else _held(as_object("held", doc["held"])),
        damped_until=safe_int("damped_until", doc.get("damped_until", 0)),
        isolated=None if doc.get("isolated") is None else _isolated(as_object("isolated", doc["isolated"])),
    )


def _held(doc: dict[str, Any]) -> Held:
    return Held(
        why=read_word(Hold, doc, "why"),
        since=safe_int("since", required(doc, "since")),
        until=safe_int("until", required(doc, "until")),
    )


def _isolated(doc: dict[str, Any]) -> IsolatedBy:
    return IsolatedBy(
        by=as_text("by", required(doc, "by"), MAX_BY),
        cause=as_text("cause", required(doc, "cause"), MAX_CAUSE),
        since=safe_int("since", required(doc, "since")),
        until=safe_int("until", required(doc, "until")),
    )


class JsonRenderer:
    """The route fold's `Renderer`: model values to the JSON that readers of Redis get."""

    def route(self, attributes: Attributes, since: int, *, held: bool = False) -> str:
        """Return the entry of the `route` hash."""
        return encode_endpoint(attributes, since=since, held=held)

    def instance(self, instance: InstanceView, since: int) -> str:
        """Return the entry of the `instances` hash."""
        attributes, word = instance.attributes, instance.isolation
        status, reason = instance.seen
        return encode_instance(
            address=attributes.address,
            port=attributes.port,
            weight=attributes.weight,
            zone=attributes.zone,
            node=attributes.node,
            metadata=attributes.metadata,
            lease_seconds=attributes.lease_seconds,
            source=instance.source,
            declared=instance.declared,
            health=instance.health,
            lease=instance.lease,
            status=status,
            routable=status is Status.UP,
            reason=reason,
            since=since,
            generation=instance.generation,
            held=instance.held,
            damped_until=instance.damped_until,
            isolated=None
            if word is None
            else IsolatedBy(by=word.by, cause=word.cause, since=word.stamp.at, until=word.expires_at),
        )


def _dumps(doc: dict[str, Any]) -> str:
    return orjson.dumps(doc).decode()
