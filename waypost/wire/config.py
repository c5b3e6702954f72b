"""Records of `service-config`: one named configuration, whole, with its revision and checksum.

The value is text as its author wrote it (YAML, JSON), so that what is shown is what was written; bytes are base64, and
`encoding` says so. The checksum is over that text: a reader that finds another one has read half of something, and must
not use it. `source` says which syncer keeps the record equal to a ConfigMap; what people write has none.

What a change set is made of is told by a header of each of its records, tombstones as well, because a tombstone has no
value: `waypost-part: <index>/<count> <change set>`, index from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from waypost.errors import DecodeError
from waypost.model.change_sets import ChangeSet
from waypost.model.configs import Content
from waypost.model.configs import checksum as checksum
from waypost.wire.fields import as_text, read_object, required, safe_int, wrong_type

MAX_BYTES = 1024 * 1024

PART_HEADER = "waypost-part"
BASE64 = "base64"

Headers = Iterable[tuple[str, bytes | None]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,511}\Z")
_PART = re.compile(rb"([1-9][0-9]{0,5})/([1-9][0-9]{0,5}) ([\x21-\x7e]{1,128})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRecord:
    """One configuration. `revision` grows with each change of it; `change_set` is shared by all that were changed
    together, "" for one alone. `binary`: the value is base64. `previous` is the revision it replaced, 0 for a new one,
    None when its writer does not say."""

    name: str
    revision: int
    value: str
    change_set: str = ""
    binary: bool = False
    source: str = ""
    previous: int | None = None

    @property
    def content(self) -> Content:
        return Content(self.value, self.binary)


@dataclass(frozen=True, slots=True)
class Part:
    """Which record of a change set one is, from 1, and of how many."""

    change_set: str
    index: int
    count: int


def encode_config(record: ConfigRecord) -> tuple[bytes, bytes]:
    """Return key and value of a record."""
    doc = {
        "revision": record.revision,
        "change_set": record.change_set or None,
        "value": record.value,
        "checksum": checksum(record.value),
    }
    if record.binary:
        doc["encoding"] = BASE64
    if record.source:
        doc["source"] = record.source
    if record.previous is not None:
        doc["previous"] = record.previous
    return record.name.encode(), orjson.dumps(doc)


def encode_change_set(change_set: ChangeSet, source: str) -> list[tuple[bytes, bytes | None, list[tuple[str, bytes]]]]:
    """Return key, value and headers of each record, in their order. They belong into one transaction."""
    records = []
    count = len(change_set.changes)
    for index, change in enumerate(change_set.changes, 1):
        key, value = change.name.encode(), None
        if change.content is not None:
            key, value = encode_config(
                ConfigRecord(
                    name=change.name, revision=change.revision, value=change.content.text, change_set=change_set.id,
                    binary=change.content.binary, source=source, previous=change.previous,
                )
            )  # fmt: skip
        records.append((key, value, [(PART_HEADER, f"{index}/{count} {change_set.id}".encode())]))
    return records


def decode_part(headers: Headers) -> Part | None:
    """Return which part of a change set a record is; None for one alone, and for a header that says nothing."""
    for name, value in headers:
        if name == PART_HEADER and value is not None and (found := _PART.match(value)) is not None:
            part = Part(found[3].decode(), int(found[1]), int(found[2]))
            return part if part.index <= part.count else None
    return None


def revision_of(change_set: str) -> int:
    """Return the revision that ends a syncer's change set id, 0 for any other id."""
    digits = change_set.rpartition("@")[2]
    return int(digits) if "@" in change_set and digits.isascii() and digits.isdigit() and len(digits) <= 16 else 0


def decode_config(key: bytes | None, value: bytes | None) -> ConfigRecord | None:
    """Read one record; None for one that takes the configuration away. Raises DecodeError."""
    name = read_name(key)
    if value is None:
        return None
    doc = read_object(value, MAX_BYTES)
    text = required(doc, "value")
    if type(text) is not str:
        raise wrong_type("value", "a string", text)
    if as_text("checksum", required(doc, "checksum"), 64) != checksum(text):
        raise DecodeError("bad-checksum", f"{name}: the value is not what its checksum is of")
    if doc.get("encoding") not in (None, BASE64):
        raise DecodeError("unknown-encoding", f"{name}: the encoding of a value is {BASE64} or none")
    return ConfigRecord(
        name=name,
        revision=safe_int("revision", required(doc, "revision")),
        value=text,
        change_set="" if doc.get("change_set") is None else as_text("change_set", doc["change_set"], 128),
        binary=doc.get("encoding") == BASE64,
        source="" if doc.get("source") is None else as_text("source", doc["source"], 128),
        previous=None if doc.get("previous") is None else safe_int("previous", doc["previous"]),
    )


def read_name(key: bytes | None) -> str:
    """Return the name that is a record's key. Raises DecodeError `bad-name`."""
    name = (key or b"")[:1024].decode(errors="replace")
    if not _NAME.match(name):
        raise DecodeError("bad-name", "a configuration's name is 1 to 512 of A-Z a-z 0-9 . _ / -")
    return name
