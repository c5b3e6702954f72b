"""Records of `service-isolation`: who is to be kept out of which tables, until when, and who says so.

A record is about an instance of a service or about a node. One that names neither is refused: it would be about
everybody.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.isolation import LONGEST_MS, Isolation, Verb
from waypost.model.names import is_instance
from waypost.model.stamp import Stamp
from waypost.wire.fields import as_text, read_object, required, safe_int, wrong_type
from waypost.wire.names import read_instance, read_request_id, read_service
from waypost.wire.registry import MAX_TIME_MS
from waypost.wire.words import read_word

MAX_BYTES = 16 * 1024
MAX_CAUSE = 1_000
MAX_BY = 128

_BY = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:@/-]{{0,{MAX_BY - 1}}}\Z")


def isolation_key(isolation: Isolation) -> bytes:
    """Return the record's key: `<namespace>/<service>`, or `node/<name>`."""
    return str(isolation.service).encode() if isolation.service is not None else f"node/{isolation.node}".encode()


def encode_isolation(isolation: Isolation) -> bytes:
    """Write one record."""
    service = isolation.service
    return orjson.dumps(
        {
            "action": isolation.verb.value,
            "namespace": service.namespace if service is not None else None,
            "service": service.service if service is not None else None,
            "instance": isolation.instance or None,
            "node": isolation.node or None,
            "cause": isolation.cause or None,
            "expires_at": isolation.expires_at or None,
            "by": isolation.by,
            "request_id": isolation.request_id or None,
        }
    )


def decode_isolation(value: bytes | str | None, stamp: Stamp) -> Isolation:
    """Read one record that was appended at `stamp`. Raises DecodeError."""
    if not 0 <= stamp.at < MAX_TIME_MS:
        raise DecodeError("append-time-out-of-range", f"{stamp.at} ms; is the topic's clock the broker's?")
    if value is None:
        raise DecodeError("tombstone", "a null value is no isolation")
    doc = read_object(value, MAX_BYTES)
    verb = read_word(Verb, doc, "action")
    if doc.get("expires_at") is not None:
        safe_int("expires_at", doc["expires_at"])
    instance = "" if doc.get("instance") is None else read_instance(doc["instance"])
    node = _node(doc)
    has_service = doc.get("service") is not None
    if instance and not has_service:
        raise DecodeError("service-missing", "an instance is known by its service and its id")
    if doc.get("namespace") is not None and not has_service:
        raise DecodeError("service-missing", "the services of a namespace cannot be meant alone; name one, or none")
    if bool(instance) == bool(node):
        raise DecodeError("no-target", "an isolation is about an instance or about a node, and never about all")
    return Isolation(
        verb=verb,
        service=read_service(doc) if has_service else None,
        instance=instance,
        node=node,
        cause="" if doc.get("cause") is None else as_text("cause", doc["cause"], MAX_CAUSE),
        by=_by(doc),
        expires_at=_end(doc, stamp) if verb is Verb.ISOLATE else 0,
        request_id=read_request_id(doc),
        stamp=stamp,
    )


def _node(doc: dict[str, Any]) -> str:
    item = doc.get("node")
    if item is None:
        return ""
    if type(item) is not str:
        raise wrong_type("node", "a string", item)
    if not is_instance(item):
        raise DecodeError("bad-node", "a node name is 1 to 253 of A-Z a-z 0-9 . _ : -")
    return item


def _by(doc: dict[str, Any]) -> str:
    item = required(doc, "by")
    if type(item) is not str:
        raise wrong_type("by", "a string", item)
    if not _BY.match(item):
        raise DecodeError("bad-by", "by is 1 to 128 of A-Z a-z 0-9 . _ : @ / - and begins with a letter or digit")
    return item


def _end(doc: dict[str, Any], stamp: Stamp) -> int:
    if doc.get("expires_at") is None:
        raise DecodeError("expiry-missing", "an isolation says until when (expires_at, epoch ms)")
    end = safe_int("expires_at", doc["expires_at"])
    if end <= stamp.at:
        raise DecodeError("expired", "expires_at is not after the record's append time")
    if end > stamp.at + LONGEST_MS:
        raise DecodeError("expiry-too-far", f"an isolation ends within {LONGEST_MS // 86_400_000} days")
    return end
