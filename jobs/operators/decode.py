"""Raw records to what the folds take; whatever cannot be read goes to dead letters with its position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from jobs.operators.meters import Meters
from jobs.operators.outputs import LEASE_EVENTS, RELEASES, dead_letter
from schemas.flink_types import REGISTRATION
from waypost.errors import DecodeError
from waypost.metrics import DEAD_LETTERS as DEAD_LETTER_COUNT
from waypost.metrics import REGISTRATIONS
from waypost.model.events import InstanceEvent, Op
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_heartbeat, encode_beat
from waypost.wire.registry import decode_registration
from waypost.wire.tick import ENTRY, encode_entry
from waypost.wire.transitions import encode_unprotect

_LEASE_OPS = (Op.REGISTER, Op.UPDATE, Op.STATUS, Op.DEREGISTER)

_MAX_TIME_MS = 4_102_444_800_000
"""The year 2100. Revisions are append time x 1000 and have to stay below 2^53; a topic that once had its producers'
clock keeps whatever they wrote."""


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


class RegistryDecoder(ProcessFunction):
    """Checks each registration record once and sends it to the folds that need it.

    The record travels on as it is: both folds decode it again, which costs less than a second format would.
    """

    def __init__(self, topic: str, shards: int) -> None:
        self._topic = topic
        self._shards = shards

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = Meters(runtime_context, REGISTRATIONS)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        key, body, partition, offset, at = _bytes(value[0]), _bytes(value[1]), value[2], value[3], value[4]
        try:
            if not 0 <= at < _MAX_TIME_MS:
                raise DecodeError("append-time-out-of-range", f"{at} ms; is the topic's clock the broker's?")
            event = decode_registration(body, Stamp(at, partition, offset))
        except DecodeError as error:
            self._meters.count(DEAD_LETTER_COUNT, error.reason)
            yield dead_letter(self._topic, partition, offset, error.reason, key, body, error.detail)
            return
        self._meters.count(REGISTRATIONS, event.op.value if isinstance(event, InstanceEvent) else "set")
        if isinstance(event, InstanceEvent) and event.op in _LEASE_OPS:
            yield LEASE_EVENTS, Row(shard_of(event.instance, self._shards), partition, offset, at, body)
        if isinstance(event, InstanceEvent) and event.op is Op.UNPROTECT:
            yield RELEASES, encode_unprotect(event.service)
        yield Row(str(event.service), REGISTRATION, partition, offset, at, body)


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
