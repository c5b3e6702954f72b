"""Records of `alerts`: one alert per record.

Written by the bridge, and by anything else that can write JSON; so nothing in them is believed beyond its form. Names
become parts of requests to the Kubernetes API, hence RFC 1123 and nothing else: no `/`, no `..`, no `*`. A service
without a namespace is readable, so that its refusal can be told; it is never given the default one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.alert import Alert, AlertStatus
from waypost.model.names import is_service
from waypost.wire.fields import as_object, as_text, read_object, required, safe_int, wrong_type
from waypost.wire.names import read_namespace, service_name
from waypost.wire.words import read_word

MAX_BYTES = 128 * 1024
MAX_LABELS = 64
MAX_LABEL_NAME = 256
MAX_LABEL_VALUE = 4_096

NO_KEY = b"_unassigned"
"""Key of an alert about nothing. It has no slash, so no service and no node shares it."""

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
_FINGERPRINT = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


def alert_key(alert: Alert) -> bytes:
    """Return the record's key: `<namespace>/<service>`, `node/<name>`, or `NO_KEY`."""
    return str(alert.target).encode() if alert.target is not None else NO_KEY


def alert_fields(alert: Alert) -> dict[str, Any]:
    """Return an alert as its record has it; what it does not say is null."""
    return {
        "type": alert.type,
        "service": alert.service or None,
        "namespace": alert.namespace or None,
        "node": alert.node or None,
        "pod": alert.pod or None,
        "status": alert.status.value,
        "fingerprint": alert.fingerprint,
        "startsAt": alert.starts_at,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
    }


def encode_alert(alert: Alert) -> bytes:
    """Write one alert."""
    return orjson.dumps(alert_fields(alert))


def decode_alert(value: bytes | None) -> Alert:
    """Read one record. Raises DecodeError."""
    if value is None:
        raise DecodeError("tombstone", "a null value is no alert")
    return read_alert(read_object(value, MAX_BYTES))


def read_alert(doc: Mapping[str, Any]) -> Alert:
    """Read an alert from a parsed record. Raises DecodeError."""
    doc = dict(doc)
    if doc.get("startsAt") is None:
        raise DecodeError("starts-at-missing", "the field startsAt is absent or null")
    return Alert(
        type=read_type(required(doc, "type")),
        status=read_word(AlertStatus, doc, "status"),
        fingerprint=read_fingerprint(required(doc, "fingerprint")),
        starts_at=safe_int("startsAt", doc["startsAt"]),
        service="" if doc.get("service") is None else service_name(doc["service"]),
        namespace=read_namespace(doc.get("namespace"), ""),
        node=_kubernetes_name(doc, "node", "bad-node"),
        pod=_kubernetes_name(doc, "pod", "bad-pod"),
        labels=_texts(doc, "labels"),
        annotations=_texts(doc, "annotations"),
    )


def read_type(item: Any) -> str:
    """Return an alert type. Raises DecodeError `wrong-type` or `bad-type`."""
    if type(item) is not str:
        raise wrong_type("type", "a string", item)
    if not _TYPE.match(item):
        raise DecodeError("bad-type", "an alert type is 1 to 63 of A-Z a-z 0-9 _ - and begins with a letter")
    return item


def read_fingerprint(item: Any) -> str:
    """Return a fingerprint. Raises DecodeError `wrong-type` or `bad-fingerprint`."""
    if type(item) is not str:
        raise wrong_type("fingerprint", "a string", item)
    if not _FINGERPRINT.match(item):
        raise DecodeError("bad-fingerprint", "a fingerprint is 1 to 128 of A-Z a-z 0-9 . _ : -")
    return item


def _kubernetes_name(doc: dict[str, Any], name: str, reason: str) -> str:
    item = doc.get(name)
    if item is None:
        return ""
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    if not is_service(item):
        raise DecodeError(reason, f"a {name} is an RFC 1123 name: dotted labels of a-z 0-9 -")
    return item


def _texts(doc: dict[str, Any], name: str) -> dict[str, str]:
    item = doc.get(name)
    if item is None:
        return {}
    found = as_object(name, item)
    if len(found) > MAX_LABELS:
        raise DecodeError("too-many-labels", f"{name} has more than {MAX_LABELS} entries")
    for key, value in found.items():
        as_text(f"a name in {name}", key, MAX_LABEL_NAME)
        as_text(f"a value in {name}", value, MAX_LABEL_VALUE)
    return found
