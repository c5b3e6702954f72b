"""A map state that is in memory as a whole: for the one key that has to look at all of it again and again."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

from jobs.operators.keyed_state import StateMap

T = TypeVar("T")


class Kept(MutableMapping[str, T]):
    """Reads from memory, writes through. Make it when the key is set; it must not be used for another key."""

    def __init__(self, stored: StateMap[T]) -> None:
        self._stored = stored
        self._all = {name: stored[name] for name in stored}
        stored.forget()

    def __getitem__(self, name: str) -> T:
        return self._all[name]

    def __setitem__(self, name: str, value: T) -> None:
        self._all[name] = value
        self._stored[name] = value
        self._stored.forget()

    def __delitem__(self, name: str) -> None:
        del self._all[name]
        del self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
