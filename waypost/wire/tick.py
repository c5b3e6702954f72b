"""The beats column of a tick row: many beats in one string.

SQL on the JVM glues the beats of a shard together and Python takes them apart, so that beats cost Python no call
each. Nothing is parsed in between: an entry is the record itself,

    id US partition US offset US append time US value      entries separated by RS

with the control characters RS (U+001E) and US (U+001F). JSON text never contains them raw, and SQL sets records aside
that do, so no value can forge another entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from waypost.errors import DecodeError
from waypost.model.beats import Beat
from waypost.model.leases import Reject, TimedBeat
from waypost.model.names import is_instance
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_beat

ENTRY = "\x1e"
FIELD = "\x1f"

_MEMO_LIMIT = 4096
"""Distinct beat texts remembered per reader: fleets repeat themselves (`{}`, `{"cpu":0.4}`), so most beats cost a
dictionary look-up instead of a parse."""


def encode_entry(instance: str, stamp: Stamp, value: str) -> str:
    """Write one entry the way the SQL does."""
    return f"{instance}{FIELD}{stamp.partition}{FIELD}{stamp.offset}{FIELD}{stamp.at}{FIELD}{value}"


class TickReader:
    """Takes beats columns apart. Keep one per operator: it remembers texts it parsed."""

    def __init__(self) -> None:
        self._memo: dict[str, Beat] = {}

    def read(self, column: str, rejects: list[Reject]) -> Iterator[TimedBeat]:
        """Yield the beats of one column; beats that cannot be read go to `rejects`."""
        memo = self._memo
        for entry in column.split(ENTRY):
            instance, partition, offset, at, value = entry.split(FIELD)
            stamp = Stamp(int(at), int(partition), int(offset))
            beat = memo.get(value)
            try:
                if beat is None:
                    beat = decode_beat(value)
                    if len(memo) >= _MEMO_LIMIT:
                        memo.clear()
                    memo[value] = beat
                if not is_instance(instance):
                    raise DecodeError("bad-instance-id")
            except DecodeError as error:
                rejects.append(Reject(TimedBeat(instance, stamp, Beat(), value), error.reason))
                continue
            yield TimedBeat(instance, stamp, beat, value)
