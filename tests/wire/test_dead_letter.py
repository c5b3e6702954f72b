"""Dead letters: whatever was refused can be written, and read back."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ALMOST_OURS, ANY_JSON, as_bytes
from waypost.errors import DecodeError
from waypost.wire.dead_letter import MAX_VALUE, DeadLetter, decode_dead_letter, encode_dead_letter


@settings(deadline=None, max_examples=60)
@given(st.none() | st.binary(max_size=200), st.text(max_size=30))
def test_any_value_survives(value: bytes | None, detail: str) -> None:
    written = encode_dead_letter("service-registry", 3, 1204, "bad-json", value, detail)

    assert decode_dead_letter(written) == DeadLetter(
        topic="service-registry",
        partition=3,
        offset=1204,
        reason="bad-json",
        detail=detail,
        value=value,
        truncated=False,
    )


def test_a_huge_value_is_cut_and_says_so() -> None:
    written = encode_dead_letter("t", 0, 0, "oversize", b"x" * (MAX_VALUE + 1))

    letter = decode_dead_letter(written)

    assert letter.truncated
    assert letter.value == b"x" * MAX_VALUE
    assert len(written) < 1_000_000


def test_a_detail_that_is_no_unicode_does_not_stop_the_letter() -> None:
    assert decode_dead_letter(encode_dead_letter("t", 0, 0, "r", b"", "\ud800" + "x" * 5_000)).detail.startswith("?x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"topic": "a b"}, "bad-topic"),
        ({"reason": "Bad Reason"}, "bad-reason"),
        ({"partition": -1}, "number-out-of-range"),
        ({"offset": None}, "offset-missing"),
        ({"detail": 1}, "wrong-type"),
        ({"value_base64": "?"}, "bad-base64"),
        ({"value_base64": "é"}, "bad-base64"),
        ({"truncated": 0}, "wrong-type"),
    ],
)
def test_a_bad_letter_is_refused(change: dict[str, object], reason: str) -> None:
    doc = {**json.loads(encode_dead_letter("t", 0, 0, "r", b"")), **change}
    with pytest.raises(DecodeError) as caught:
        decode_dead_letter(as_bytes(doc))
    assert caught.value.reason == reason


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=100) | ANY_JSON.map(as_bytes) | ALMOST_OURS.map(as_bytes))
def test_any_bytes_are_a_letter_or_a_decode_error(value: bytes) -> None:
    with suppress(DecodeError):
        decode_dead_letter(value)
