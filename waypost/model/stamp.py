"""Where and when the log holds a record; the only order Waypost trusts."""

from __future__ import annotations

from typing import NamedTuple


class Stamp(NamedTuple):
    """Position of one record on the log, compared by append time, then partition, then offset.

    `at` is Kafka's append time in epoch milliseconds: the broker's clock, never the producer's. Of two
    facts about the same thing the one with the higher stamp wins, so folding records in any order, any
    number of times, gives one result.
    """

    at: int
    partition: int = -1
    offset: int = -1


ORIGIN = Stamp(0)
"""Before every record: the stamp of a fact that nobody stated yet."""


class Cause(NamedTuple):
    """The input record behind a change, as `explain` and the audit log name it."""

    topic: str
    partition: int
    offset: int
