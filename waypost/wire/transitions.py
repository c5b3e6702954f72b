"""What travels between the folds inside the job: lease transitions and shard rows ↔ bytes.

Not a contract with anybody outside: as a rule both ends are of one build, since a job is upgraded by savepoint and
records in flight are not part of one. They are part of a checkpoint, though, and the gate keeps rows and what waits in
its state, so the version is checked like any state's, and the one before is read: version 1 had no brake.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.damping import Flap
from waypost.model.events import Hold, LeaseFact, LeaseTransition, Target
from waypost.model.gate import Phase, ShardTick, Waiting
from waypost.model.lifecycle import Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

VERSION = 2
_READABLE = (1, 2)


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
        t.until,
        t.hold,
    )


def _unpack(fields: list[Any]) -> LeaseTransition:
    fact, namespace, service, instance, generation, stamp, health, deadline, last_beat, lease_ms, *more = fields
    until, hold = more or (0, None)
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
        until=until,
        hold=Hold(hold) if hold is not None else None,
    )


def _load(blob: bytes) -> list[Any]:
    fields: list[Any]
    version, *fields = orjson.loads(blob)
    if version not in _READABLE:
        raise StateVersionError(f"transition of version {version}, but this build reads versions {_READABLE}")
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
            [(*service, n) for service, n in row.counts.items()],
            [(*service, instance) for service, instance in row.settled],
            [_pack(t) for t in row.failed],
            [(*service, at) for service, at in row.released.items()],
        ),
        default=tuple,
    )


def decode_row(blob: bytes) -> ShardTick:
    """Decode what `encode_row` wrote."""
    end, shard, first, last, lapses, renewals, *more = _load(blob)
    counts, settled, failed, released = more or ((), (), (), ())
    return ShardTick(
        end,
        shard,
        first,
        last,
        tuple(map(_unpack, lapses)),
        tuple(map(_unpack, renewals)),
        {ServiceKey(namespace, service): n for namespace, service, n in counts},
        tuple(Target(ServiceKey(namespace, service), instance) for namespace, service, instance in settled),
        tuple(map(_unpack, failed)),
        {ServiceKey(namespace, service): at for namespace, service, at in released},
    )


def encode_waiting(waiting: Waiting) -> bytes:
    """Encode one lapsed lease that the gate has not finished with."""
    w = waiting
    return orjson.dumps((VERSION, _pack(w.lapse), w.phase, w.since, w.until), default=tuple)


def decode_waiting(blob: bytes) -> Waiting:
    """Decode what `encode_waiting` wrote. Version 1 knew deferred lapses only."""
    lapse, *rest = _load(blob)
    if len(rest) == 1:
        return Waiting(_unpack(lapse), Phase.DEFERRED, 0, rest[0])
    phase, since, until = rest
    return Waiting(_unpack(lapse), Phase(phase), since, until)


def encode_flap(flap: Flap) -> bytes:
    """Encode how much an instance comes and goes."""
    return orjson.dumps((VERSION, flap.penalty, flap.at, flap.generation, flap.until), default=tuple)


def decode_flap(blob: bytes) -> Flap:
    """Decode what `encode_flap` wrote."""
    penalty, at, generation, until = _load(blob)
    return Flap(penalty, at, Stamp(*generation), until)
