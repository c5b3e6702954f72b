"""State of the incident fold keeps what it is given."""

from __future__ import annotations

import orjson
import pytest

from tests.model.repairs import PAYMENTS, T0
from waypost.errors import StateVersionError
from waypost.model.alert import Target
from waypost.model.census import About, InstanceId
from waypost.model.incident import Incident, Symptom
from waypost.model.incident_fold import Open
from waypost.wire.incidents import decode_open, decode_symptom, encode_open, encode_symptom

SUBJECT = InstanceId(PAYMENTS, "p:1")
OPEN = Open(
    arrived=(InstanceId(PAYMENTS, "p:2"),),
    incident=Incident(
        about=About.NODE, name="n1", since=T0, members=(Symptom(SUBJECT, T0, "f"), Symptom(SUBJECT, T0 + 1))
    ),
    opened_at=T0 + 5,
    firing=(("f", Target("shop", "payments")),),
    silent=(SUBJECT,),
    alerted=True,
)


def test_what_is_stored_is_what_is_read() -> None:
    for symptom in OPEN.incident.members:
        assert decode_symptom(encode_symptom(symptom)) == symptom
    assert decode_open(encode_open(OPEN)) == OPEN


def test_another_version_is_refused() -> None:
    with pytest.raises(StateVersionError):
        decode_symptom(orjson.dumps((99, "shop/payments", "p", 1, "")))
