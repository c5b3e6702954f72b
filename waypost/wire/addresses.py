"""Addresses a gateway can really call, in one spelling each.

One spelling matters because addresses become instance ids and are compared as text: `::1` and `0:0::1` must not
be two endpoints. What cannot be the target of a call (0.0.0.0, multicast, an IPv6 zone of somebody else's
machine) is refused at the door; whether anything listens there is not checked here.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from waypost.errors import DecodeError

MAX_ADDRESS = 253
MAX_INSTANCE_ID = 253

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}\Z")
_NOT_CALLABLE = re.compile(r"0\.|22[4-9]\.|23[0-9]\.|255\.255\.255\.255")
_LABEL = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
# `10.1`, `0x7f.1` and `2130706433` are IPv4 addresses to inet_aton and would slip past a filter for 127.0.0.1.
_NUMERIC_TAIL = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\Z")
_MAPPED = bytes(10) + b"\xff\xff"
_ENDPOINT = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([0-9]{1,9})\Z")


def canonical_address(text: str) -> str:
    """Return the one spelling of an IPv4 address, an IPv6 address or a DNS name.

    DNS names become lower case, IPv6 the shortest form, IPv4 inside IPv6 (`::ffff:10.1.2.3`) plain IPv4.
    Raises DecodeError `bad-address`.
    """
    if _IPV4.match(text):
        return _callable_ipv4(text)
    if ":" in text:
        return _canonical_ipv6(text)
    name = text.lower() if text.isascii() else text
    if len(name) > MAX_ADDRESS or not _DNS.match(name):
        raise DecodeError("bad-address", "neither an IPv4 address, nor an IPv6 address, nor a DNS name")
    if _NUMERIC_TAIL.match(name):
        raise DecodeError("bad-address", "a name that ends in a number is only an IPv4 address if written a.b.c.d")
    return name


def _callable_ipv4(text: str) -> str:
    if _NOT_CALLABLE.match(text):
        raise DecodeError("bad-address", "an address one can listen on or multicast to, but not call")
    return text


def _canonical_ipv6(text: str) -> str:
    if "%" in text:
        raise DecodeError("bad-address", "an IPv6 zone id means nothing on another machine")
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise DecodeError("bad-address", "not an IPv6 address") from None
    packed = address.packed
    if packed.startswith(_MAPPED):
        return _callable_ipv4(".".join(map(str, packed[12:])))
    if packed[0] == 0xFF or not any(packed):
        raise DecodeError("bad-address", "an address one can listen on or multicast to, but not call")
    return str(address)


def is_ip(address: str) -> bool:
    """Tell whether a canonical address is an IP address and not a DNS name."""
    return ":" in address or _IPV4.match(address) is not None


def split_endpoint(text: str) -> tuple[str, int]:
    """Return (canonical address, port) of `host:port` or `[ipv6]:port`.

    Raises DecodeError `bad-endpoint`, `bad-address`, `port-out-of-range`. The instance id of such an endpoint is
    `address:port` without brackets (`::1:8080`): the port is what follows the last colon, and as the address has
    one spelling only, no two endpoints share an id.
    """
    match = _ENDPOINT.match(text)
    if match is None:
        raise DecodeError("bad-endpoint", "an endpoint is host:port or [ipv6]:port")
    v6, host, digits = match.groups()
    if v6 is not None and ":" not in v6:
        raise DecodeError("bad-endpoint", "brackets are for IPv6 addresses")
    address = canonical_address(host if v6 is None else v6)
    port = int(digits)
    if not 1 <= port <= 65_535:
        raise DecodeError("port-out-of-range", "port must be from 1 to 65535")
    if digits[0] == "0":
        raise DecodeError("bad-endpoint", "a port is written without leading zeros")
    if len(address) + 1 + len(digits) > MAX_INSTANCE_ID:
        raise DecodeError("bad-endpoint", f"host:port has more than {MAX_INSTANCE_ID} characters")
    return address, port


def join_endpoint(address: str, port: int) -> str:
    """Write an endpoint as `split_endpoint` reads it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
