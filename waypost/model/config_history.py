"""What the configurations were, as far as the topic still tells, and what taking a change set back would write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from waypost.model.configs import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One configuration as one record left it. `content` None: it was taken away. `at` is append time, epoch ms.
    `previous`: the revision it replaced, 0 for a new one, None when nobody says."""

    name: str
    revision: int
    content: Content | None
    change_set: str
    at: int
    previous: int | None = None


class CannotUndo(ValueError):
    """A change set cannot be taken back; the message says why."""


def undo(
    history: Iterable[Version], change_set: str, *, force: bool = False, keep_same: bool = False
) -> dict[str, Content | None]:  # fmt: skip
    """Return what each configuration that `change_set` changed was before it; None for what did not exist.

    With `keep_same` also what is so already.
    `history` is in the order of the log. Raises CannotUndo when the change set or what was before it is not there (the
    topic is compacted), when something was changed again since (unless `force`), and when nothing would change.
    """
    before: dict[str, Content | None] = {}
    last: dict[str, Version] = {}
    for version in history:
        if version.change_set == change_set and version.name not in before:
            previous = last.get(version.name)
            if previous is None and (version.previous or version.content is None):
                raise CannotUndo(f"what {version.name} was before {change_set} is not on the topic any more")
            before[version.name] = None if previous is None else previous.content
        last[version.name] = version
    if not before:
        raise CannotUndo(f"the topic knows no change set {change_set}, or no longer")
    later = {name: last[name] for name in before if last[name].change_set != change_set}
    if later and not force:
        name, version = min(later.items())
        by = f"change set {version.change_set}" if version.change_set else f"revision {version.revision}"
        raise CannotUndo(f"{name} was changed again by {by}; take that back first")
    undone = {name: content for name, content in before.items() if last[name].content != content}
    if keep_same:
        return before
    if not undone:
        raise CannotUndo(f"change set {change_set} changed nothing that is not so already")
    return undone
