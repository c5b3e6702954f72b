"""Entries of the Redis hashes: canonical bytes out, the same value back."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ALMOST_OURS, ANY_JSON, ATTRIBUTES, NOW, as_bytes
from waypost.errors import DecodeError
from waypost.model.events import Attributes, Hold
from waypost.model.isolation import Isolation, Verb
from waypost.model.lifecycle import Declared, Health, Lease, Status
from waypost.model.service import Held, InstanceView
from waypost.model.stamp import Stamp
from waypost.wire.endpoint import (
    IsolatedBy,
    JsonRenderer,
    decode_endpoint,
    decode_instance,
    encode_endpoint,
    encode_instance,
)

PLACE = Attributes(address="10.1.2.3", port=8080, zone="a", node="n1", metadata={"b": "2", "a": "1"})


def test_a_route_entry_is_written_as_in_the_contract() -> None:
    assert encode_endpoint(PLACE, since=NOW) == (
        '{"address":"10.1.2.3","port":8080,"weight":100,"zone":"a","node":"n1","metadata":{"a":"1","b":"2"},'
        f'"since":{NOW},"held":false}}'
    )


@settings(deadline=None, max_examples=100)
@given(ATTRIBUTES, st.integers(0, 2**53 - 1), st.booleans())
def test_every_route_entry_survives(attributes: Attributes, since: int, held: bool) -> None:
    text = encode_endpoint(attributes, since=since, held=held)

    endpoint = decode_endpoint(text)

    fields = {name: value for name, value in asdict(attributes).items() if name != "lease_seconds"}
    assert asdict(endpoint) == {**fields, "since": since, "held": held}


@settings(deadline=None, max_examples=60)
@given(
    ATTRIBUTES,
    st.sampled_from(Declared),
    st.sampled_from(Health),
    st.sampled_from(Status),
    st.booleans(),
    st.none() | st.builds(Held, st.sampled_from(Hold), st.integers(0, NOW), st.integers(0, NOW)),
    st.none() | st.builds(IsolatedBy, by=st.just("repair"), cause=st.sampled_from(["", "NodeFailure"])),
)
def test_every_instance_entry_survives(
    attributes: Attributes,
    declared: Declared,
    health: Health,
    status: Status,
    routable: bool,
    held: Held | None,
    isolated: IsolatedBy | None,
) -> None:
    fields = {
        **asdict(attributes), "source": "agent", "declared": declared, "health": health, "lease": Lease.LIVE,
        "status": status, "routable": routable, "reason": "up", "since": NOW, "generation": NOW,
        "held": held, "damped_until": NOW,
    }  # fmt: skip

    known = decode_instance(encode_instance(**fields, isolated=isolated))

    assert asdict(known) == {**fields, "isolated": None if isolated is None else asdict(isolated)}


def test_the_renderer_says_who_isolated_an_instance_and_until_when() -> None:
    word = Isolation(
        verb=Verb.ISOLATE, node="n1", cause="KubeNodeNotReady", by="repair", expires_at=NOW + 9, stamp=Stamp(NOW, 0, 1)
    )
    seen = InstanceView(
        attributes=PLACE,
        source="agent",
        declared=Declared.UP,
        health=Health.PASS,
        lease=Lease.LIVE,
        generation=NOW,
        weight=PLACE.weight,
        isolation=word,
    )

    known = decode_instance(JsonRenderer().instance(seen, NOW))

    assert (known.status, known.routable, known.reason) == (Status.OUT_OF_SERVICE, False, "isolated")
    assert known.isolated == IsolatedBy(by="repair", cause="KubeNodeNotReady", since=NOW, until=NOW + 9)


def test_the_renderer_says_why_an_instance_is_not_routable() -> None:
    seen = InstanceView(
        attributes=PLACE,
        source="agent",
        declared=Declared.UP,
        health=Health.PASS,
        lease=Lease.LAPSED,
        generation=NOW,
        weight=PLACE.weight,
    )

    known = decode_instance(JsonRenderer().instance(seen, NOW + 90_000))

    assert (known.status, known.routable, known.reason) == (Status.DOWN, False, "lease-lapsed")
    assert (known.since, known.generation) == (NOW + 90_000, NOW)
    assert JsonRenderer().route(PLACE, NOW) == encode_endpoint(PLACE, since=NOW)


def test_an_entry_written_before_there_was_a_brake_is_not_held() -> None:
    seen = InstanceView(
        attributes=PLACE, source="agent", declared=Declared.UP, health=Health.PASS, lease=Lease.LIVE, generation=NOW,
        weight=1,
    )  # fmt: skip
    doc = json.loads(JsonRenderer().instance(seen, NOW))
    del doc["held"], doc["damped_until"]

    known = decode_instance(as_bytes(doc))

    assert (known.held, known.damped_until) == (None, 0)


@pytest.mark.parametrize("missing", ["address", "port", "weight", "zone", "node", "metadata", "since", "held"])
def test_a_route_entry_without_one_of_its_fields_is_refused(missing: str) -> None:
    doc = json.loads(encode_endpoint(PLACE, since=NOW))
    del doc[missing]
    with pytest.raises(DecodeError, match=f"{missing}-missing"):
        decode_endpoint(as_bytes(doc))


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=100) | ANY_JSON.map(as_bytes) | ALMOST_OURS.map(as_bytes))
def test_any_bytes_are_an_entry_or_a_decode_error(value: bytes) -> None:
    for decode in (decode_endpoint, decode_instance):
        with suppress(DecodeError):
            decode(value)
