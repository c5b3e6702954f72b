"""Reading `service-isolation`: nobody is isolated by accident, and nobody without an end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import DecodeError
from waypost.model.isolation import LONGEST_MS, Isolation, Verb
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.isolation import decode_isolation, encode_isolation, isolation_key

AT = Stamp(1_795_298_407_272, 1, 7)
NODE: dict[str, Any] = {"action": "isolate", "node": "n1", "by": "repair", "expires_at": AT.at + 60_000}


def decode(**changes: Any) -> Isolation:
    return decode_isolation(json.dumps({**NODE, **changes}).encode(), AT)


def test_a_node_an_instance_and_a_node_for_one_service() -> None:
    assert isolation_key(decode()) == b"node/n1"
    of_one = decode(node=None, service="payments", instance="p-1")
    assert (of_one.service, of_one.instance, of_one.scope) == (ServiceKey("default", "payments"), "p-1", "instance/p-1")
    assert isolation_key(decode(namespace="shop", service="payments")) == b"shop/payments"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node": None}, "no-target"),
        ({"node": ""}, "bad-node"),
        ({"node": "*"}, "bad-node"),
        ({"node": "../n1"}, "bad-node"),
        ({"namespace": "shop"}, "service-missing"),
        ({"namespace": "shop", "service": "*"}, "bad-service"),
        ({"node": None, "service": "payments"}, "no-target"),
        ({"service": "payments", "instance": "p-1"}, "no-target"),
        ({"node": None, "instance": "p-1"}, "service-missing"),
        ({"node": None, "service": "*", "instance": "p-1"}, "bad-service"),
        ({"action": "drain"}, "unknown-action"),
        ({"by": None}, "by-missing"),
        ({"by": "a b"}, "bad-by"),
        ({"expires_at": None}, "expiry-missing"),
        ({"expires_at": AT.at}, "expired"),
        ({"expires_at": AT.at + LONGEST_MS + 1}, "expiry-too-far"),
        ({"expires_at": "tomorrow"}, "wrong-type"),
        ({"cause": "x\ny"}, "control-character"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DecodeError) as refused:
        decode(**changes)

    assert refused.value.reason == reason


def test_any_node_that_can_be_registered_can_be_isolated() -> None:
    assert decode(node="Rack-7_A:b.example").node == "Rack-7_A:b.example"


def test_a_clock_that_is_not_the_brokers_is_refused() -> None:
    with pytest.raises(DecodeError, match="append-time-out-of-range"):
        decode_isolation(json.dumps(NODE), Stamp(2**53, 0, 0))


def test_a_release_needs_no_end_and_has_none() -> None:
    assert decode(action="release", expires_at=None).expires_at == 0
    assert decode(action="release", expires_at=AT.at + 1).expires_at == 0


ISOLATIONS = st.builds(
    lambda verb, about, cause, by, end: Isolation(
        verb=verb, cause=cause, by=by, expires_at=end if verb is Verb.ISOLATE else 0, stamp=AT, **about
    ),
    st.sampled_from(Verb),
    st.sampled_from(
        [
            {"node": "n1"},
            {"node": "n-2.example", "service": ServiceKey("shop", "pay")},
            {"instance": "10.1.2.3:80", "service": ServiceKey("default", "pay")},
        ]
    ),
    st.sampled_from(["", "KubeNodeNotReady"]),
    st.sampled_from(["repair", "operator:anna@example.org"]),
    st.integers(AT.at + 1, AT.at + LONGEST_MS),
)


@given(ISOLATIONS)
def test_what_is_written_is_read(isolation: Isolation) -> None:
    assert decode_isolation(encode_isolation(isolation), AT) == isolation
