"""Which shard of the lease fold owns an instance id.

The SQL on the JVM and Python must agree, so this is what Flink SQL's `HASH_CODE` returns (the magnitude of Java's
`String.hashCode`) taken modulo the number of shards, never negative. Ids are ASCII, where Java's UTF-16 units are
code points; a test compares the two on the real Flink.
"""

from __future__ import annotations


def java_hash(text: str) -> int:
    """Return Java's `text.hashCode()` as a signed 32-bit number."""
    value = 0
    for unit in text:
        value = (31 * value + ord(unit)) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value >= 0x8000_0000 else value


def shard_of(instance: str, shards: int) -> int:
    """Return the shard of `instance`, 0 … shards-1.

    Java's `Math.abs` leaves the smallest integer negative, and so does `HASH_CODE`; both sides therefore take a
    modulo that is never negative.
    """
    value = java_hash(instance)
    magnitude = value if value == -0x8000_0000 else abs(value)
    return magnitude % shards
