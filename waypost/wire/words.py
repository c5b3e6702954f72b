"""Words of a closed vocabulary that Waypost itself writes: they are read exactly as written."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

from waypost.errors import DecodeError
from waypost.wire.fields import required, wrong_type

W = TypeVar("W", bound=Enum)


def read_word(vocabulary: type[W], doc: dict[str, Any], name: str) -> W:
    """Return the member of `vocabulary` that a field names. Raises DecodeError `unknown-<name>`."""
    item = required(doc, name)
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    try:
        return vocabulary(item)
    except ValueError:
        words = ", ".join(str(member.value) for member in vocabulary)
        raise DecodeError(f"unknown-{name.replace('_', '-')}", f"{name} is one of {words}") from None
