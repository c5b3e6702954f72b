"""Which records make the topic say what the ConfigMaps say: one change set for all that must be seen together.

    a ConfigMap without the annotation           all its keys are one change set
    ConfigMaps that share a change set's name    one change set, once as many are there as the set's size says
    a key that went away                         a tombstone in its ConfigMap's change set
    a ConfigMap that went away                   tombstones in a change set of their own

The topic itself is the memory: what it has is compared by checksum, so doing it again writes nothing, whatever was
missed meanwhile. A change set's name is used once: members of a published one that change without a new name are
refused, because nobody can tell the first half of an edit from the whole. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from waypost.model.configs import (
    MAX_SET_NAME,
    MAX_VALUE_BYTES,
    ConfigObject,
    Content,
    ObjectKey,
    Published,
    Scope,
    is_set_name,
)

MAX_SET_OBJECTS = 100
MAX_SET_RECORDS = 1_000
MAX_SET_BYTES = 8_000_000
"""What a reader has to hold until a change set is whole."""

SOME_REMOVED = 5
"""So many ConfigMaps may be missing from a list without a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One record of a change set. `content` None: the configuration is gone. `previous`: revision before, 0: none."""

    name: str
    revision: int
    content: Content | None
    previous: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """What becomes visible together. `id` is unique for ever: it ends with the revision of what changes in it."""

    id: str
    changes: tuple[Change, ...]

    @property
    def size(self) -> int:
        """Bytes of all values as they are written."""
        return sum(change.content.size for change in self.changes if change.content is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a ConfigMap is not published; what it published before stays. `waits`: others must come first."""

    object: ConfigObject
    reason: str
    detail: str
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write, in this order, and what not. `withheld` are ConfigMaps that are missing in suspicious number."""

    change_sets: tuple[ChangeSet, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    withheld: tuple[ObjectKey, ...] = ()


def set_name(change_set: str) -> str:
    """Return `<namespace>/<name>` of a change set's id, "" for one that nobody named."""
    name = change_set.rpartition("@")[0]
    return name if "/" in name else ""


def plan(
    objects: Collection[ConfigObject],
    published: Mapping[str, Published],
    scope: Scope,
    *,
    now_ms: int,
    floor: int = 0,
    deleted: Collection[ObjectKey] = (),
    may_remove_many: bool = False,
) -> Plan:
    """Return what makes the topic equal to `objects`, all labelled ConfigMaps there are.

    `floor` is the highest revision ever seen; `deleted` are ConfigMaps whose deletion was seen, as against those that
    are merely absent: when more than half and `SOME_REMOVED` are absent, a wrong selector or namespace is likelier
    than so many deletions, and none of them is removed unless `may_remove_many`.
    """
    return _Planning(objects, published, scope, max(now_ms, floor + 1)).plan(deleted, may_remove_many)


