"""Configurations and words to the repair job: bytes and back, and what is refused."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.repairs import T0
from waypost.errors import DecodeError
from waypost.model.alert import Target
from waypost.model.repair_state import Approval
from waypost.wire.config import ConfigRecord, checksum, decode_config, encode_config
from waypost.wire.repair_config import (
    ApprovalFor,
    Resumption,
    Switch,
    approval_config,
    decode_switch,
    decode_word,
    resume_config,
    switch_config,
)

ID = "0123456789abcdef" * 2
PAYMENTS = Target("shop", "payments")


def through(record: ConfigRecord) -> ConfigRecord:
    found = decode_config(*encode_config(record))
    assert found is not None
    return found


@given(value=st.text(max_size=200), revision=st.integers(0, 2**53 - 1), change_set=st.text("abc-", max_size=20))
def test_a_configuration_comes_back_as_it_was(value: str, revision: int, change_set: str) -> None:
    record = ConfigRecord(name="repair/policies", revision=revision, value=value, change_set=change_set)

    assert through(record) == record


def test_what_is_taken_away_is_none() -> None:
    assert decode_config(b"repair/policies", None) is None


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, b"{}", "bad-name"),
        (b"../x", b"{}", "bad-name"),
        (b"a b", b"{}", "bad-name"),
        (b"a", b"[]", "not-an-object"),
        (b"a", b'{"revision":1,"checksum":"x"}', "value-missing"),
        (b"a", b'{"revision":1,"checksum":"x","value":{}}', "wrong-type"),
        (b"a", b'{"revision":1,"checksum":"x","value":"y"}', "bad-checksum"),
        (b"a", orjson.dumps({"revision": -1, "value": "", "checksum": checksum("")}), "number-out-of-range"),
    ],
)
def test_a_bad_configuration_has_its_reason(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode_config(key, value)

    assert error.value.reason == reason


@pytest.mark.parametrize("enabled", [True, False])
def test_the_switch_comes_back(enabled: bool) -> None:
    said = Switch(enabled=enabled, by="operator:anna", at=T0, because="the network is being rebuilt")

    assert decode_switch(through(switch_config(said)).value) == said


def test_words_come_back() -> None:
    approved = ApprovalFor(target=PAYMENTS, approval=Approval(ID, "anna", T0, "c" * 32))
    without = ApprovalFor(target=PAYMENTS, approval=Approval(ID, "anna", T0))
    resumed = Resumption(target=Target("node", "n1"), by="anna", at=T0)

    assert decode_word(through(approval_config(approved))) == approved
    assert decode_word(through(approval_config(without))) == without
    assert decode_word(through(resume_config(resumed))) == resumed
    assert decode_word(switch_config(Switch(enabled=True, by="anna", at=T0))) is None


def test_a_word_under_another_name_is_refused() -> None:
    said = approval_config(ApprovalFor(target=PAYMENTS, approval=Approval(ID, "anna", T0)))
    moved = ConfigRecord(name="repair/approval/" + "f" * 32, revision=1, value=said.value)

    with pytest.raises(DecodeError, match="other-name"):
        decode_word(moved)


@pytest.mark.parametrize("value", ["", "{}", '{"enabled":1,"by":"a","at":1}', '{"enabled":true,"by":"*","at":1}'])
def test_a_switch_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(DecodeError):
        decode_switch(value)
