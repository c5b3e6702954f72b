"""Rows that leave an operator sideways."""

from __future__ import annotations

from pyflink.common import Row
from pyflink.datastream import OutputTag

from schemas.flink_types import NODE_WORD, OUTPUT_RECORD, PARTIAL, SHARD_INPUT
from waypost.wire.dead_letter import encode_dead_letter

MAX_KEY = 4096
"""Bytes kept of a refused record's key; with `MAX_VALUE` of the letter well below Kafka's 1 MiB."""

DEAD_LETTERS = OutputTag("dead-letters", OUTPUT_RECORD)
LEASE_EVENTS = OutputTag("lease-events", SHARD_INPUT)
NODE_WORDS = OutputTag("node-words", NODE_WORD)
PARTIALS = OutputTag("partials", PARTIAL)


def dead_letter(
    topic: str,
    partition: int,
    offset: int,
    reason: str,
    key: bytes | None,
    value: bytes | None,
    detail: str = "",
) -> tuple[OutputTag, Row]:
    """Return what to yield so that a refused record reaches the dead-letter topic under its own key.

    The key is cut: a record may be all key, and a letter too large for the producer would fail the job.
    """
    return DEAD_LETTERS, Row(
        (key or b"")[:MAX_KEY], encode_dead_letter(topic, partition, offset, reason, value, detail)
    )
