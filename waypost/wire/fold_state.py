"""Keyed state of the folds ↔ bytes: what a checkpoint holds.

Explicit and versioned, never pickled: renaming a class must not break a savepoint, and a checkpoint must not be
able to run code. Each blob starts with its version; a reader accepts its own version and the ones before, as far as
they are listed. Version 1 knew neither brake nor damping, version 2 no isolations: what they do not have begins empty.
JSON arrays keep the blobs short enough (about 60
bytes a lease) and readable in a debugger; the only part that changes every tick, the last beats, is a packed array of
64-bit numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.dynamic_weights import LoadWeight
from waypost.model.events import Attributes, Hold
from waypost.model.gate import Clock
from waypost.model.health_window import ShardTallies
from waypost.model.leases import NEVER, Lease, LeaseShard, TimedBeat, UnknownBeat
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer
from waypost.model.service_state import DeclaredSet, Header, InstanceFacts, Mark, Marks, Pending, Position, Published
from waypost.model.stamp import ORIGIN, Cause, Stamp
from waypost.wire.beats import decode_beat

VERSION = 3
_READABLE = (1, 2, 3)


def _dump(*fields: Any) -> bytes:
    return orjson.dumps((VERSION, *fields), default=tuple)  # default: orjson refuses named tuples


def _load(stored: bytes | list[Any]) -> list[Any]:
    fields = stored if isinstance(stored, list) else orjson.loads(stored)
    _require_version(fields[0])
    return list(fields[1:])


def _require_version(version: int) -> None:
    if version not in _READABLE:
        raise StateVersionError(
            f"state of version {version}, but this build reads versions {_READABLE}: "
            "restore the savepoint with the release that wrote it, take a new one, then upgrade in steps"
        )


# -- route fold -------------------------------------------------------------------------------------------


def encode_facts(facts: InstanceFacts) -> bytes:
    """Encode what is known of one instance."""
    a = facts.attributes
    return _dump(
        facts.generation,
        None if a is None else (a.address, a.port, a.weight, a.zone, a.node, dict(a.metadata), a.lease_seconds),
        facts.initial.value,
        facts.source,
        facts.removed,
        facts.changes,
        facts.declared.value,
        facts.declared_stamp,
        facts.health.value,
        facts.health_stamp,
        facts.lapsed,
        facts.lease_generation,
        facts.lease_stamp,
        facts.hold,
        facts.until,
        facts.last_beat,
        facts.damped_until,
        facts.damped_generation,
        facts.damped_stamp,
        facts.failing_since,
    )


def decode_facts(blob: bytes | list[Any]) -> InstanceFacts:
    """Decode what `encode_facts` wrote."""
    f = _load(blob)
    hold, until, last_beat, damped_until, *damped = f[13:] or (None, 0, 0, 0, ORIGIN, ORIGIN)
    a = f[1]
    return InstanceFacts(
        generation=Stamp(*f[0]),
        attributes=None
        if a is None
        else Attributes(
            address=a[0],
            port=a[1],
            weight=a[2],
            zone=a[3],
            node=a[4],
            metadata=a[5],
            lease_seconds=a[6],
        ),
        initial=Declared(f[2]),
        source=f[3],
        removed=Stamp(*f[4]),
        changes={name: (Stamp(*stamp), value) for name, (stamp, value) in f[5].items()},
        declared=Declared(f[6]),
        declared_stamp=Stamp(*f[7]),
        health=Health(f[8]),
        health_stamp=Stamp(*f[9]),
        lapsed=f[10],
        lease_generation=Stamp(*f[11]),
        lease_stamp=Stamp(*f[12]),
        hold=Hold(hold) if hold is not None else None,
        until=until,
        last_beat=last_beat,
        damped_until=damped_until,
        damped_generation=Stamp(*damped[0]),
        damped_stamp=Stamp(*damped[1]),
        failing_since=Stamp(*damped[2]) if len(damped) > 2 else ORIGIN,
    )


def names_node(fields: list[Any], node: str) -> bool:
    """Tell whether facts, as `encode_facts` wrote them and JSON reads them, name a node: a look at two fields, where
    decoding all would take a hundred times as long."""
    _, _, attributes, _, _, _, changes, *_ = fields
    return (attributes is not None and attributes[4] == node) or ("node" in changes and changes["node"][1] == node)


def encode_set(declared: DeclaredSet) -> bytes:
    """Encode the newest set of one source."""
    return _dump(declared.stamp, declared.last_updated, declared.healthy, declared.endpoints)


def decode_set(blob: bytes) -> DeclaredSet:
    """Decode what `encode_set` wrote."""
    stamp, last_updated, healthy, endpoints = _load(blob)
    return DeclaredSet(
        Stamp(*stamp), last_updated, healthy, {i: (address, port) for i, (address, port) in endpoints.items()}
    )


def encode_published(published: Published) -> bytes:
    """Encode what the store holds of one instance (the digest as text: JSON has no unsigned 64-bit numbers)."""
    return _dump(f"{published.route_digest:x}", published.since, published.mark)


def decode_published(blob: bytes | list[Any]) -> Published:
    """Decode what `encode_published` wrote."""
    route_digest, since, *mark = _load(blob)
    return Published(int(route_digest, 16), since, Mark(mark[0]) if mark else Mark.NONE)


def encode_weight(weight: LoadWeight) -> bytes:
    """Encode how the weight of one instance that follows its load stands."""
    w = weight
    return _dump(w.generation, w.share, w.published, w.ratio, w.moving, w.silent, w.window)


def decode_weight(blob: bytes | list[Any]) -> LoadWeight:
    """Decode what `encode_weight` wrote."""
    generation, *rest = _load(blob)
    return LoadWeight(Stamp(*generation), *rest)


def encode_header(header: Header) -> bytes:
    """Encode what is known of the service as a whole."""
    h = header
    return _dump(
        h.revision, h.event_time, h.position, f"{h.digest:x}", h.endpoints, h.sets, h.marks, h.departure, h.released
    )


def decode_header(blob: bytes) -> Header:
    """Decode what `encode_header` wrote."""
    revision, event_time, position, digest, endpoints, sets, *more = _load(blob)
    registry, leases, *isolations = position
    marks, departure, released = more or ((), ORIGIN, ORIGIN)
    return Header(
        revision,
        event_time,
        Position(Stamp(*registry), leases, Stamp(*isolations[0]) if isolations else ORIGIN),
        int(digest, 16),
        endpoints,
        sets,
        Marks(*marks),
        Stamp(*departure),
        Stamp(*released),
    )


def encode_pending(pending: Pending) -> bytes:
    """Encode what was folded and not yet published."""
    return _dump(
        list(pending.dirty),
        pending.causes,
        [(a.request_id, a.applied, a.reason) for a in pending.answers],
        pending.rule,
        pending.snapshot,
    )


def decode_pending(blob: bytes) -> Pending:
    """Decode what `encode_pending` wrote."""
    dirty, causes, answers, rule, snapshot = _load(blob)
    return Pending(dict.fromkeys(dirty), [Cause(*c) for c in causes], [Answer(*a) for a in answers], rule, snapshot)


# -- lease fold -------------------------------------------------------------------------------------------


def encode_directory(shard: LeaseShard, shards: int) -> bytes:
    """Encode which registrations the shard leases. Changes with registrations, lapses and reported health."""
    return _dump(
        shards,
        orjson.Fragment(b"[%b]" % b",".join([x.packed or _pack(i, x) for i, xs in shard.leases.items() for x in xs])),
        [(i, s.namespace, s.service, stamp) for i, by in shard.removed.items() for s, stamp in by.items()],
        [(i, s.namespace, s.service, stamp, ms) for i, by in shard.updates.items() for s, (stamp, ms) in by.items()],
    )


def _pack(instance: str, lease: Lease) -> bytes:
    fields = (
        instance,
        *lease.service,
        lease.generation,
        lease.lease_ms,
        lease.lapsed,
        lease.health,
        lease.health_stamp,
    )
    lease.packed = orjson.dumps(fields, default=tuple)
    return lease.packed


def encode_last_beats(shard: LeaseShard) -> bytes:
    """Encode when each lease of the directory, in its order, was last renewed. Changes every tick."""
    return shard.last_beats().tobytes()


def encode_tallies(shard: LeaseShard) -> bytes:
    """Encode what beats said since their windows began, in the order of the directory as last arranged. Changes
    every tick: a version and the numbers as they are."""
    return bytes((VERSION,)) + shard.tallies.cells.tobytes()


def _tallies(blob: bytes | None) -> ShardTallies:
    cells = array("q")
    if blob:
        _require_version(blob[0])
        cells.frombytes(blob[1:])
    return ShardTallies(cells)


def encode_unknown(shard: LeaseShard) -> bytes:
    """Encode the beats that wait for a registration."""
    return _dump([(w.first, i, w.newest.stamp, w.newest.raw, w.reported) for i, w in shard.unknown.items()])


def decode_shard(
    directory: bytes | None, last_beats: bytes | None, unknown: bytes | None, shards: int, tallies: bytes | None = None
) -> LeaseShard:
    """Decode a shard from its parts; a part that was never written is empty. (Releases before the window path wrote
    no `tallies`: their windows begin with the restore.)

    Raises StateVersionError when the state was written with another number of shards: its instances would be
    looked for in the wrong place.
    """
    shard = LeaseShard(tallies=_tallies(tallies))
    if directory is not None:
        version, written, leases, removed, updates = orjson.loads(directory)
        _require_version(version)
        if written != shards:
            raise StateVersionError(
                f"the state has {written} lease shards, the settings say {shards}: "
                f"set lease.shards={written}, or start the job without state (it replays the log)"
            )
        beats = array("q")
        beats.frombytes(last_beats or b"")
        for n, (instance, namespace, service, generation, lease_ms, lapsed, *health) in enumerate(leases):
            lease = Lease(
                ServiceKey(namespace, service),
                Stamp(*generation),
                lease_ms,
                beats[n] if n < len(beats) else 0,
                lapsed,
                Health(health[0]) if health[0] is not None else None,
                Stamp(*health[1]),
                slot=shard.tallies.slot(n),
            )
            shard.leases.setdefault(instance, []).append(lease)
            if not lapsed:
                shard.next_deadline = min(shard.next_deadline, lease.deadline)
                if version == 1:  # The gate was never told how many there are.
                    shard.counts[lease.service] = shard.counts.get(lease.service, 0) + 1
        for instance, namespace, service, stamp in removed:
            shard.removed.setdefault(instance, {})[ServiceKey(namespace, service)] = Stamp(*stamp)
        for instance, namespace, service, stamp, lease_ms in updates:
            shard.updates.setdefault(instance, {})[ServiceKey(namespace, service)] = (Stamp(*stamp), lease_ms)
    if unknown is not None:
        for first, instance, stamp, raw, reported in _load(unknown)[0]:
            newest = TimedBeat(instance, Stamp(*stamp), decode_beat(raw), raw)
            shard.unknown[instance] = UnknownBeat(first, newest, reported)
        shard.next_report = 0 if shard.unknown else NEVER
    return shard


# -- gate -------------------------------------------------------------------------------------------------


def encode_clock(clock: Clock) -> bytes:
    """Encode the gate's knowledge of log time."""
    return _dump(clock.last_tick, clock.unbroken_since, clock.last_beat)


def decode_clock(blob: bytes) -> Clock:
    """Decode what `encode_clock` wrote."""
    return Clock(*_load(blob))


def encode_live(live: Mapping[ServiceKey, int]) -> bytes:
    """Encode how many live leases each service has."""
    return _dump([(*service, n) for service, n in live.items()])


def decode_live(blob: bytes) -> dict[ServiceKey, int]:
    """Decode what `encode_live` wrote."""
    return {ServiceKey(namespace, service): n for namespace, service, n in _load(blob)[0]}
