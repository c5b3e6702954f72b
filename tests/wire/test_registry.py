"""Registration events: both forms as the contract writes them, and everything that must be refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ALMOST_OURS, ANY_JSON, EVENTS, HERE, NOW, a_registration, a_set, as_bytes
from waypost.errors import DecodeError
from waypost.model.events import Attributes, InstanceEvent, Op, SetEvent
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.wire.registry import decode_registration, encode_registration, registry_key


def refused(value: Any) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_registration(value if isinstance(value, bytes) else as_bytes(value), HERE)
    return caught.value.reason


def decoded(doc: Any) -> Any:
    return decode_registration(as_bytes(doc), HERE)


def test_the_instance_form_works_as_written_in_the_contract() -> None:
    value = (
        '{"op":"register","namespace":"default","service":"payments","instance":"payments-7f9-x2","address":"10.1.2.3",'
        '"port":8080,"status":"UP","weight":100,"zone":"a","node":"n1","metadata":{"version":"2.1"},"lease_seconds":90,'
        '"source":"agent","request_id":"…","ts":1795298407272}'
    )

    event = decode_registration(value.encode(), HERE)

    assert event == InstanceEvent(
        op=Op.REGISTER,
        service=ServiceKey("default", "payments"),
        instance="payments-7f9-x2",
        stamp=HERE,
        attributes=Attributes(address="10.1.2.3", port=8080, zone="a", node="n1", metadata={"version": "2.1"}),
        declared=Declared.UP,
        source="agent",
        request_id="…",
    )


def test_the_service_form_works_as_written_in_the_contract() -> None:
    value = (
        b'{"service":"webhook","endpoints":["10.1.2.3:8080","10.1.2.4:8080"],'
        b'"status":"healthy","last_updated":1625097600}'
    )

    event = decode_registration(value, HERE)

    assert event == SetEvent(
        service=ServiceKey("default", "webhook"),
        stamp=HERE,
        endpoints=(("10.1.2.3", 8080), ("10.1.2.4", 8080)),
        healthy=True,
        last_updated=1625097600,
    )
    assert isinstance(event, SetEvent)
    assert encode_registration(event) == value


def test_a_register_needs_little_and_starts_up_with_the_default_lease() -> None:
    event = decoded(a_registration())

    assert event.declared is Declared.UP
    assert event.attributes == Attributes(address="10.1.2.3", port=8080, weight=100, lease_seconds=90)


def test_null_counts_as_absent_and_unknown_fields_are_ignored() -> None:
    assert decoded(a_registration(zone=None, endpoints=None, op=None, mood={"a": [1]})) == decoded(a_registration())


@pytest.mark.parametrize("status", ["DRAINING", "draining", "Out_Of_Service", "STARTING", "UP", "down"])
def test_a_status_word_declares(status: str) -> None:
    event = decoded({"op": "STATUS", "service": "s", "instance": "i", "status": status})

    assert (event.declared, event.health) == (Declared[status.upper()], None)


@pytest.mark.parametrize(
    ("word", "health"), [("pass", Health.PASS), ("Unhealthy", Health.FAIL), ("unknown", Health.UNKNOWN)]
)
def test_a_health_word_reports_health(word: str, health: Health) -> None:
    event = decoded({"op": "status", "service": "s", "instance": "i", "status": word})

    assert (event.declared, event.health) == (None, health)


def test_an_update_takes_only_what_is_there() -> None:
    event = decoded({"op": "update", "service": "s", "instance": "i", "weight": 0, "zone": ""})

    assert event.changes == {"weight": 0, "zone": ""}


def test_a_drain_reads_only_its_own_fields() -> None:
    assert decoded({"op": "drain", "service": "s", "instance": "i", "port": 70_000}).op is Op.DRAIN


def test_the_longest_service_name_passes() -> None:
    assert decoded(a_registration(service="a." * 126 + "a")).service.service == "a." * 126 + "a"


def test_integers_may_be_written_as_integral_floats() -> None:
    assert decoded(a_set(last_updated=1625097600.0)).last_updated == 1625097600
    assert decoded(a_registration(port=8080.0)).attributes.port == 8080


def test_an_empty_set_is_a_set() -> None:
    assert decoded(a_set(endpoints=[])).endpoints == ()


def test_equal_endpoints_collapse_however_they_are_written() -> None:
    event = decoded(
        a_set(endpoints=["[::1]:80", "[0:0::1]:80", "A.example:80", "a.EXAMPLE:80", "[::ffff:10.0.0.1]:80"])
    )

    assert event.endpoints == (("::1", 80), ("a.example", 80), ("10.0.0.1", 80))


def test_five_thousand_endpoints_pass_and_one_more_does_not() -> None:
    endpoints = [f"10.0.{i // 250}.{i % 250}:80" for i in range(5_001)]

    assert len(decoded(a_set(endpoints=endpoints[:5_000])).endpoints) == 5_000
    assert refused(a_set(endpoints=endpoints)) == "too-many-endpoints"


def test_last_updated_may_be_of_any_past_and_a_day_ahead() -> None:
    tomorrow = NOW // 1000 + 86_400

    assert decoded(a_set(last_updated=0)).last_updated == 0
    assert decoded(a_set(last_updated=tomorrow)).last_updated == tomorrow
    assert refused(a_set(last_updated=tomorrow + 1)) == "last-updated-in-future"


def without(doc: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in doc.items() if key != name}


HOSTILE = [
    (b"", "bad-json"),
    (b"{", "bad-json"),
    (b"\xff\xfe", "bad-utf8"),
    (b'{"service":"\xff"}', "bad-utf8"),
    (b'{"service":"\\ud800"}', "bad-json"),
    (b'{"service":NaN}', "bad-json"),
    (b"[" * 50_000, "bad-json"),
    (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, "bad-json"),
    (b"[]", "not-an-object"),
    (b"null", "not-an-object"),
    (b'{"x":"' + b"x" * 262_144 + b'"}', "oversize"),
    ({}, "service-missing"),
    (a_registration(service=5), "wrong-type"),
    (a_registration(service="Payments"), "bad-service"),
    (a_registration(service="pay/ments"), "bad-service"),
    (a_registration(service="a." * 126 + "aa"), "bad-service"),
    (a_registration(namespace="a.b"), "bad-namespace"),
    (a_registration(namespace=""), "bad-namespace"),
    (a_registration(instance=""), "bad-instance-id"),
    (a_registration(instance="a|b,c"), "bad-instance-id"),
    (a_registration(instance="a\n"), "bad-instance-id"),
    (a_registration(instance=7), "wrong-type"),
    ({"op": "register", "service": "s"}, "instance-missing"),
    (a_registration(op="remove"), "unknown-op"),
    (a_registration(op=1), "wrong-type"),
    (a_registration(status="REMOVED"), "unknown-status"),
    (a_registration(status="pass"), "unknown-status"),
    (a_registration(status="\u017ftarting"), "unknown-status"),
    (a_registration(op="status"), "status-missing"),
    (a_registration(op="status", status="removed"), "unknown-status"),
    (a_registration(op="status", status=True), "wrong-type"),
    ({"op": "update", "service": "s", "instance": "i", "status": "UP", "weight": None}, "nothing-to-update"),
    (without(a_registration(), "address"), "address-missing"),
    (a_registration(port=None), "port-missing"),
    (a_registration(port=0), "port-out-of-range"),
    (a_registration(port=70_000), "port-out-of-range"),
    (a_registration(port=-1), "port-out-of-range"),
    (a_registration(port=1e300), "port-out-of-range"),
    (a_registration(port="8080"), "wrong-type"),
    (a_registration(port=True), "wrong-type"),
    (a_registration(port=80.5), "wrong-type"),
    (a_registration(weight=-1), "weight-out-of-range"),
    (a_registration(weight=65_536), "weight-out-of-range"),
    (a_registration(lease_seconds=1), "lease-out-of-bounds"),
    (a_registration(lease_seconds=86_401), "lease-out-of-bounds"),
    (a_registration(lease_seconds="90"), "wrong-type"),
    (a_registration(zone="a\u001b[31m"), "control-character"),
    (a_registration(zone="a\u2028"), "control-character"),
    (a_registration(zone="z" * 254), "text-too-long"),
    (a_registration(node="n/1"), "bad-node"),
    (a_registration(metadata=[]), "wrong-type"),
    (a_registration(metadata={"version": 2}), "wrong-type"),
    (a_registration(metadata={"version": {"major": "2"}}), "wrong-type"),
    (a_registration(metadata={"": "x"}), "bad-metadata-key"),
    (a_registration(metadata={"k" * 64: "x"}), "text-too-long"),
    (a_registration(metadata={"k": "x" * 1_025}), "text-too-long"),
    (a_registration(metadata={"k": "\r\n"}), "control-character"),
    (a_registration(metadata={f"k{i}": "" for i in range(65)}), "metadata-too-large"),
    (a_registration(metadata={f"k{i}": "é" * 1_000 for i in range(9)}), "metadata-too-large"),
    (a_registration(source="a b"), "bad-source"),
    (a_registration(source=""), "bad-source"),
    (a_registration(request_id="r" * 129), "text-too-long"),
    (a_registration(request_id="r\n"), "control-character"),
    (a_registration(ts="now"), "wrong-type"),
    (a_registration(endpoints=[]), "ambiguous-form"),
    (a_set(op="register"), "ambiguous-form"),
    (a_set(endpoints=None), "endpoints-missing"),
    (without(a_set(), "endpoints"), "endpoints-missing"),
    (a_set(endpoints="10.1.2.3:8080"), "wrong-type"),
    (a_set(endpoints=[8080]), "wrong-type"),
    (a_set(endpoints=[None]), "wrong-type"),
    (a_set(endpoints=["10.1.2.3:0"]), "port-out-of-range"),
    (a_set(endpoints=["10.1.2.3:70000"]), "port-out-of-range"),
    (a_set(endpoints=["10.1.2.3"]), "bad-endpoint"),
    (a_set(status="sick"), "unknown-status"),
    (a_set(status=1), "wrong-type"),
    (without(a_set(), "last_updated"), "last-updated-missing"),
    (a_set(last_updated=-1), "last-updated-out-of-range"),
    (a_set(last_updated=NOW), "last-updated-in-future"),
    (a_set(last_updated=1e300), "last-updated-in-future"),
    (a_set(last_updated=1.5), "wrong-type"),
    (a_set(last_updated="1625097600"), "wrong-type"),
    (a_set(last_updated=True), "wrong-type"),
]


@pytest.mark.parametrize(("value", "reason"), HOSTILE, ids=[f"{i}-{reason}" for i, (_, reason) in enumerate(HOSTILE)])
def test_what_is_wrong_is_refused_with_its_reason(value: Any, reason: str) -> None:
    assert refused(value) == reason


def test_a_null_value_is_a_tombstone() -> None:
    with pytest.raises(DecodeError, match="tombstone"):
        decode_registration(None, HERE)


def test_an_error_does_not_carry_the_payload() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_registration(b'{"password":"hunter2"', HERE)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200) | ANY_JSON.map(as_bytes) | ALMOST_OURS.map(as_bytes))
def test_any_bytes_are_an_event_or_a_decode_error(value: bytes) -> None:
    try:
        event = decode_registration(value, HERE)
    except DecodeError:
        return
    assert decode_registration(encode_registration(event), HERE) == event


@settings(deadline=None, max_examples=150)
@given(EVENTS)
def test_every_event_survives_the_wire(event: InstanceEvent | SetEvent) -> None:
    value = encode_registration(event)

    assert decode_registration(value, HERE) == event
    assert encode_registration(decode_registration(value, HERE)) == value


def test_the_key_is_the_service() -> None:
    assert registry_key(ServiceKey("default", "payments")) == b"default/payments"
