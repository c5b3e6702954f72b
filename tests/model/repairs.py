"""Builders of alerts, policies and what is known, for the rules of repair. `T0` is a Wednesday noon, UTC."""

from __future__ import annotations

from typing import Any

from waypost.model.alert import NODE_FAILURE, POD_CRASH, Alert, AlertStatus
from waypost.model.impact import Place, Tables
from waypost.model.kill_switch import Control
from waypost.model.names import ServiceKey
from waypost.model.repair import Observed
from waypost.model.repair_policy import Mode, PolicySet, RepairPolicy, Scope
from waypost.model.repair_state import EMPTY, TargetState
from waypost.model.repair_steps import Do, Step

T0 = 1_795_608_000_000
SECOND = 1_000
MINUTE = 60_000
PAYMENTS = ServiceKey("shop", "payments")


def an_alert(*, resolved: bool = False, **facts: Any) -> Alert:
    told: dict[str, Any] = {
        "type": POD_CRASH, "fingerprint": "f1", "starts_at": T0, "namespace": "shop", "service": "payments",
        "pod": "payments-1",
    }  # fmt: skip
    status = AlertStatus.RESOLVED if resolved else AlertStatus.FIRING
    return Alert(status=status, **(told | facts))


def a_node_alert(node: str = "n1", *, resolved: bool = False, **facts: Any) -> Alert:
    told: dict[str, Any] = {"type": NODE_FAILURE, "fingerprint": f"f-{node}", "starts_at": T0, "node": node}
    return Alert(status=AlertStatus.RESOLVED if resolved else AlertStatus.FIRING, **(told | facts))


def a_policy(**facts: Any) -> RepairPolicy:
    told: dict[str, Any] = {
        "name": "pods", "types": frozenset({POD_CRASH}), "namespaces": ("shop",), "steps": (Step.of(Do.EVICT_POD),),
        "mode": Mode.ACT, "wait_ms": 0,
    }  # fmt: skip
    return RepairPolicy(**(told | facts))


def a_node_policy(**facts: Any) -> RepairPolicy:
    told: dict[str, Any] = {
        "name": "nodes", "types": frozenset({NODE_FAILURE}), "scope": Scope.NODE, "namespaces": (), "nodes": ("*",),
        "steps": (Step.of(Do.CORDON), Step.of(Do.ISOLATE), Step.of(Do.DRAIN)), "undo": True,
    }  # fmt: skip
    return a_policy(**(told | facts))


def policies(*several: RepairPolicy) -> PolicySet:
    return PolicySet(policies=several)


def observed(now: int = T0, state: TargetState = EMPTY, **facts: Any) -> Observed:
    """What is known at `now`, with the switch just read."""
    return Observed(control=Control(True, now), state=state, **facts)


def a_table(n: int, service: ServiceKey = PAYMENTS, node: str = "n1") -> Tables:
    return {service: {f"{service.service}-{i}": Place(node, "a") for i in range(1, n + 1)}}
