"""Alertmanager's webhook, version 4, read: JSON → alerts.

The whole request is read before anything is written. A request that is no webhook is refused whole (400). A single
alert in it that cannot become a record (a name that is no name, say) is set aside with its reason, and the others pass:
one hostile label must not hold back the alert beside it. Asking Alertmanager to send it again would change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson

from waypost.bridge.mapping import TYPE_LABELS, LabelMapping, first
from waypost.errors import DecodeError
from waypost.model.alert import Alert
from waypost.wire.alerts import MAX_BYTES as RECORD_BYTES
from waypost.wire.alerts import MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, encode_alert, read_alert
from waypost.wire.fields import as_list, as_object, read_object, required, wrong_type

MAX_BYTES = 8 * 1024 * 1024
"""Of one request. Alertmanager sends a whole group at once: 8 MiB are about 5,000 alerts of the usual size."""

MAX_ALERTS = 10_000
VERSION = "4"

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
)


@dataclass(frozen=True, slots=True)
class Refused:
    """An alert that cannot become a record: why, and what it was."""

    reason: str
    detail: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """What one request brought."""

    alerts: tuple[Alert, ...]
    refused: tuple[Refused, ...]


def read_notification(body: bytes, mapping: LabelMapping) -> Notification:
    """Read one request. Raises DecodeError when it is no webhook of version 4."""
    doc = read_object(body, MAX_BYTES)
    if doc.get("version") != VERSION:
        raise DecodeError("unknown-version", f"this reads Alertmanager's webhook of version {VERSION}")
    several = as_list("alerts", required(doc, "alerts"))
    if len(several) > MAX_ALERTS:
        raise DecodeError("too-many-alerts", f"more than {MAX_ALERTS} alerts in one request")
    alerts, refused = list[Alert](), list[Refused]()
    for one in several:
        try:
            alerts.append(_alert(as_object("an alert", one), mapping))
        except DecodeError as error:
            refused.append(Refused(error.reason, error.detail, orjson.dumps(one)))
    return Notification(tuple(alerts), tuple(refused))


def _alert(doc: dict[str, Any], mapping: LabelMapping) -> Alert:
    labels = _texts(doc, "labels")
    rule = mapping.rule_for(labels)
    names = mapping.names
    about_node = rule is not None and rule.about_node
    read = read_alert(
        {
            "type": rule.type if rule is not None else first(labels, TYPE_LABELS) or None,
            "service": None if about_node else first(labels, names.service) or None,
            "namespace": None if about_node else first(labels, names.namespace) or None,
            "node": first(labels, names.node) or None,
            "pod": None if about_node else first(labels, names.pod) or None,
            "status": doc.get("status"),
            "fingerprint": doc.get("fingerprint"),
            "startsAt": epoch_ms("startsAt", doc.get("startsAt")),
            "labels": labels,
            "annotations": _texts(doc, "annotations"),
        }
    )
    # Its record has a bound as well, and its readers refuse what is longer.
    if len(encode_alert(read)) > RECORD_BYTES:
        raise DecodeError("oversize", f"the record would be larger than {RECORD_BYTES} bytes")
    return read


def _texts(doc: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return labels or annotations fit for a record: line ends and other control characters become spaces."""
    item = doc.get(name)
    if item is None:
        return {}
    found = {}
    for key, value in as_object(name, item).items():
        if type(value) is not str:
            raise wrong_type(f"a value in {name}", "a string", value)
        # What is for people is cut; what decides is refused by the codec when it is too long.
        cut = value[:MAX_LABEL_VALUE] if name == "annotations" else value
        found[_CONTROL.sub(" ", key)] = _CONTROL.sub(" ", cut)
    if name == "annotations":
        kept = [key for key in found if len(key) <= MAX_LABEL_NAME][:MAX_LABELS]
        return {key: found[key] for key in kept}
    return found


def epoch_ms(name: str, item: Any) -> int | None:
    """Return an RFC 3339 time as epoch ms, None when there is none. Raises DecodeError `bad-time`."""
    if item is None:
        return None
    found = _RFC3339.match(item) if isinstance(item, str) else None
    if found is None:
        raise DecodeError("bad-time", f"{name} is not a time as RFC 3339 writes it")
    whole, fraction, zone = found.groups()
    try:
        # Nanoseconds are Go's way; fromisoformat of Python 3.10 takes neither them nor the Z.
        moment = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    except ValueError:
        raise DecodeError("bad-time", f"{name} is no time of any day") from None
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (moment - epoch) // timedelta(milliseconds=1) + int((fraction or "0").ljust(3, "0")[:3])
