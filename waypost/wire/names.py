"""The names a message may carry, checked before they can become part of a key, a log line or a URL."""

from __future__ import annotations

import re
from typing import Any

from waypost.errors import DecodeError
from waypost.model.events import DEFAULT_SOURCE
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey, is_instance, is_namespace, is_service
from waypost.wire.fields import as_text, required, wrong_type

MAX_REQUEST_ID = 128

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


def read_service(doc: dict[str, Any]) -> ServiceKey:
    """Return the service a message is about, in namespace `default` unless it names another."""
    return ServiceKey(read_namespace(doc.get("namespace"), DEFAULT_NAMESPACE), service_name(required(doc, "service")))


def service_name(item: Any) -> str:
    """Return a service name. Raises DecodeError `wrong-type` or `bad-service`."""
    if type(item) is not str:
        raise wrong_type("service", "a string", item)
    if not is_service(item):
        raise DecodeError("bad-service", "a service is an RFC 1123 name: dotted labels of a-z 0-9 -")
    return item


def read_namespace(item: Any, default: str) -> str:
    """Return a namespace, `default` when there is none. Raises DecodeError `wrong-type` or `bad-namespace`."""
    if item is None:
        return default
    if type(item) is not str:
        raise wrong_type("namespace", "a string", item)
    if not is_namespace(item):
        raise DecodeError("bad-namespace", "a namespace is an RFC 1123 label: at most 63 of a-z 0-9 -")
    return item


def read_instance(item: Any) -> str:
    """Return an instance id. Raises DecodeError `wrong-type` or `bad-instance-id`."""
    if type(item) is not str:
        raise wrong_type("instance", "a string", item)
    if not is_instance(item):
        raise DecodeError("bad-instance-id", "an instance id is 1 to 253 of A-Z a-z 0-9 . _ : -")
    return item


def read_source(doc: dict[str, Any]) -> str:
    """Return who registers: a word such as `agent`, `k8s-sync`."""
    item = doc.get("source")
    if item is None:
        return DEFAULT_SOURCE
    if type(item) is not str:
        raise wrong_type("source", "a string", item)
    if not _SOURCE.match(item):
        raise DecodeError("bad-source", "a source is 1 to 63 of A-Z a-z 0-9 . _ - and begins with a letter or digit")
    return item


def read_request_id(doc: dict[str, Any]) -> str:
    """Return the id under which the producer waits for an answer, "" for none."""
    item = doc.get("request_id")
    return "" if item is None else as_text("request_id", item, MAX_REQUEST_ID)
