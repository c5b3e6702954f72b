"""Strict reading of JSON objects: what every decoder of this package does in the same way.

Three rules hold for all messages. A field that is `null` counts as absent, because that is how Go and Java
serializers write a value they do not have. A number with an integral value is an integer however it is
written (`90.0`), as JSON Schema defines it; `true` is none. A string never contains a control character: it
could forge a line in a log or a terminal.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from waypost.errors import DecodeError

# C0, DEL and C1, and the two separators that JavaScript and some log viewers take for a line end.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]")

MAX_SAFE_INTEGER = 2**53 - 1
"""What a reader that keeps numbers as doubles (JavaScript, Lua) can still tell from its neighbours."""


def read_json(value: bytes | str, max_bytes: int) -> Any:
    """Parse one JSON document of at most `max_bytes`.

    Raises DecodeError `oversize`, `bad-utf8` or `bad-json`. Nesting beyond 1,024 levels is `bad-json`: the parser
    counts, it does not recurse without end.
    """
    if len(value) > max_bytes or (isinstance(value, str) and len(value) * 4 > max_bytes and _size(value) > max_bytes):
        raise DecodeError("oversize", f"more than {max_bytes} bytes")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _unreadable(value, error) from None


def read_object(value: bytes | str, max_bytes: int) -> dict[str, Any]:
    """Parse one JSON object; as `read_json`, and DecodeError `not-an-object` for anything else."""
    doc = read_json(value, max_bytes)
    if type(doc) is not dict:
        raise DecodeError("not-an-object", f"a JSON {json_type(doc)} where an object is expected")
    return doc


def _size(value: str) -> int:
    return len(value.encode("utf-8", "surrogatepass"))


def _unreadable(value: bytes | str, error: orjson.JSONDecodeError) -> DecodeError:
    """Tell bad UTF-8 from bad JSON; the parser reports both as the same error."""
    try:
        if isinstance(value, str):
            value.encode("utf-8")
        else:
            value.decode("utf-8")
    except UnicodeError:
        return DecodeError("bad-utf8", "the value is not UTF-8")
    return DecodeError("bad-json", str(error))


def json_type(item: Any) -> str:
    """Name the JSON type of a parsed item, for a message to a person."""
    if item is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(item), type(item).__name__)


def wrong_type(name: str, expected: str, item: Any) -> DecodeError:
    """Return the error for a field of another type than expected."""
    return DecodeError("wrong-type", f"{name} must be {expected}, not a JSON {json_type(item)}")


def as_int(name: str, item: Any) -> int:
    """Return an integer of any size; `90.0` is 90, `true` is a wrong type."""
    if type(item) is int:
        return item
    if type(item) is float and item.is_integer():
        return int(item)
    raise wrong_type(name, "an integer", item)


def as_text(name: str, item: Any, max_length: int) -> str:
    """Return a string of at most `max_length` characters without control characters."""
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    if len(item) > max_length:
        raise DecodeError("text-too-long", f"{name} has {len(item)} characters, at most {max_length} are allowed")
    if _CONTROL.search(item):
        raise DecodeError("control-character", f"{name} contains a control character")
    return item


def cleaned(text: str, max_length: int) -> str:
    """Return somebody else's words as a text that `as_text` takes: cut, a space for each control character, a question
    mark for what is no character at all (half of a surrogate pair)."""
    return _CONTROL.sub(" ", text[:max_length]).encode("utf-8", "replace").decode()


def as_bool(name: str, item: Any) -> bool:
    """Return a boolean; 0 and 1 are none."""
    if type(item) is not bool:
        raise wrong_type(name, "a boolean", item)
    return item


def as_list(name: str, item: Any) -> list[Any]:
    """Return a JSON array as a list of whatever it holds."""
    if type(item) is not list:
        raise wrong_type(name, "an array", item)
    return item


def as_object(name: str, item: Any) -> dict[str, Any]:
    """Return a JSON object as a dict of whatever it holds."""
    if type(item) is not dict:
        raise wrong_type(name, "an object", item)
    return item


def bounded(name: str, number: int, low: int, high: int, reason: str) -> int:
    """Return `number` if `low` ≤ number ≤ `high`, else raise DecodeError(`reason`)."""
    if not low <= number <= high:
        raise DecodeError(reason, f"{name} must be from {low} to {high}")
    return number


def safe_int(name: str, item: Any) -> int:
    """Return an integer from 0 to 2**53 - 1: a time, a revision, an epoch."""
    return bounded(name, as_int(name, item), 0, MAX_SAFE_INTEGER, "number-out-of-range")


def required(doc: dict[str, Any], name: str) -> Any:
    """Return a field that must be there. Raises DecodeError `<name>-missing`."""
    item = doc.get(name)
    if item is None:
        raise DecodeError(f"{name.replace('_', '-')}-missing", f"the field {name} is absent or null")
    return item


def check_number(doc: dict[str, Any], name: str) -> None:
    """Refuse an optional field that is not a number; its value is not used."""
    item = doc.get(name)
    if item is not None and type(item) is not int and type(item) is not float:
        raise wrong_type(name, "a number", item)
