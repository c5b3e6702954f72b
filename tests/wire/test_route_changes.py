"""The audit log: whatever was published can be read back whole, also in pieces, also after a crash."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ALMOST_OURS, ANY_JSON, as_bytes
from tests.wire.publications import T0, a_publication, an_endpoint
from waypost.errors import DecodeError
from waypost.model.fencing import WriterId
from waypost.model.route_table import ChangeOp
from waypost.model.stamp import Cause
from waypost.wire.changes import route_delta
from waypost.wire.route_changes import (
    CHUNK_BYTES,
    Chunk,
    ChunkJoiner,
    RestartMarker,
    RouteRecord,
    decode_route_change,
    encode_restart,
    encode_route_changes,
)

BIG = {f"payments-{n}": an_endpoint(metadata={"k": "é" * 1_000}) for n in range(600)}


def chunks_of(values: list[bytes]) -> list[Chunk]:
    found = [decode_route_change(value) for value in values]
    assert all(isinstance(chunk, Chunk) for chunk in found)
    return [chunk for chunk in found if isinstance(chunk, Chunk)]


def joined(chunks: list[Chunk]) -> list[RouteRecord]:
    joiner = ChunkJoiner()
    return [record for record in map(joiner.add, chunks) if record is not None]


def test_a_publication_survives() -> None:
    publication = a_publication(protected=True)

    (record,) = joined(chunks_of(encode_route_changes(publication, epoch=7)))

    assert record == RouteRecord(
        service=publication.service,
        op=ChangeOp.DELTA,
        revision=publication.revision,
        base=publication.base,
        epoch=7,
        event_time=T0,
        rule="register",
        digest="00000000000000ab",
        protected=True,
        causes=(Cause("service-registry", 3, 1204),),
        delta=route_delta(publication),
    )


def test_what_changes_nothing_leaves_no_record() -> None:
    assert encode_route_changes(a_publication(base=5, revision=5, routes={}), epoch=7) == []


def test_a_large_publication_is_cut_and_joined() -> None:
    publication = a_publication(op=ChangeOp.SNAPSHOT, routes=BIG)

    values = encode_route_changes(publication, epoch=7)

    assert len(values) > 3
    assert max(map(len, values)) <= CHUNK_BYTES
    (record,) = joined(chunks_of(values))
    assert record.delta == route_delta(publication)


def test_many_deletions_are_cut_too() -> None:
    publication = a_publication(routes={"x" * 240 + str(n): None for n in range(3_000)})

    values = encode_route_changes(publication, epoch=7)

    assert max(map(len, values)) <= CHUNK_BYTES
    (record,) = joined(chunks_of(values))
    assert record.delta == route_delta(publication)


def test_a_writer_that_died_between_chunks_leaves_no_half_record() -> None:
    lost = chunks_of(encode_route_changes(a_publication(routes=BIG), epoch=7))[:-1]
    fresh = chunks_of(encode_route_changes(a_publication(op=ChangeOp.SNAPSHOT, routes=BIG), epoch=8))

    (record,) = joined([*lost, *fresh])

    assert record.epoch == 8
    assert record.delta.set == BIG


def test_chunks_written_twice_make_one_record() -> None:
    chunks = chunks_of(encode_route_changes(a_publication(routes=BIG), epoch=7))

    (record,) = joined([*chunks[:2], *chunks])

    assert record.delta.set == BIG


def test_a_restart_leaves_a_marker() -> None:
    value = encode_restart(WriterId("a7c3", 2), epoch=8, at=T0)

    assert decode_route_change(value) == RestartMarker(epoch=8, job_id="a7c3", attempt=2, at=T0)


@pytest.mark.parametrize(("i", "n"), [(0, 1), (2, 1), (1, 0), (1, 100_001), (True, 1)])
def test_impossible_chunk_numbers_are_refused(i: int, n: int) -> None:
    (value,) = encode_route_changes(a_publication(), epoch=7)
    doc = value.replace(b'"chunk":{"i":1,"n":1}', b'"chunk":' + as_bytes({"i": i, "n": n}))
    with pytest.raises(DecodeError):
        decode_route_change(doc)


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=100) | ANY_JSON.map(as_bytes) | ALMOST_OURS.map(as_bytes))
def test_any_bytes_are_a_record_or_a_decode_error(value: bytes) -> None:
    with suppress(DecodeError):
        decode_route_change(value)
