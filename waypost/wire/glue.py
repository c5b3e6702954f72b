"""Many records in one string.

SQL on the JVM glues records together and Python takes them apart, so that they cost Python one call for all. Nothing
is parsed in between: an entry is the record itself,

    key US partition US offset US append time US value      entries separated by RS

with the control characters RS (U+001E) and US (U+001F). JSON text never contains them raw, and SQL sets records aside
that do, so no value can forge another entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from waypost.model.stamp import Stamp

ENTRY = "\x1e"
FIELD = "\x1f"


def encode_entry(key: str, stamp: Stamp, value: str) -> str:
    """Write one entry the way the SQL does."""
    return f"{key}{FIELD}{stamp.partition}{FIELD}{stamp.offset}{FIELD}{stamp.at}{FIELD}{value}"


def read_entries(column: str) -> Iterator[tuple[str, Stamp, str]]:
    """Yield key, stamp and value of every entry of a column, in no particular order."""
    for entry in column.split(ENTRY):
        key, partition, offset, at, value = entry.split(FIELD)
        yield key, Stamp(int(at), int(partition), int(offset)), value
