"""Registration events, the records of `service-registry`.

Two forms share the topic. The *instance form* speaks of one instance:

    {"op":"register","service":"payments","instance":"payments-1","address":"10.1.2.3","port":8080}

The *service form* declares the whole set of endpoints of its `source`:

    {"service":"webhook","endpoints":["10.1.2.3:8080","10.1.2.4:8080"],"status":"healthy","last_updated":1625097600}

A record with `endpoints` is of the service form, one with `instance` or `op` of the instance form, one with both is
refused. `unprotect` speaks of a service and takes no instance. `op` absent means register; only the fields its op uses
are read. Unknown fields are ignored, for producers newer than this reader; `null` counts as absent; the case of op and
status words does not matter.

Whether a set is stale, or an instance known, is for the fold to say: it takes state, this takes one record.
"""

from __future__ import annotations

from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.events import (
    DEFAULT_SOURCE,
    MAX_SET_ENDPOINTS,
    UPDATABLE,
    InstanceEvent,
    Op,
    SetEvent,
)
from waypost.model.lifecycle import HEALTH_WORDS, Declared, Health
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.addresses import join_endpoint, split_endpoint
from waypost.wire.attributes import attribute_fields, read_attributes, read_changes
from waypost.wire.fields import as_int, as_list, check_number, read_object, required, wrong_type
from waypost.wire.names import read_instance, read_request_id, read_service, read_source

MAX_BYTES = 256 * 1024
"""A set of 5,000 endpoints with long DNS names fits; Kafka's default limit of 1 MiB is far."""

MAX_FUTURE_SECONDS = 86_400
"""How far `last_updated` may be ahead of the append time. One absurd value would make every honest later set
stale for ever; a day forgives wrong time zones."""

MAX_TIME_MS = 4_102_444_800_000
"""The year 2100. Revisions are append time x 1000 and have to stay below 2^53; a topic that once had its producers'
clock keeps whatever they wrote."""

DECLARABLE = {d.value.lower(): d for d in Declared if d is not Declared.REMOVED}
"""The five statuses an owner or operator may declare. Removal is an op of its own."""

_OPS = {op.value: op for op in Op}
_SET_WORDS = {"healthy": True, "up": True, "unhealthy": False, "down": False}

RegistrationEvent = InstanceEvent | SetEvent


def registry_key(service: ServiceKey) -> bytes:
    """Return the record key: all events of a service in one partition, so in order."""
    return str(service).encode()


def decode_registration(value: bytes | str | None, stamp: Stamp) -> RegistrationEvent:
    """Read one record of `service-registry`, appended at `stamp`. Raises DecodeError, and nothing else."""
    if not 0 <= stamp.at < MAX_TIME_MS:
        raise DecodeError("append-time-out-of-range", f"{stamp.at} ms; is the topic's clock the broker's?")
    if value is None:
        raise DecodeError("tombstone", "a null value says nothing; deregister with op deregister")
    doc = read_object(value, MAX_BYTES)
    is_instance_form = doc.get("instance") is not None or doc.get("op") is not None
    if is_instance_form and doc.get("endpoints") is not None:
        raise DecodeError("ambiguous-form", "endpoints belong to the service form, instance and op to the other")
    check_number(doc, "ts")
    return _instance_event(doc, stamp) if is_instance_form else _set_event(doc, stamp)


def _instance_event(doc: dict[str, Any], stamp: Stamp) -> InstanceEvent:
    op = _read_op(doc)
    service = read_service(doc)
    instance = "" if op is Op.UNPROTECT else read_instance(required(doc, "instance"))
    declared, health = _read_status(doc, op)
    changes = read_changes(doc) if op is Op.UPDATE else {}
    if op is Op.UPDATE and not changes:
        raise DecodeError("nothing-to-update", f"an update changes at least one of {', '.join(UPDATABLE)}")
    return InstanceEvent(
        op=op,
        service=service,
        instance=instance,
        stamp=stamp,
        attributes=read_attributes(doc) if op is Op.REGISTER else None,
        changes=changes,
        declared=declared,
        health=health,
        source=read_source(doc),
        request_id=read_request_id(doc),
    )


def _word(name: str, item: Any) -> str:
    """Return a status or op word in lower case. Only ASCII is folded: K (Kelvin) is no k."""
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    return item.lower() if item.isascii() else item


def _read_op(doc: dict[str, Any]) -> Op:
    item = doc.get("op")
    if item is None:
        return Op.REGISTER
    op = _OPS.get(_word("op", item))
    if op is None:
        raise DecodeError("unknown-op", f"op is one of {', '.join(_OPS)}")
    return op


