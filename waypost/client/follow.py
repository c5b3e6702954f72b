"""Following the `changes` stream without being fooled by it.

XREAD from a position that was trimmed away skips silently to the oldest entry left, and a wiped store may go on
issuing ids above the ones it issued before. So after each read this module asks whether the place it read from is still
there, in the same life of the store.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import redis

from waypost.client.connection import text, texts
from waypost.client.keys import Keys

START = "0-0"

Fields = dict[str, str]


class Continuity(str, Enum):
    """How what was just read relates to what was read before."""

    UNBROKEN = "unbroken"
    TRIMMED = "trimmed"
    """Entries may be missing in between: the reader was away too long."""
    REPLACED = "replaced"
    """Another life of the store, or an older copy of it: what was read before is not its past."""


class ChangeStream:
    """A place in the stream. Every method raises what redis-py raises."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis = client
        self._keys = keys
        self.position = START
        self.life = ""

    def seek_end(self) -> None:
        """Go to the end: what is published from now on will be read."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.get(self._keys.generation)
        pipeline.xrevrange(self._keys.changes, count=1)
        life, last = pipeline.execute()
        self.life = text(life)
        self.position = text(last[0][0]) if last else START

    def read(self, block_ms: int, count: int = 1_000) -> tuple[list[Fields], Continuity]:
        """Wait up to `block_ms` for entries and return them, oldest first; `position` is then behind them."""
        before = self.position
        reply: Any = self._redis.xread({self._keys.changes: before}, count=count, block=max(1, block_ms))
        entries = _entries(reply)
        continuity = self._continuity(before)
        if entries:
            self.position = text(entries[-1][0])
        return [texts(fields) for _, fields in entries if fields], continuity

    def continuity(self) -> Continuity:
        """Tell, after a reconnection, whether following can simply go on."""
        return self._continuity(self.position)

    def _continuity(self, position: str) -> Continuity:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.get(self._keys.generation)
        pipeline.xrange(self._keys.changes, count=1)
        pipeline.xrange(self._keys.changes, min=position, max=position)
        life, first, here = pipeline.execute()
        if text(life) != self.life:
            return Continuity.REPLACED
        if here or (position == START and not first):
            return Continuity.UNBROKEN
        if first and _order(position) < _order(text(first[0][0])):
            return Continuity.TRIMMED
        return Continuity.REPLACED


def _entries(reply: Any) -> list[Any]:
    if not reply:
        return []
    if isinstance(reply, dict):  # RESP3
        (batches,) = reply.values()
        return [entry for batch in batches for entry in batch]
    return list(reply[0][1])


def _order(entry_id: str) -> tuple[int, int]:
    at, _, number = entry_id.partition("-")
    return int(at), int(number or 0)
