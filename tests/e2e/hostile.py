"""Records as somebody sends them who knows the contracts and means no good; the same ones for the same seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

Sent = tuple[bytes | None, bytes | None]

_LONG = 86_400
"""Leases of what turns out to be sound: none of it beats, and it should not lapse under later tests."""

_REGISTRATIONS: list[dict[str, Any]] = [
    {
        "op": "register",
        "namespace": "fuzz",
        "service": "one",
        "instance": "pod-1",
        "address": "10.1.2.3",
        "port": 8080,
        "status": "UP",
        "weight": 100,
        "zone": "a",
        "node": "n1",
        "metadata": {"version": "2.1"},
        "lease_seconds": _LONG,
        "source": "agent",
        "request_id": "r-1",
        "ts": 1795298407272,
    },
    {"op": "update", "namespace": "fuzz", "service": "one", "instance": "pod-1", "weight": 7},
    {"op": "status", "namespace": "fuzz", "service": "one", "instance": "pod-1", "status": "fail"},
    {"op": "drain", "namespace": "fuzz", "service": "one", "instance": "pod-1"},
    {"op": "deregister", "namespace": "fuzz", "service": "one", "instance": "pod-1"},
    {
        "namespace": "fuzz",
        "service": "set",
        "endpoints": ["10.1.2.3:8080", "[2001:db8::1]:80"],
        "last_updated": 1625097600,
    },
]
_BEATS: list[dict[str, Any]] = [
    {"cpu": 0.4},
    {
        "service": "one",
        "namespace": "fuzz",
        "endpoint": "10.1.2.3:8080",
        "status": "pass",
        "ts": 1,
        "cpu": 0.4,
        "mem": 0.2,
    },
    {"node": "n1", "beats": [{"instance": "pod-1", "status": "pass", "cpu": 0.4}, {"instance": "pod-2"}]},
]
_EVIL: list[Any] = [
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    -(2**63),
    1e308,
    0.1,
    "",
    "x" * 300,
    "a" * 70_000,
    "a." * 40_000 + "a",
    "UP\n",
    "\x00",
    "\x1e",
    "a\x1fb",
    "\ufffd",
    "\u2028",
    "\U0001f600",
    "Ünïcode",
    "../../etc/passwd",
    "'; DROP TABLE routes; --",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "one\r\nSET x y",
    "1e400",
    "NaN",
    [],
    [[]],
    {},
    {"a": {"b": {"c": 1}}},
    ["10.1.2.3:8080"] * 6_000,
    [None],
    {"instance": "pod-1"},
]
_KEYS: list[bytes | None] = [
    None,
    b"",
    b"pod-1",
    b"fuzz/one",
    b"\xff\xfe",
    b"a\x1e",
    b"\x1f",
    b"k" * 5_000,
    b"_witness/7x",
]
_RAW: list[bytes | None] = [
    None,
    b"",
    b"{",
    b"[" * 60_000,
    b'{"a":' * 60_000,
    b'{"service":"one","service":"two","namespace":"fuzz","endpoints":[],"last_updated":1}',
    b'{"cpu":NaN}',
    b'{"cpu":1e999}',
    b'{"namespace":"fuzz","service":"one","instance":"pod-9","port":1e400}',
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b'{"x":"\xed\xa0\x80"}',
    b'{"x":"\\ud800"}',
    b"\x00" * 1_000,
    b'{"x":"' + b"y" * 300_000 + b'"}',
]


def records(random: Random, count: int, *, beats: bool) -> Iterator[Sent]:
    """Yield so many records for the heartbeat topic or the registry."""
    for _ in range(count):
        doc = json.loads(json.dumps(random.choice(_BEATS if beats else _REGISTRATIONS)))
        key = random.choice(_KEYS) if random.random() < 0.3 else b"pod-1" if beats else b"fuzz/one"
        kind = random.random()
        if kind < 0.05:
            body = random.choice(_RAW)
            yield b"" if key is body is None else key, body  # kafka-python writes no record without both
        elif kind < 0.5:
            yield key, _encoded(random, _twisted(random, doc))
        else:
            yield key, _damaged(random, _encoded(random, doc))


def _twisted(random: Random, doc: dict[str, Any]) -> dict[str, Any]:
    """Replace, drop, add or rename a field or two."""
    for _ in range(random.choice((1, 1, 2))):
        names = [name for name in doc if name not in ("namespace", "lease_seconds")]
        name = random.choice(names) if names else "x"
        match random.randrange(4):
            case 0:
                doc.pop(name, None)
            case 1:
                doc[name.upper()] = doc.pop(name, None)
            case 2:
                doc["".join(random.choices("abc_é", k=3))] = random.choice(_EVIL)
            case _:
                doc[name] = random.choice(_EVIL)
    if "instance" in doc and random.random() < 0.7:
        doc["instance"] = f"pod-{random.randrange(2_000)}"
    return doc


def _encoded(random: Random, doc: dict[str, Any]) -> bytes:
    return json.dumps(doc, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def _damaged(random: Random, body: bytes) -> bytes:
    """Flip, cut, double or insert bytes."""
    data = bytearray(body)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1:
                del data[at : at + random.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + random.randrange(1, 40)]
            case _:
                data[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 5)))
    return bytes(data)
