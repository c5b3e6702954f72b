"""What travels between the folds inside the job: lease transitions and shard rows ↔ bytes.

Not a contract with anybody outside: both ends are always of one build, since a job is upgraded by savepoint and
records in flight are not part of one. The gate, however, keeps rows and deferrals in its state, so the version is
checked like any state's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.events import LeaseFact, LeaseTransition
from waypost.model.gate import Deferred, ShardTick
from waypost.model.lifecycle import Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

VERSION = 1


def _pack(t: LeaseTransition) -> tuple[Any, ...]:
    return (
        t.fact,
        t.service.namespace,
        t.service.service,
        t.instance,
        t.generation,
        t.stamp,
        t.health,
        t.deadline,
        t.last_beat,
        t.lease_ms,
    )


def _unpack(fields: list[Any]) -> LeaseTransition:
    fact, namespace, service, instance, generation, stamp, health, deadline, last_beat, lease_ms = fields
    return LeaseTransition(
        fact=LeaseFact(fact),
        service=ServiceKey(namespace, service),
        instance=instance,
        generation=Stamp(*generation),
        stamp=Stamp(*stamp),
        health=Health(health) if health is not None else None,
        deadline=deadline,
        last_beat=last_beat,
        lease_ms=lease_ms,
    )


def _load(blob: bytes) -> list[Any]:
    fields: list[Any]
    version, *fields = orjson.loads(blob)
    if version != VERSION:
        raise StateVersionError(f"transition of version {version}, but this build reads version {VERSION}")
    return fields


def encode_transitions(transitions: Iterable[LeaseTransition]) -> bytes:
    """Encode the batch that one tick means for one service."""
    return orjson.dumps((VERSION, [_pack(t) for t in transitions]), default=tuple)


def decode_transitions(blob: bytes) -> list[LeaseTransition]:
    """Decode what `encode_transitions` wrote."""
    return [_unpack(fields) for fields in _load(blob)[0]]


def encode_row(row: ShardTick) -> bytes:
    """Encode one shard's row of one tick."""
    return orjson.dumps(
        (
            VERSION,
            row.end,
            row.shard,
            row.first_beat,
            row.last_beat,
            [_pack(t) for t in row.lapses],
            [_pack(t) for t in row.renewals],
        ),
        default=tuple,
    )


def decode_row(blob: bytes) -> ShardTick:
    """Decode what `encode_row` wrote."""
    end, shard, first, last, lapses, renewals = _load(blob)
    return ShardTick(end, shard, first, last, tuple(map(_unpack, lapses)), tuple(map(_unpack, renewals)))


def encode_deferred(deferred: Deferred) -> bytes:
    """Encode one lapse that did not pass yet."""
    return orjson.dumps((VERSION, _pack(deferred.lapse), deferred.deadline), default=tuple)


def decode_deferred(blob: bytes) -> Deferred:
    """Decode what `encode_deferred` wrote."""
    lapse, deadline = _load(blob)
    return Deferred(_unpack(lapse), deadline)
