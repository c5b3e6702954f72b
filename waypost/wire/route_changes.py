"""Records of `route-changes`, the audit log of everything that became visible in Redis.

One publication is one record, or several chunks when it is large. A record names the input records that caused
it, so `explain` can go from a table back to the log. After a crash the writer may write a publication twice:
readers drop duplicates by (service, revision). When a job attempt takes over, it leaves a restart marker; between
the last record before it and the first snapshot after it the log may lack a change that Redis had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.fencing import WriterId
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Delta, Publication, format_digest
from waypost.model.stamp import Cause
from waypost.wire.changes import delta_fields, read_delta, route_delta
from waypost.wire.fields import as_bool, as_int, as_list, as_object, as_text, bounded, read_object, required, safe_int
from waypost.wire.names import read_service
from waypost.wire.words import read_word

CHUNK_BYTES = 256 * 1024
MAX_BYTES = 1024 * 1024
"""What a reader accepts: Kafka's default limit, in case a later writer cuts larger pieces."""

MAX_CHUNKS = 100_000
RESTART = "restart"

_DIGEST = re.compile(r"[0-9a-f]{16}\Z")

_ENTRY_OVERHEAD = 8
"""Signs around one entry of a delta: quotes, colon, comma, with a little to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRecord:
    """One publication as the audit log tells it. `digest` is that of the table afterwards, in hexadecimal."""

    service: ServiceKey
    op: ChangeOp
    revision: int
    base: int
    epoch: int
    event_time: int
    rule: str
    digest: str
    protected: bool
    causes: tuple[Cause, ...]
    delta: Delta


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part `index` of `total` (from 1) of a record."""

    record: RouteRecord
    index: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartMarker:
    """A job attempt took over the tables under a new epoch; `at` is its own clock, epoch ms."""

    epoch: int
    job_id: str
    attempt: int
    at: int


def encode_route_changes(publication: Publication, epoch: int) -> list[bytes]:
    """Write one publication as records of at most `CHUNK_BYTES`.

    The result is empty for a publication that changes nothing and only carries answers.
    """
    if publication.op is ChangeOp.DELTA and publication.revision == publication.base:
        return []
    head = {
        "service": publication.service.service,
        "namespace": publication.service.namespace,
        "op": publication.op.value,
        "revision": publication.revision,
        "base": publication.base,
        "epoch": epoch,
        "event_time": publication.event_time,
        "rule": publication.rule,
        "digest": format_digest(publication.digest),
        "protected": publication.protected,
        "cause": [{"topic": c.topic, "partition": c.partition, "offset": c.offset} for c in publication.causes],
    }
    room = CHUNK_BYTES - len(orjson.dumps(head)) - 200
    deltas = list(_split(route_delta(publication), room))
    return [
        orjson.dumps({**head, "delta": delta_fields(delta), "chunk": {"i": index, "n": len(deltas)}})
        for index, delta in enumerate(deltas, start=1)
    ]


def _split(delta: Delta, room: int) -> Iterator[Delta]:
    """Cut a delta into pieces of at most `room` bytes, at least one, filled in order."""
    entries: dict[str, str] = {}
    gone: list[str] = []
    used = 0
    for instance, text in [*delta.set.items(), *((i, None) for i in delta.delete)]:
        size = len(instance) + _ENTRY_OVERHEAD + (len(text.encode()) if text is not None else 0)
        if used + size > room and (entries or gone):
            yield Delta(entries, tuple(gone))
            entries, gone, used = {}, [], 0
        if text is None:
            gone.append(instance)
        else:
            entries[instance] = text
        used += size
    yield Delta(entries, tuple(gone))


def encode_restart(writer: WriterId, epoch: int, at: int) -> bytes:
    """Write the marker of an attempt that took over the tables."""
    return orjson.dumps({"op": RESTART, "epoch": epoch, "job_id": writer.job_id, "attempt": writer.attempt, "at": at})


def decode_route_change(value: bytes | None) -> Chunk | RestartMarker:
    """Read one record of the topic. Raises DecodeError. Chunks are put together by `ChunkJoiner`."""
    if value is None:
        raise DecodeError("tombstone", "a null value is no change")
    doc = read_object(value, MAX_BYTES)
    if doc.get("op") == RESTART:
        return RestartMarker(
            epoch=safe_int("epoch", required(doc, "epoch")),
            job_id=as_text("job_id", required(doc, "job_id"), 253),
            attempt=safe_int("attempt", required(doc, "attempt")),
            at=safe_int("at", required(doc, "at")),
        )
    required(doc, "namespace")
    chunk = as_object("chunk", required(doc, "chunk"))
    total = bounded("chunk.n", as_int("chunk.n", required(chunk, "n")), 1, MAX_CHUNKS, "bad-chunk")
    index = bounded("chunk.i", as_int("chunk.i", required(chunk, "i")), 1, total, "bad-chunk")
    return Chunk(_record(doc), index, total)


def _record(doc: dict[str, Any]) -> RouteRecord:
    return RouteRecord(
        service=read_service(doc),
        op=read_word(ChangeOp, doc, "op"),
        revision=safe_int("revision", required(doc, "revision")),
        base=safe_int("base", required(doc, "base")),
        epoch=safe_int("epoch", required(doc, "epoch")),
        event_time=safe_int("event_time", required(doc, "event_time")),
        rule=as_text("rule", required(doc, "rule"), 253),
        digest=_digest(as_text("digest", required(doc, "digest"), 16)),
        protected=as_bool("protected", required(doc, "protected")),
        causes=tuple(_cause(item) for item in as_list("cause", required(doc, "cause"))),
        delta=read_delta(as_object("delta", required(doc, "delta"))),
    )


def _digest(text: str) -> str:
    if not _DIGEST.match(text):
        raise DecodeError("bad-digest", "a digest is 16 hexadecimal signs")
    return text


def _cause(item: Any) -> Cause:
    doc = as_object("a cause", item)
    return Cause(
        as_text("topic", required(doc, "topic"), 249),
        safe_int("partition", required(doc, "partition")),
        safe_int("offset", required(doc, "offset")),
    )


@dataclass(slots=True)
class ChunkJoiner:
    """Puts chunked records together while the topic is read in order.

    It keeps the unfinished record of each service only: chunks of one record follow each other in their
    partition, so a chunk of another revision means that a writer died between two chunks. What it had written
    is dropped, and its successor writes a snapshot.
    """

    _open: dict[ServiceKey, dict[int, Chunk]] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> RouteRecord | None:
        """Return the whole record when `chunk` was the last missing one of it, else None."""
        if chunk.total == 1:
            self._open.pop(chunk.record.service, None)
            return chunk.record
        parts = self._open.setdefault(chunk.record.service, {})
        if any(_identity(other) != _identity(chunk) for other in list(parts.values())[:1]):
            parts.clear()
        parts[chunk.index] = chunk
        if len(parts) < chunk.total:
            return None
        del self._open[chunk.record.service]
        pieces = [parts[index].record.delta for index in sorted(parts)]
        joined = Delta(
            {i: text for piece in pieces for i, text in piece.set.items()},
            tuple(i for piece in pieces for i in piece.delete),
        )
        return replace(chunk.record, delta=joined)


def _identity(chunk: Chunk) -> tuple[int, int, ChangeOp, int]:
    return chunk.record.epoch, chunk.record.revision, chunk.record.op, chunk.total
