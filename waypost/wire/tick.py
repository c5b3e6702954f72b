"""The beats column of a tick row: many beats in one string (format: `waypost.wire.glue`)."""

from __future__ import annotations

from collections.abc import Iterator

from waypost.errors import DecodeError
from waypost.model.beats import Beat
from waypost.model.leases import Reject, TimedBeat
from waypost.model.names import is_instance
from waypost.wire.beats import decode_beat
from waypost.wire.glue import read_entries

_MEMO_LIMIT = 4096
"""Distinct beat texts remembered per reader: fleets repeat themselves (`{}`, `{"cpu":0.4}`), so most beats cost a
dictionary look-up instead of a parse."""


class TickReader:
    """Takes beats columns apart. Keep one per operator: it remembers texts it parsed."""

    def __init__(self) -> None:
        self._memo: dict[str, Beat] = {}

    def read(self, column: str, rejects: list[Reject]) -> Iterator[TimedBeat]:
        """Yield the beats of one column; beats that cannot be read go to `rejects`."""
        memo = self._memo
        for instance, stamp, value in read_entries(column):
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
