"""Addresses: what a gateway can call, in one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ADDRESSES, PORTS
from waypost.errors import DecodeError
from waypost.model.names import is_instance
from waypost.wire.addresses import canonical_address, join_endpoint, split_endpoint


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("240.0.0.1", "240.0.0.1"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::1", "::1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("localhost", "localhost"),
        ("Payments.Example.COM", "payments.example.com"),
        ("1and1.example", "1and1.example"),
    ],
)
def test_an_address_has_one_spelling(text: str, canonical: str) -> None:
    assert canonical_address(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["", " ", "10.1.2", "10.1.2.256", "010.1.2.3", "10.1.2.3.4", "10.1.2.3\n", "2130706433", "0x7f.1", "0x7f000001",
     "a.0x1",
     "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1", "::ffff:0.0.0.0", "fe80::1%eth0", "1::2::3",
     "::1]", ":",
     "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "a/b", "münchen.example", "a" * 64, "a." * 127 + "a", "http://a",
     "a@b"],
)  # fmt: skip
def test_what_cannot_be_called_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="bad-address"):
        canonical_address(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a", "bad-endpoint"), (":80", "bad-address"), ("::1:80", "bad-endpoint"), ("[10.1.2.3]:80", "bad-endpoint"),
     ("[]:80", "bad-endpoint"), ("[::1]", "bad-endpoint"), ("[::1%lo]:80", "bad-address"), ("a:", "bad-endpoint"),
     ("a:080", "bad-endpoint"), ("a:+80", "bad-endpoint"), ("a:8 0", "bad-endpoint"), ("a:٨٠", "bad-endpoint"),
     ("a:80\n", "bad-endpoint"), ("a:00", "port-out-of-range"), ("a:65536", "port-out-of-range"),
     ("a:99999999999999999999", "bad-endpoint"), (".".join(["a" * 62] * 4) + ":65535", "bad-endpoint")],
)  # fmt: skip
def test_a_bad_endpoint_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        split_endpoint(text)
    assert caught.value.reason == reason


@settings(deadline=None, max_examples=100)
@given(ADDRESSES, PORTS)
def test_an_endpoint_survives_and_its_id_is_legal(address: str, port: int) -> None:
    assert split_endpoint(join_endpoint(address, port)) == (address, port)
    assert is_instance(f"{address}:{port}")
    assert f"{address}:{port}".rpartition(":") == (address, ":", str(port))


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.text("0123456789abcdefx.:[]%-", max_size=40))
def test_any_text_is_an_address_in_its_one_spelling_or_refused(text: str) -> None:
    try:
        address = canonical_address(text)
    except DecodeError:
        return
    assert canonical_address(address) == address