_Problem = tuple[str, str]
"""Reason and detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """ConfigMaps that are seen together: what their configurations shall be, and which of them are not yet."""

    members: list[ConfigObject]
    contents: Mapping[str, Content | None]
    changed: frozenset[str]


class _Planning:
    def __init__(
        self,
        objects: Collection[ConfigObject],
        published: Mapping[str, Published],
        scope: Scope,
        revision: int,
    ) -> None:
        self._objects = {one.key: one for one in objects}
        self._published = published
        self._scope = scope
        self._revision = max([revision, *(one.revision + 1 for one in published.values())])
        self._owned: dict[ObjectKey, list[str]] = {}
        for name, one in published.items():
            owner = scope.owner_of(name)
            if one.source == scope.source and owner is not None:
                self._owned.setdefault(owner, []).append(name)
        self._sets: list[ChangeSet] = []
        self._refusals: list[Refusal] = []

    def plan(self, deleted: Collection[ObjectKey], may_remove_many: bool) -> Plan:
        named: dict[tuple[str, str], list[ConfigObject]] = {}
        for key in sorted(self._objects):
            one = self._objects[key]
            if one.change_set is None:
                self._alone(one)
            else:
                named.setdefault((key.namespace, one.change_set), []).append(one)
        for (namespace, name), members in sorted(named.items()):
            self._together(namespace, name, self._group(members))
        withheld = self._removed(deleted, may_remove_many)
        return Plan(change_sets=tuple(self._sets), refusals=tuple(self._refusals), withheld=withheld)

    def _group(self, members: list[ConfigObject]) -> _Group:
        contents: dict[str, Content | None] = {
            name: None for one in members for name in self._owned.get(one.key, ())
        }  # fmt: skip
        for one in members:
            for entry, content in one.contents.items():
                contents[self._scope.name_of(one.key, entry)] = content
        changed = frozenset(name for name, content in contents.items() if self._changes(name, content))
        return _Group(members=members, contents=contents, changed=changed)

    def _changes(self, name: str, content: Content | None) -> bool:
        before = self._published.get(name)
        if content is None or before is None:
            return content is not None or before is not None
        return not before.has(content) or before.source != self._scope.source

    def _alone(self, one: ConfigObject) -> None:
        group = self._group([one])
        if not group.changed:
            return
        if (problem := self._problem(group)) is not None:
            self._refuse(group, problem)
        else:
            self._write(one.key.namespace, {name: group.contents[name] for name in group.changed})

    def _together(self, namespace: str, name: str, group: _Group) -> None:
        full_name = f"{namespace}/{name}"
        if not group.changed and all(self._is_of(found, full_name) for found in group.contents):
            return
        problem = self._set_problem(full_name, name, group)
        missing = 0 if problem is not None else int(group.members[0].size or "0") - len(group.members)
        if missing > 0:
            has = f"{len(group.members)} of {len(group.members) + missing} ConfigMaps"
            detail = f"change set {name} has {has}; it is published when all are there"
            self._refuse(group, ("incomplete", detail), waits=True)
        elif (problem := problem or self._problem(group)) is not None:
            self._refuse(group, problem)
        else:
            # All of it, also what is the same: that is how a name that was used is known.
            self._write(full_name, group.contents)

    def _removed(self, deleted: Collection[ObjectKey], may_remove_many: bool) -> tuple[ObjectKey, ...]:
        gone = sorted(key for key in self._owned if key not in self._objects)
        absent = tuple(key for key in gone if key not in deleted)
        if may_remove_many or len(absent) < SOME_REMOVED or len(absent) * 2 <= len(self._owned):
            absent = ()
        for key in gone:
            if key not in absent:
                self._write(key.namespace, dict.fromkeys(self._owned[key]))
        return absent

    # --- what is wrong ------------------------------------------------------------------------

    def _set_problem(self, full_name: str, name: str, group: _Group) -> _Problem | None:
        if not is_set_name(name):
            return "bad-change-set", f"a change set's name is 1 to {MAX_SET_NAME} of A-Z a-z 0-9 . _ -"
        sizes = {one.size for one in group.members}
        if len(sizes) > 1:
            return "bad-size", f"the members of change set {name} name different sizes"
        size = sizes.pop()
        if size is None or not size.isascii() or not size.isdigit() or not 1 <= int(size[:9]) <= MAX_SET_OBJECTS:
            return "bad-size", f"change set {name} needs its size, 1 to {MAX_SET_OBJECTS} ConfigMaps, on each member"
        if len(group.members) > int(size):
            return "bad-size", f"change set {name} is of {size} ConfigMaps, and {len(group.members)} say they are in it"
        for found in sorted(group.changed):
            if self._is_of(found, full_name):
                return "change-set-reused", f"{found} was published with change set {name}; a change needs a new name"
        return None

    def _problem(self, group: _Group) -> _Problem | None:
        for one in group.members:
            for entry in sorted(one.contents):
                if (problem := self._scope.problem_with(one.key, self._scope.name_of(one.key, entry))) is not None:
                    return problem
        total = 0
        for name, content in group.contents.items():
            size = content.size if content is not None else 0
            if size > MAX_VALUE_BYTES:
                return "too-large", f"{name} takes {size} bytes as it is written, at most {MAX_VALUE_BYTES} are allowed"
            total += size
        if len(group.contents) > MAX_SET_RECORDS or total > MAX_SET_BYTES:
            limits = f"at most {MAX_SET_RECORDS} of {MAX_SET_BYTES} bytes are allowed"
            return "too-large", f"together they are {len(group.contents)} configurations of {total} bytes; {limits}"
        return None

    def _is_of(self, name: str, full_name: str) -> bool:
        """Return whether what is published was published with the change set of that name."""
        before = self._published.get(name)
        return before is not None and before.source == self._scope.source and set_name(before.change_set) == full_name

    def _refuse(self, group: _Group, problem: _Problem, *, waits: bool = False) -> None:
        reason, detail = problem
        self._refusals += [Refusal(object=one, reason=reason, detail=detail, waits=waits) for one in group.members]

    # --- what to write ------------------------------------------------------------------------

    def _write(self, name: str, contents: Mapping[str, Content | None]) -> None:
        changes = tuple(
            Change(
                name=found,
                revision=self._revision_of(found, content),
                content=content,
                previous=before.revision if (before := self._published.get(found)) is not None else 0,
            )
            for found, content in sorted(contents.items(), key=lambda item: item[0])
        )
        self._sets.append(ChangeSet(id=f"{name}@{self._revision}", changes=changes))
        self._revision += 1

    def _revision_of(self, name: str, content: Content | None) -> int:
        """The same content keeps its revision: it is there again only to be seen with the others."""
        before = self._published.get(name)
        if before is not None and content is not None and before.has(content):
            return before.revision
        return self._revision
