"""What a configuration is made of, before anybody decides what to publish: plain data, and the rules for names.

A ConfigMap holds several configurations, one per key. A configuration's name is `<namespace>/<ConfigMap>/<key>`, or
`<prefix>/<key>` where the installation gave the ConfigMap a prefix of its own (that is how `repair/policies` can come
from one). Names below `repair/` are orders to the repair job, so no namespace or annotation can reach them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

MAX_NAME = 512
MAX_VALUE_BYTES = 1_000_000
"""Of a value as a JSON string in UTF-8. The record around it must stay below the 1 MiB that every broker accepts."""
RESERVED = ("repair/",)
MAX_SET_NAME = 40

_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,511}\Z")


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Which ConfigMap."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Content:
    """One value: text as it was written, or bytes as base64 text. Its checksum is its address."""

    text: str
    binary: bool = False
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        # Once: every decision compares it.
        object.__setattr__(self, "checksum", checksum(self.text))

    @property
    def size(self) -> int:
        """Bytes it takes as a JSON string; at least 0, quotes included."""
        return len(json.dumps(self.text, ensure_ascii=False).encode())

    def plain(self) -> bytes:
        """Return what was meant: the text in UTF-8, or the bytes. Raises ValueError when it is no base64."""
        return base64.b64decode(self.text, validate=True) if self.binary else self.text.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigObject:
    """One labelled ConfigMap. `change_set` and `size` are its annotations as they stand, None when absent."""

    key: ObjectKey
    contents: Mapping[str, Content]
    change_set: str | None = None
    size: str | None = None
    uid: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One configuration as it stands on the topic. `source` says whose it is, "" for anybody else's."""

    revision: int
    checksum: str
    binary: bool = False
    change_set: str = ""
    source: str = ""

    def has(self, content: Content) -> bool:
        """Return whether this is what it says already."""
        return (self.checksum, self.binary) == (content.checksum, content.binary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose records these are, and which ConfigMaps have a prefix of their own."""

    source: str
    prefixes: Mapping[ObjectKey, str] = field(default_factory=dict)

    def name_of(self, key: ObjectKey, entry: str) -> str:
        """Return the name of one configuration."""
        return f"{self.prefixes.get(key, str(key))}/{entry}"

    def owner_of(self, name: str) -> ObjectKey | None:
        """Return the ConfigMap a published name comes from, None for one that none of ours can have.

        A ConfigMap's key has no slash, so a name belongs to one ConfigMap only.
        """
        prefix, slash, _ = name.rpartition("/")
        for key, own in self.prefixes.items():
            if slash and prefix == own:
                return key
        parts = prefix.split("/")
        if len(parts) != 2 or not all(parts):
            return None
        key = ObjectKey(parts[0], parts[1])
        return None if key in self.prefixes else key

    def problem_with(self, key: ObjectKey, name: str) -> tuple[str, str] | None:
        """Return (reason, detail) when a configuration may not be called so."""
        if not _NAME.match(name):
            return "bad-name", f"{name[:80]}: a name is 1 to {MAX_NAME} of A-Z a-z 0-9 . _ / -"
        if key not in self.prefixes and name.startswith(RESERVED):
            return "reserved-name", f"{name} is an order to the repair job; only the syncer's own --publish gives it"
        if self.owner_of(name) != key:
            return "name-taken", f"{name} belongs to another ConfigMap, which is published under that name"
        return None


def is_set_name(text: str) -> bool:
    """Return whether a change set may be called so."""
    return _SET_NAME.match(text) is not None


def checksum(text: str) -> str:
    """Return the SHA-256 of a value, 64 hexadecimal digits."""
    return sha256(text.encode()).hexdigest()
