"""Configurations survive the way through bytes, and nothing hostile passes for one."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import DecodeError
from waypost.model.change_sets import Change, ChangeSet
from waypost.model.configs import MAX_VALUE_BYTES, Content, checksum
from waypost.wire.config import (
    MAX_BYTES,
    PART_HEADER,
    ConfigRecord,
    Part,
    decode_config,
    decode_part,
    encode_change_set,
    encode_config,
    revision_of,
)

T0 = 1_795_298_407_272
NAME = "shop/app/limits.yaml"

_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
_RECORDS = st.builds(
    ConfigRecord,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,30}", fullmatch=True),
    revision=st.integers(0, 2**53 - 1),
    value=_TEXT,
    change_set=st.sampled_from(["", "shop/r1@5", "operator:anna"]),
    binary=st.booleans(),
    source=st.sampled_from(["", "configmaps"]),
    previous=st.none() | st.integers(0, 2**53 - 1),
)


def a_record(**fields: object) -> bytes:
    doc = {"revision": 1, "change_set": None, "value": "a", "checksum": checksum("a")}
    return orjson.dumps(doc | fields)


@given(record=_RECORDS)
def test_a_record_is_what_was_written(record: ConfigRecord) -> None:
    assert decode_config(*encode_config(record)) == record


def test_a_record_without_the_new_fields_is_written_as_ever() -> None:
    _, value = encode_config(ConfigRecord(name="repair/policies", revision=1, value="a"))

    assert set(orjson.loads(value)) == {"revision", "change_set", "value", "checksum"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (a_record(checksum=checksum("b")), "bad-checksum"),
        (a_record(value=None), "value-missing"),
        (a_record(value=7), "wrong-type"),
        (a_record(revision=-1), "number-out-of-range"),
        (a_record(encoding="gzip"), "unknown-encoding"),
        (a_record(encoding=["base64"]), "unknown-encoding"),
        (a_record(source="x" * 129), "text-too-long"),
        (a_record(source="a\nb"), "control-character"),
        (a_record(previous="1"), "wrong-type"),
        (b"x" * (MAX_BYTES + 1), "oversize"),
        (b"[]", "not-an-object"),
    ],
)
def test_what_is_no_configuration_is_refused(value: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode_config(NAME.encode(), value)

    assert refusal.value.reason == reason


def test_the_parts_of_a_change_set_say_which_they_are_also_tombstones() -> None:
    change_set = ChangeSet(
        id=f"shop/r1@{T0}",
        changes=(
            Change(name="shop/a/x", revision=T0, content=Content("1"), previous=7),
            Change(name="shop/b/x", revision=T0, content=None, previous=8),
        ),
    )

    first, second = encode_change_set(change_set, "configmaps")

    assert decode_part(first[2]) == Part(change_set.id, 1, 2)
    assert decode_part(second[2]) == Part(change_set.id, 2, 2)
    assert second[:2] == (b"shop/b/x", None)
    assert decode_config(first[0], first[1]) == ConfigRecord(
        name="shop/a/x", revision=T0, value="1", change_set=change_set.id, source="configmaps", previous=7
    )


@pytest.mark.parametrize(
    "header", [b"", b"1/2", b"0/2 a", b"3/2 a", b"1/2  a", b"1/9999999 a", b"1/2 " + b"a" * 129, b"\xff/2 a", None]
)
def test_a_header_that_says_nothing_is_none(header: bytes | None) -> None:
    assert decode_part([("other", b"1/2 a"), (PART_HEADER, header)]) is None


@pytest.mark.parametrize(
    ("change_set", "revision"),
    [(f"shop/r1@{T0}", T0), ("shop@5", 5), ("", 0), ("7", 0), ("a@", 0), ("a@²", 0), ("a@" + "9" * 17, 0)],
)
def test_the_revision_of_a_change_set_is_read_or_zero(change_set: str, revision: int) -> None:
    assert revision_of(change_set) == revision


def test_the_largest_value_that_is_allowed_fits_into_a_record_every_broker_accepts() -> None:
    content = Content('"' * ((MAX_VALUE_BYTES - 2) // 2))
    change = Change(name="n" * 512, revision=2**53 - 1, content=content, previous=2**53 - 1)
    longest = ChangeSet(id="i" * 128, changes=(change,))

    [(key, value, headers)] = encode_change_set(longest, "s" * 63)

    assert content.size == MAX_VALUE_BYTES
    assert value is not None
    assert len(key) + len(value) + sum(len(name) + len(text) for name, text in headers) < 1_048_576
    assert decode_config(key, value) is not None
