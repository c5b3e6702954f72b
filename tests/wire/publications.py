"""Builders of publications."""

from __future__ import annotations

from typing import Any

from waypost.model.events import Attributes
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Publication
from waypost.model.stamp import Cause
from waypost.wire.endpoint import encode_endpoint

T0 = 1_795_298_407_272


def an_endpoint(address: str = "10.1.2.3", **attributes: Any) -> str:
    return encode_endpoint(Attributes(address=address, port=8080, **attributes), since=T0)


def a_publication(**fields: Any) -> Publication:
    """A delta that sets one endpoint and deletes another."""
    values: dict[str, Any] = {
        "service": ServiceKey("default", "payments"),
        "op": ChangeOp.DELTA,
        "base": T0 * 1000 - 9,
        "revision": T0 * 1000,
        "event_time": T0,
        "routes": {"payments-2": an_endpoint(), "payments-1": None},
        "instances": {},
        "digest": 0xAB,
        "endpoints": 1,
        "rule": "register",
        "causes": (Cause("service-registry", 3, 1204),),
        "answers": (Answer("r-1", True, "applied"),),
    }
    return Publication(**{**values, **fields})
