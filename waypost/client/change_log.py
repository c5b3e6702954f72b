"""Change sets put together again from records, in the order of the log, however a poll cut them.

The topic has one partition, so the records of a committed transaction become readable at one moment. What remains are
the cuts of a reader's own: a poll ends anywhere, and compaction takes records of old change sets away. A set is given
out when all its parts have been read, or when the reader is at the end of what is committed: then no part is still
to come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from waypost.errors import DecodeError
from waypost.wire.config import ConfigRecord, Part, decode_config, decode_part, read_name


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedConfig:
    """One record as it was read. `record` None: the configuration was taken away. `at` is append time, epoch ms."""

    name: str
    record: ConfigRecord | None
    part: Part | None
    offset: int
    at: int

    @property
    def change_set(self) -> str:
        if self.part is not None:
            return self.part.change_set
        return "" if self.record is None else self.record.change_set


def read_logged(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], offset: int, at: int
) -> LoggedConfig:
    """Read one record. Raises DecodeError."""
    return LoggedConfig(
        name=read_name(key), record=decode_config(key, value), part=decode_part(headers), offset=offset, at=at
    )


class ChangeLog:
    """See the module. Not thread-safe."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, LoggedConfig | DecodeError]] = {}

    @property
    def is_open(self) -> bool:
        """Whether parts of change sets wait for the others."""
        return bool(self._open)

    def take(self, logged: LoggedConfig) -> list[LoggedConfig]:
        """Take the next record; return what is visible by it, in the order of the log: nothing, or a whole set."""
        return self._take(logged.part, logged)

    def refuse(self, headers: Iterable[tuple[str, bytes | None]], error: DecodeError) -> list[LoggedConfig]:
        """Take a record that cannot be read: the others of its set do not wait for it."""
        return self._take(decode_part(headers), error)

    def end(self) -> list[LoggedConfig]:
        """Say that everything committed has been read; return what still waited, in the order of the log."""
        waited = [one for parts in self._open.values() for one in parts.values() if isinstance(one, LoggedConfig)]
        self._open.clear()
        return sorted(waited, key=lambda one: one.offset)

    def _take(self, part: Part | None, one: LoggedConfig | DecodeError) -> list[LoggedConfig]:
        if part is None:
            return [one] if isinstance(one, LoggedConfig) else []
        parts = self._open.setdefault(part.change_set, {})
        parts[part.index] = one
        if len(parts) < part.count:
            return []
        del self._open[part.change_set]
        read = (found for found in parts.values() if isinstance(found, LoggedConfig))
        return sorted(read, key=lambda found: found.offset)