def _read_status(doc: dict[str, Any], op: Op) -> tuple[Declared | None, Health | None]:
    """Return what `status` declares, or what it says about health; a register may only declare."""
    if op not in (Op.REGISTER, Op.STATUS):
        return None, None
    if op is Op.REGISTER and doc.get("status") is None:
        return Declared.UP, None
    word = _word("status", required(doc, "status"))
    if word in DECLARABLE:
        return DECLARABLE[word], None
    if op is Op.STATUS and word in HEALTH_WORDS:
        return None, HEALTH_WORDS[word]
    words = [d.value for d in DECLARABLE.values()] + (list(HEALTH_WORDS) if op is Op.STATUS else [])
    raise DecodeError("unknown-status", f"the status of a {op.value} is one of {', '.join(words)}")


def _set_event(doc: dict[str, Any], stamp: Stamp) -> SetEvent:
    service = read_service(doc)
    items = as_list("endpoints", required(doc, "endpoints"))
    if len(items) > MAX_SET_ENDPOINTS:
        raise DecodeError("too-many-endpoints", f"{len(items)} endpoints, at most {MAX_SET_ENDPOINTS} are allowed")
    endpoints: dict[tuple[str, int], None] = {}
    for item in items:
        if type(item) is not str:
            raise wrong_type("an endpoint", "a string", item)
        endpoints[split_endpoint(item)] = None
    return SetEvent(
        service=service,
        stamp=stamp,
        endpoints=tuple(endpoints),
        healthy=_read_set_status(doc),
        last_updated=_read_last_updated(doc, stamp),
        source=read_source(doc),
        request_id=read_request_id(doc),
    )


def _read_set_status(doc: dict[str, Any]) -> bool:
    """Return whether the set may be called; a set that does not say so is healthy, like a plain register."""
    if doc.get("status") is None:
        return True
    healthy = _SET_WORDS.get(_word("status", doc["status"]))
    if healthy is None:
        raise DecodeError("unknown-status", f"the status of a set is one of {', '.join(_SET_WORDS)}")
    return healthy


def _read_last_updated(doc: dict[str, Any], stamp: Stamp) -> int:
    seconds = as_int("last_updated", required(doc, "last_updated"))
    if seconds < 0:
        raise DecodeError("last-updated-out-of-range", "last_updated is in seconds since 1970 and not negative")
    if seconds * 1000 > stamp.at + MAX_FUTURE_SECONDS * 1000:
        raise DecodeError("last-updated-in-future", "last_updated is in seconds and at most a day ahead of now")
    return seconds


def encode_registration(event: RegistrationEvent, *, ts: int | None = None) -> bytes:
    """Write one event; `decode_registration` gives it back, except for its stamp.

    `ts` (epoch ms) notes the producer's clock for people; no one decides by it. The instance form writes every
    field its op has, the service form leaves out what equals its default, as in the contract's examples.
    """
    doc = _instance_fields(event) if isinstance(event, InstanceEvent) else _set_fields(event)
    if event.request_id:
        doc["request_id"] = event.request_id
    if ts is not None:
        doc["ts"] = ts
    return orjson.dumps(doc)


def _instance_fields(event: InstanceEvent) -> dict[str, Any]:
    doc: dict[str, Any] = {
        "op": event.op.value,
        "namespace": event.service.namespace,
        "service": event.service.service,
    }
    if event.op is not Op.UNPROTECT:
        doc["instance"] = event.instance
    said = dict(event.changes) if event.attributes is None else attribute_fields(event.attributes)
    for name in ("address", "port"):
        if name in said:
            doc[name] = said[name]
    if event.declared is not None:
        doc["status"] = event.declared.value
    elif event.health is not None:
        doc["status"] = event.health.value
    for name in UPDATABLE:
        if name in said:
            doc[name] = dict(sorted(said[name].items())) if name == "metadata" else said[name]
    doc["source"] = event.source
    return doc


def _set_fields(event: SetEvent) -> dict[str, Any]:
    doc: dict[str, Any] = {"service": event.service.service}
    if event.service.namespace != DEFAULT_NAMESPACE:
        doc["namespace"] = event.service.namespace
    doc["endpoints"] = [join_endpoint(*endpoint) for endpoint in event.endpoints]
    doc["status"] = "healthy" if event.healthy else "unhealthy"
    doc["last_updated"] = event.last_updated
    if event.source != DEFAULT_SOURCE:
        doc["source"] = event.source
    return doc
