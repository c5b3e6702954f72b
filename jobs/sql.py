"""Pieces of SQL that both inputs are read with."""

from __future__ import annotations

from waypost.model.names import MAX_NAME

APPEND_MS = "(1000 * CAST(EXTRACT(EPOCH FROM rt) AS BIGINT) + MOD(CAST(EXTRACT(MILLISECOND FROM rt) AS BIGINT), 1000))"
"""Append time of a record in epoch ms."""

IN_THE_WAY = "U&'[\\001E\\001F\\FFFD]'"
"""A pattern of what cannot be glued (`waypost.wire.glue`): its separators, and U+FFFD, which a byte that is not UTF-8
decodes to. (A text that really contains it is set aside as well, and harmless.)"""

ENTRY = (
    "CONCAT(COALESCE(DECODE(k, 'UTF-8'), ''), U&'\\001F', CAST(p AS STRING), U&'\\001F', CAST(o AS STRING), "
    "U&'\\001F', CAST(`at` AS STRING), U&'\\001F', DECODE(v, 'UTF-8'))"
)
"""A record (k, v, p, o, at) as an entry of a glued column."""


def glued(entry: str) -> str:
    """Return the aggregate that makes a column of entries; NULL without any."""
    return f"LISTAGG({entry}, U&'\\001E')"


def interval(ms: int) -> str:
    """Return a literal of so many milliseconds, less than 100 s. (Flink cannot calculate with SECOND(5, 3).)"""
    seconds, rest = divmod(ms, 1000)
    return f"INTERVAL '{seconds}.{rest:03d}' SECOND(2, 3)"


def shard_of(column: str, shards: int) -> str:
    """Return `waypost.model.shards.shard_of` in SQL."""
    return f"MOD(MOD(HASH_CODE({column}), {shards}) + {shards}, {shards})"


def named(column: str, pattern: str) -> str:
    """Return a condition: the column is a name that matches the whole pattern."""
    # Length first: Java's matcher recurses, and a name of 100,000 dots would overflow its stack with every restart.
    return f"CASE WHEN CHAR_LENGTH({column}) > {MAX_NAME} THEN FALSE ELSE REGEXP({column}, '\\A(?:{pattern})\\z') END"
