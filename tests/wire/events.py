"""Builders of wire messages: valid unless a test says otherwise."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from waypost.model.events import MAX_WEIGHT, UPDATABLE, Attributes, InstanceEvent, Op, SetEvent
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

NOW = 1_795_298_407_272
HERE = Stamp(NOW, 3, 1204)


def a_registration(**fields: Any) -> dict[str, Any]:
    """An instance-form register; pass `name=None` for null, or delete a key afterwards."""
    return {"service": "payments", "instance": "payments-1", "address": "10.1.2.3", "port": 8080, **fields}


def a_set(**fields: Any) -> dict[str, Any]:
    """A service-form record with one endpoint."""
    return {"service": "webhook", "endpoints": ["10.1.2.3:8080"], "status": "healthy", "last_updated": 1, **fields}


def as_bytes(doc: Any) -> bytes:
    return json.dumps(doc).encode()


# What arbitrary producers may send: any JSON, and objects that use our field names with any value.
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELD_NAMES = (
    *UPDATABLE, "op", "service", "namespace", "instance", "endpoints", "status", "last_updated", "source", "request_id",
    "ts", "cpu", "mem", "endpoint", "beats", "topic", "partition", "offset", "reason", "detail", "value_base64",
    "truncated", "since", "held", "declared", "health", "lease", "routable", "generation", "set", "delete", "epoch",
    "revision", "base", "event_time", "rule", "digest", "protected", "cause", "delta", "chunk", "job_id", "attempt",
    "at",
)  # fmt: skip
LIKELY_VALUES = st.sampled_from(
    [
        "register",
        "status",
        "UP",
        "payments",
        "p-1",
        "10.1.2.3",
        "::1",
        "10.1.2.3:80",
        8080,
        1,
        ["[::1]:80"],
        {"k": "v"},
        "restart",
    ]
)
ALMOST_OURS = st.dictionaries(st.sampled_from(FIELD_NAMES), LIKELY_VALUES | ANY_JSON, max_size=12)

_LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
_IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True)
_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029"), max_size=20)
ADDRESSES = (
    st.tuples(st.integers(1, 223), *[st.integers(0, 255)] * 3).map(lambda octets: ".".join(map(str, octets)))
    | st.ip_addresses(v=6, network="2001:db8::/32").map(str)
    | _LABELS.map(lambda label: f"{label}.example")
)
PORTS = st.integers(1, 65_535)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "address": ADDRESSES,
    "port": PORTS,
    "weight": st.integers(0, MAX_WEIGHT),
    "zone": _TEXT,
    "node": st.just("") | _IDS,
    "metadata": st.dictionaries(_TEXT.filter(bool), _TEXT, max_size=4),
    "lease_seconds": st.integers(2, 86_400),
}
_COMMON = {
    "service": st.builds(ServiceKey, _LABELS, st.lists(_LABELS, min_size=1, max_size=3).map(".".join)),
    "stamp": st.just(HERE),
    "source": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    "request_id": _TEXT,
}
_DECLARED = st.sampled_from([d for d in Declared if d is not Declared.REMOVED])


def _instance(op: Op, **facts: st.SearchStrategy[Any]) -> st.SearchStrategy[InstanceEvent]:
    return st.builds(InstanceEvent, op=st.just(op), instance=_IDS, **_COMMON, **facts)


ATTRIBUTES = st.builds(Attributes, **VALUES)
EVENTS = st.one_of(
    _instance(Op.REGISTER, attributes=ATTRIBUTES, declared=_DECLARED),
    _instance(Op.UPDATE, changes=st.fixed_dictionaries({}, optional=VALUES).filter(bool)),
    _instance(Op.STATUS, declared=_DECLARED),
    _instance(Op.STATUS, health=st.sampled_from(Health)),
    _instance(Op.DRAIN),
    _instance(Op.DEREGISTER),
    st.builds(InstanceEvent, op=st.just(Op.UNPROTECT), instance=st.just(""), **_COMMON),
    st.builds(
        SetEvent,
        **_COMMON,
        endpoints=st.lists(st.tuples(ADDRESSES, PORTS), max_size=5, unique=True).map(tuple),
        healthy=st.booleans(),
        last_updated=st.integers(0, NOW // 1000 + 86_400),
    ),
)
