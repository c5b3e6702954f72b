"""Records of `dead-letter`: what could not be read, where it stands on the log, and why it was refused.

The original value travels along in Base64, so a producer's bug can be studied, and the record replayed, after the
topic it came from has been trimmed.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.wire.fields import MAX_SAFE_INTEGER, as_bool, as_int, bounded, read_object, required, wrong_type

MAX_VALUE = 256 * 1024
"""Bytes kept of the refused value. In Base64 that is 342 KiB: with Kafka's default limit of 1 MiB per record, a
dead letter can always be written."""

MAX_DETAIL = 1_000
MAX_BYTES = 512 * 1024

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")
_REASON = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One refused record. `value` is its first `MAX_VALUE` bytes, None when it had no value at all."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    value: bytes | None
    truncated: bool


def encode_dead_letter(
    topic: str, partition: int, offset: int, reason: str, value: bytes | None, detail: str = ""
) -> bytes:
    """Write one dead letter. Never fails for what the record contains."""
    return orjson.dumps(
        {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "reason": reason,
            "detail": detail[:MAX_DETAIL].encode("utf-8", "replace").decode(),
            "value_base64": None if value is None else b64encode(value[:MAX_VALUE]).decode(),
            "truncated": value is not None and len(value) > MAX_VALUE,
        }
    )


def decode_dead_letter(value: bytes | None) -> DeadLetter:
    """Read one dead letter. Raises DecodeError."""
    if value is None:
        raise DecodeError("tombstone", "a null value is no dead letter")
    doc = read_object(value, MAX_BYTES)
    return DeadLetter(
        topic=_matching("topic", required(doc, "topic"), _TOPIC),
        partition=_position(doc, "partition"),
        offset=_position(doc, "offset"),
        reason=_matching("reason", required(doc, "reason"), _REASON),
        detail=_detail(required(doc, "detail")),
        value=_value(doc.get("value_base64")),
        truncated=as_bool("truncated", required(doc, "truncated")),
    )


def _matching(name: str, item: Any, pattern: re.Pattern[str]) -> str:
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    if not pattern.match(item):
        raise DecodeError(f"bad-{name}", f"{name} must match {pattern.pattern}")
    return item


def _position(doc: dict[str, Any], name: str) -> int:
    return bounded(name, as_int(name, required(doc, name)), 0, MAX_SAFE_INTEGER, "number-out-of-range")


def _detail(item: Any) -> str:
    if type(item) is not str:
        raise wrong_type("detail", "a string", item)
    if len(item) > MAX_DETAIL:
        raise DecodeError("text-too-long", f"detail has more than {MAX_DETAIL} characters")
    return item


def _value(item: Any) -> bytes | None:
    if item is None:
        return None
    if type(item) is not str:
        raise wrong_type("value_base64", "a string", item)
    try:
        value = b64decode(item, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError("bad-base64", "value_base64 is not Base64") from None
    if len(value) > MAX_VALUE:
        raise DecodeError("oversize", f"the value has more than {MAX_VALUE} bytes")
    return value
