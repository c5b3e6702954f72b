"""Entries of the changes stream: a reader gets the very bytes of the route hash."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ALMOST_OURS, ANY_JSON, ATTRIBUTES, as_bytes
from tests.wire.publications import T0, a_publication, an_endpoint
from waypost.errors import DecodeError
from waypost.model.events import Attributes
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Delta
from waypost.wire.changes import RouteChange, decode_change, encode_change
from waypost.wire.endpoint import encode_endpoint

TEXTS = st.binary(max_size=30) | st.text(max_size=30) | st.integers() | (ANY_JSON | ALMOST_OURS).map(as_bytes)


def test_an_entry_is_written_as_in_the_contract() -> None:
    assert encode_change(a_publication()) == {
        "service": "default/payments",
        "revision": str(T0 * 1000),
        "base": str(T0 * 1000 - 9),
        "op": "delta",
        "data": f'{{"set":{{"payments-2":{an_endpoint()}}},"delete":["payments-1"]}}',
        "event_time": str(T0),
        "answers": '[{"request_id":"r-1","applied":true,"reason":"applied"}]',
    }


def test_an_entry_survives_as_text_and_as_bytes() -> None:
    fields = encode_change(a_publication())

    change = decode_change(fields)

    assert change == decode_change({k.encode(): v.encode() for k, v in fields.items()})
    assert change == RouteChange(
        service=ServiceKey("default", "payments"),
        op=ChangeOp.DELTA,
        base=T0 * 1000 - 9,
        revision=T0 * 1000,
        event_time=T0,
        delta=Delta({"payments-2": an_endpoint()}, ("payments-1",)),
        answers=(Answer("r-1", True, "applied"),),
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(ATTRIBUTES, max_size=4))
def test_readers_get_the_bytes_of_the_hash(attributes: list[Attributes]) -> None:
    routes = {f"i-{n}": encode_endpoint(a, since=T0) for n, a in enumerate(attributes)}

    change = decode_change(encode_change(a_publication(op=ChangeOp.SNAPSHOT, routes=routes)))

    assert change.delta.set == routes


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("service", None, "service-missing"),
        ("service", "payments", "bad-service"),
        ("service", "a/b/c", "bad-service"),
        ("op", "merge", "unknown-op"),
        ("revision", "-1", "wrong-type"),
        ("revision", "1e3", "wrong-type"),
        ("revision", "9007199254740992", "number-out-of-range"),
        ("base", "٣", "wrong-type"),
        ("base", 7, "wrong-type"),
        ("data", "{}", "set-missing"),
        ("data", '{"set":{"a b":{}},"delete":[]}', "bad-instance-id"),
        ("data", '{"set":{"a":1},"delete":[]}', "wrong-type"),
        ("data", '{"set":{"a":{}},"delete":["a"]}', "ambiguous-change"),
        ("data", b"\xff", "bad-utf8"),
        ("answers", "{}", "wrong-type"),
        ("answers", '[],"answers":[]', "bad-json"),
        ("answers", '[{"request_id":"r","applied":1,"reason":"x"}]', "wrong-type"),
    ],
)
def test_a_bad_entry_is_refused(name: str, value: object, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_change({**encode_change(a_publication()), name: value})
    assert caught.value.reason == reason


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(list(encode_change(a_publication()))), TEXTS, max_size=4))
def test_any_entry_is_a_change_or_a_decode_error(damage: dict[str, object]) -> None:
    with suppress(DecodeError):
        decode_change({**encode_change(a_publication()), **damage})
