"""Heartbeats: nothing is required of a beat, and a bad one harms no other."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ALMOST_OURS, ANY_JSON, as_bytes
from waypost.errors import DecodeError
from waypost.model.beats import PLAIN, Beat
from waypost.model.lifecycle import BEAT_WORDS, Health
from waypost.wire.beats import (
    MAX_BATCH,
    MAX_BYTES,
    Heartbeats,
    decode_beat,
    decode_heartbeat,
    encode_batches,
    encode_beat,
)


def refused(value: Any, key: bytes | None = b"pod-7") -> str:
    with pytest.raises(DecodeError) as caught:
        decode_heartbeat(key, value if isinstance(value, bytes) else as_bytes(value))
    return caught.value.reason


def test_a_bare_beat_under_a_pod_id_works_as_written_in_the_contract() -> None:
    assert decode_heartbeat(b"pod-7", b'{"cpu":0.4}') == Heartbeats(beats=(("pod-7", Beat(cpu=0.4)),))


def test_an_empty_object_is_a_beat() -> None:
    assert decode_beat("{}") == decode_beat(b"{}") == PLAIN


def test_a_beat_may_say_everything() -> None:
    value = (
        '{"service":"payments","namespace":"default","endpoint":"10.1.2.3:8080",'
        '"status":"UP","ts":1.5,"cpu":1,"mem":0.3}'
    )

    assert decode_beat(value) == Beat(
        service="payments", namespace="default", health=Health.PASS, cpu=1.0, mem=0.3, ts=1
    )


@pytest.mark.parametrize("ts", ["1e300", "-1e300", "9007199254740993"])
def test_a_time_of_nobodys_clock_is_no_time(ts: str) -> None:
    assert decode_beat(f'{{"ts":{ts}}}') == PLAIN


@pytest.mark.parametrize("word", BEAT_WORDS)
def test_status_words_are_read_in_any_case(word: str) -> None:
    for spelled in (word, word.upper(), word.title()):
        assert decode_beat(as_bytes({"status": spelled})).health is BEAT_WORDS[word]


def test_null_counts_as_absent() -> None:
    assert decode_beat('{"cpu":null,"mem":null,"status":null,"service":null,"ts":null}') == PLAIN


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "bad-json"),
        (b"\xff", "bad-utf8"),
        (b"[]", "not-an-object"),
        (b"[" * 50_000, "bad-json"),
        (b'{"x":"' + b"x" * 65_536 + b'"}', "oversize"),
        (b'{"cpu":1e400}', "bad-json"),
        ({"cpu": "0.4"}, "wrong-type"),
        ({"cpu": True}, "wrong-type"),
        ({"cpu": -0.1}, "load-out-of-range"),
        ({"mem": -1}, "load-out-of-range"),
        ({"mem": []}, "wrong-type"),
        ({"status": "meh"}, "unknown-status"),
        ({"status": "un\u212anown"}, "unknown-status"),
        ({"status": 1}, "wrong-type"),
        ({"service": "A"}, "bad-service"),
        ({"namespace": "a/b"}, "bad-namespace"),
        ({"endpoint": 80}, "wrong-type"),
        ({"endpoint": "a\x00"}, "control-character"),
        ({"ts": "now"}, "wrong-type"),
        ({"ts": True}, "wrong-type"),
    ],
)
def test_a_bad_beat_is_refused(value: Any, reason: str) -> None:
    assert refused(value) == reason


def test_a_batch_with_an_escaped_name_is_no_beat_of_its_node() -> None:
    for value in ('{"b\\u0065ats":[]}', '{"beats":null}'):
        with pytest.raises(DecodeError, match="escaped-batch"):
            decode_beat(value)


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "key-missing"), (b"", "key-missing"), (b"\xff", "bad-instance-id"),
     (b"a|b", "bad-instance-id"), (b"a" * 254, "bad-instance-id")],
)  # fmt: skip
def test_a_plain_beat_needs_a_key(key: bytes | None, reason: str) -> None:
    assert refused({}, key) == reason


def test_a_null_value_is_a_tombstone() -> None:
    with pytest.raises(DecodeError, match="tombstone"):
        decode_heartbeat(b"pod-7", None)


def test_one_bad_beat_does_not_take_the_batch_with_it() -> None:
    batch = {
        "node": "n1",
        "beats": [
            {"instance": "a", "cpu": 0.1},
            {"instance": "b", "cpu": "high"},
            {"cpu": 0.1},
            {"instance": "a,b"},
            7,
            {"instance": "c", "beats": []},
            {"instance": "d", "status": "fail"},
        ],
    }

    found = decode_heartbeat(None, as_bytes(batch))

    assert found.beats == (("a", Beat(cpu=0.1)), ("d", Beat(health=Health.FAIL)))
    assert [error.reason for error in found.errors] == [
        "wrong-type", "instance-missing", "bad-instance-id", "wrong-type", "escaped-batch"
    ]  # fmt: skip
    assert found.errors[0].detail.startswith("beat 1:")


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"beats": None}, "wrong-type"),
        ({"beats": {}}, "wrong-type"),
        ({"beats": [{}] * 1_001}, "too-many-beats"),
        ({"beats": [], "node": 1}, "wrong-type"),
        ({"beats": [], "node": "n\n"}, "bad-node"),
    ],
)
def test_a_bad_batch_is_refused_whole(batch: Any, reason: str) -> None:
    assert refused(batch) == reason


@settings(deadline=None, max_examples=150)
@given(st.none() | st.binary(max_size=20), st.binary(max_size=100) | ANY_JSON.map(as_bytes) | ALMOST_OURS.map(as_bytes))
def test_any_bytes_are_beats_or_a_decode_error(key: bytes | None, value: bytes) -> None:
    with suppress(DecodeError):
        decode_beat(value)
    with suppress(DecodeError):
        decode_heartbeat(key, value)


BEATS = st.builds(
    Beat,
    service=st.sampled_from(["", "payments", "a.b"]),
    namespace=st.sampled_from(["", "default"]),
    health=st.none() | st.sampled_from(Health),
    cpu=st.none() | st.floats(0, allow_infinity=False),
    mem=st.none() | st.floats(0, allow_infinity=False),
)
IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,253}", fullmatch=True)


@settings(deadline=None, max_examples=100)
@given(BEATS)
def test_every_beat_survives_the_wire(beat: Beat) -> None:
    assert decode_beat(encode_beat(beat)) == beat


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(IDS, BEATS), max_size=20), st.integers(1, 120))
def test_the_beats_of_a_node_survive_the_wire_whole_and_in_order(some: list[tuple[str, Beat]], times: int) -> None:
    beats = some * times

    records = list(encode_batches("n1", beats))

    found = [decode_heartbeat(b"n1", record) for record in records]
    assert [beat for one in found for beat in one.beats] == beats
    assert not any(one.errors for one in found)
    assert all(
        len(record) <= MAX_BYTES and len(one.beats) <= MAX_BATCH for record, one in zip(records, found, strict=True)
    )


def test_no_record_is_written_that_could_have_been_part_of_the_one_before() -> None:
    beats = [(f"pod-{n}", PLAIN) for n in range(2 * MAX_BATCH + 1)]
    assert [len(decode_heartbeat(b"n1", r).beats) for r in encode_batches("n1", beats)] == [MAX_BATCH, MAX_BATCH, 1]

    long = [("x" * 253, PLAIN)] * 500
    sizes = [len(record) for record in encode_batches("n1", long)]
    assert all(size > MAX_BYTES - 300 for size in sizes[:-1])
    assert list(encode_batches("n1", [])) == []
