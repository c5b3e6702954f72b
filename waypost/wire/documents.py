"""Reading a document that a person wrote, YAML or JSON: every problem is found, and named by its path.

YAML is read as its 1.2 core schema: `22:00` and `on` are texts, not numbers and booleans. Names that stand twice and
aliases are refused, because what the writer meant cannot be told (or the document is a bomb).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from waypost.errors import DecodeError, PolicyError
from waypost.wire.fields import json_type

T = TypeVar("T")

_MAX_DEPTH = 32


class _Core(yaml.SafeLoader):
    """YAML's core schema, without aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own way of telling

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        self.depth = getattr(self, "depth", 0) + 1
        if self.depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {_MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep=deep)
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        if not all(isinstance(name, str) for name in names):
            raise yaml.YAMLError(f"a name that is no text{node.start_mark}")
        if len(names) != len(set(names)):
            raise yaml.YAMLError(f"a name stands twice{node.start_mark}")
        return found


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?[0-9]{1,18}", list("-+0123456789")),
    ("float", r"[-+]?[0-9]{1,18}\.[0-9]{1,18}", list("-+0123456789")),
):
    _Core.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read_document(text: bytes | str, max_bytes: int) -> Any:
    """Parse one YAML or JSON document. Raises PolicyError."""
    if len(text) > max_bytes:
        raise PolicyError([("", f"more than {max_bytes} bytes")])
    try:
        source = text.decode("utf-8") if isinstance(text, bytes) else text
        if source.lstrip().startswith("{"):
            # Nearly YAML, but not quite: line ends of YAML may stand in texts of JSON.
            return json.loads(source, object_pairs_hook=_once, parse_constant=_no_constant)
        return yaml.load(source, _Core)
    except UnicodeDecodeError:
        raise PolicyError([("", "not UTF-8")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PolicyError([("", f"neither YAML nor JSON: {' '.join(str(error).split())[:500]}")]) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


@dataclass(slots=True)
class Reader:
    """One object of a document, with the path to it; problems of the whole document are collected in one list."""

    value: dict[str, Any]
    path: str
    problems: list[tuple[str, str]]
    _asked: set[str] = field(default_factory=set)

    @classmethod
    def over(cls, value: Any, path: str, problems: list[tuple[str, str]]) -> Reader:
        """Read `value`; anything but an object is a problem, and reads as an empty one."""
        if type(value) is not dict:
            problems.append((path, f"must be an object, not a {json_type(value)}"))
            value = {}
        return cls(value, path, problems)

    def problem(self, name: str, what: str) -> None:
        self.problems.append((self.at(name), what))

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        """Return a field, None when it is absent or null."""
        self._asked.add(name)
        return self.value.get(name)

    def read(self, name: str, default: T, how: Callable[[str, Any], T]) -> T:
        """Return what `how(name, value)` makes of a field. Its DecodeError is a problem, and gives the default."""
        item = self.get(name)
        if item is None:
            return default
        try:
            return how(name, item)
        except DecodeError as error:
            self.problem(name, error.detail or error.reason)
            return default

    def need(self, name: str, default: T, how: Callable[[str, Any], T]) -> T:
        """As `read`, but the field has to be there."""
        if self.get(name) is None:
            self.problem(name, "is missing")
            return default
        return self.read(name, default, how)

    def objects(self, name: str, most: int) -> Iterator[Reader]:
        """Yield the objects of a list."""
        item = self.get(name)
        if item is None:
            return
        if type(item) is not list:
            self.problem(name, f"must be a list, not a {json_type(item)}")
            return
        if len(item) > most:
            self.problem(name, f"has {len(item)} entries, at most {most} are allowed")
            return
        for n, one in enumerate(item):
            reader = Reader.over(one, f"{self.at(name)}[{n}]", self.problems)
            yield reader
            reader.end()

    def end(self) -> None:
        """Refuse every field nobody has asked for."""
        for name in self.value.keys() - self._asked:
            self.problem(str(name)[:64], "is not known here")
