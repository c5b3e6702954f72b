"""Raw records to what the folds take; whatever cannot be read goes to dead letters with its position."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from jobs.operators.meters import Meters
from jobs.operators.outputs import LEASE_EVENTS, MAX_KEY, dead_letter
from schemas.flink_types import REGISTRATIONS
from waypost.errors import DecodeError
from waypost.metrics import DEAD_LETTERS as DEAD_LETTER_COUNT
from waypost.model.events import InstanceEvent
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_heartbeat, encode_beat
from waypost.wire.glue import ENTRY, FIELD, encode_entry
from waypost.wire.registry import decode_registration

_IN_THE_WAY = re.compile(f"[{ENTRY}{FIELD}]")


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


class RegistryDecoder(ProcessFunction):
    """Takes the registration records that SQL cannot send anywhere. Nearly all are dead letters; one with a sign that
    is in the way of gluing may be sound."""

    def __init__(self, topic: str, shards: int) -> None:
        self._topic = topic
        self._shards = shards

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = Meters(runtime_context)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        key, body, partition, offset, at = _bytes(value[0]), _bytes(value[1]), value[2], value[3], value[4]
        stamp = Stamp(at, partition, offset)
        try:
            event = decode_registration(body, stamp)
        except DecodeError as error:
            self._meters.count(DEAD_LETTER_COUNT, error.reason)
            yield dead_letter(self._topic, partition, offset, error.reason, key, body, error.detail)
            return
        assert body is not None
        readable_key = _IN_THE_WAY.sub("", (key or b"")[:MAX_KEY].decode(errors="replace"))
        entry = encode_entry(readable_key, stamp, body.decode())
        if isinstance(event, InstanceEvent):
            yield LEASE_EVENTS, Row(shard_of(event.instance, self._shards), 0, entry)
        yield Row(str(event.service), REGISTRATIONS, entry.encode())


class HeartbeatExploder(ProcessFunction):
    """Takes the odd heartbeats apart: node batches become one entry per shard, bad records dead letters.

    A late one goes back into SQL as of now, or it would be dropped there; its entry keeps its stamp, by which the lease
    fold knows what it is worth.
    """

    def __init__(self, topic: str, shards: int) -> None:
        self._topic = topic
        self._shards = shards

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = Meters(runtime_context)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        key, body, partition, offset, at = _bytes(value[0]), _bytes(value[1]), value[2], value[3], value[4]
        stamp = Stamp(at, partition, offset)
        try:
            heartbeats = decode_heartbeat(key, body)
        except DecodeError as error:
            self._meters.count(DEAD_LETTER_COUNT, error.reason)
            yield dead_letter(self._topic, partition, offset, error.reason, key, body, error.detail)
            return
        if heartbeats.errors:
            self._meters.count(DEAD_LETTER_COUNT, heartbeats.errors[0].reason)
            # One letter for the record, not one per bad beat: each carries the whole batch.
            detail = "; ".join(map(str, heartbeats.errors))
            yield dead_letter(self._topic, partition, offset, heartbeats.errors[0].reason, key, body, detail)
        now = max(at, ctx.timer_service().current_watermark() + 1)
        by_shard: dict[int, list[str]] = {}
        for instance, beat in heartbeats.beats:
            entry = encode_entry(instance, stamp, encode_beat(beat).decode())
            by_shard.setdefault(shard_of(instance, self._shards), []).append(entry)
        for shard, entries in by_shard.items():
            yield Row(shard, now, ENTRY.join(entries))
