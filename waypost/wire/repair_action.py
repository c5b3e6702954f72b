"""A repair action as a JSON object, the same in records and in state."""

from __future__ import annotations

import re
from typing import Any

from waypost.errors import DecodeError
from waypost.model.alert import NODE_TARGET, Target
from waypost.model.names import ServiceKey, is_namespace, is_service
from waypost.model.repair_action import RepairAction
from waypost.model.repair_steps import PARAMETERS, Do, Parameter, Step
from waypost.wire.alerts import read_fingerprint, read_type
from waypost.wire.fields import as_bool, as_int, as_list, as_object, as_text, bounded, required, safe_int, wrong_type
from waypost.wire.words import read_word

MAX_STEPS = 8
MAX_POLICY_NAME = 63
MAX_VERSION = 64
MAX_EXCLUDED = 10_000
"""What is read: earlier builds wrote all of them."""
TOLD_EXCLUDED = 500
"""What is written, at most 160 KB; who carries an action out is told of the others by its surroundings."""

_ID = re.compile(r"[0-9a-f]{32}\Z")


def action_fields(action: RepairAction) -> dict[str, Any]:
    """Return an action as its record has it."""
    return {
        "id": action.id,
        "target": str(action.target),
        "type": action.type,
        "fingerprint": action.fingerprint,
        "startsAt": action.starts_at,
        "attempt": action.attempt,
        "policy": action.policy,
        "policy_version": action.policy_version,
        "steps": [step_fields(step) for step in action.steps],
        "node": action.node or None,
        "pod": action.pod or None,
        "dwell_ms": action.dwell_ms,
        "cooldown_ms": action.cooldown_ms,
        "min_healthy": action.min_healthy,
        "undo": action.undo,
        "excluded": [str(service) for service in action.excluded[:TOLD_EXCLUDED]],
        "excluded_count": len(action.excluded),
        "undoes": action.undoes or None,
        "decided_at": action.decided_at,
        "granted_at": action.granted_at,
    }


def read_action(item: Any) -> RepairAction:
    """Read an action. Raises DecodeError."""
    doc = as_object("action", item)
    steps = as_list("steps", required(doc, "steps"))
    excluded = as_list("excluded", required(doc, "excluded"))
    if not 1 <= len(steps) <= MAX_STEPS:
        raise DecodeError("bad-steps", f"an action has 1 to {MAX_STEPS} steps")
    bounded("excluded", len(excluded), 0, MAX_EXCLUDED, "too-many-services")
    if doc.get("startsAt") is None:
        raise DecodeError("starts-at-missing", "the field startsAt is absent or null")
    return RepairAction(
        id=read_id("id", required(doc, "id")),
        target=read_target(required(doc, "target")),
        type=read_type(required(doc, "type")),
        fingerprint=read_fingerprint(required(doc, "fingerprint")),
        starts_at=safe_int("startsAt", doc["startsAt"]),
        attempt=bounded("attempt", as_int("attempt", required(doc, "attempt")), 1, 1_000_000, "number-out-of-range"),
        policy=as_text("policy", required(doc, "policy"), MAX_POLICY_NAME),
        policy_version=as_text("policy_version", required(doc, "policy_version"), MAX_VERSION),
        steps=tuple(read_step(step) for step in steps),
        node=_name(doc, "node"),
        pod=_name(doc, "pod"),
        dwell_ms=safe_int("dwell_ms", required(doc, "dwell_ms")),
        cooldown_ms=safe_int("cooldown_ms", required(doc, "cooldown_ms")),
        min_healthy=bounded(
            "min_healthy", as_int("min_healthy", required(doc, "min_healthy")), 1, 1_000, "number-out-of-range"
        ),
        undo=as_bool("undo", required(doc, "undo")),
        excluded=tuple(_service(service) for service in excluded),
        undoes="" if doc.get("undoes") is None else read_id("undoes", doc["undoes"]),
        decided_at=safe_int("decided_at", required(doc, "decided_at")),
        granted_at=safe_int("granted_at", required(doc, "granted_at")),
    )


def step_fields(step: Step) -> dict[str, Any]:
    """Return a step as one flat object."""
    return {"do": step.do.value, **step.parameters}


def read_step(item: Any) -> Step:
    """Read a step, with every parameter it has and no other. Raises DecodeError."""
    doc = as_object("a step", item)
    do = read_word(Do, doc, "do")
    if unknown := doc.keys() - {"do"} - PARAMETERS[do].keys():
        raise DecodeError("unknown-parameter", f"{do.value} has no parameter {sorted(unknown)[0][:64]}")
    return Step(do, {name: read_parameter(name, doc.get(name), p) for name, p in PARAMETERS[do].items()})


def read_parameter(name: str, item: Any, parameter: Parameter) -> int | str:
    """Return the value of a parameter, its default when there is none. Raises DecodeError."""
    if item is None:
        if parameter.default is None:
            raise DecodeError("parameter-missing", f"{name} is required")
        return parameter.default
    if parameter.is_number:
        return bounded(name, as_int(name, item), parameter.low, parameter.high, "parameter-out-of-range")
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    if not re.fullmatch(parameter.pattern, item):
        raise DecodeError("bad-parameter", f"{name} must match {parameter.pattern}")
    return item


def read_id(name: str, item: Any) -> str:
    """Return an action id. Raises DecodeError `wrong-type` or `bad-id`."""
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    if not _ID.match(item):
        raise DecodeError("bad-id", f"{name} is 32 hexadecimal digits")
    return item


def read_target(item: Any) -> Target:
    """Return what an action is about. Raises DecodeError `wrong-type` or `bad-target`."""
    if type(item) is not str:
        raise wrong_type("target", "a string", item)
    namespace, _, name = item.partition("/")
    if not is_namespace(namespace) or not is_service(name):
        raise DecodeError("bad-target", "a target is namespace/service or node/name")
    return Target(namespace, name)


def _service(item: Any) -> ServiceKey:
    target = read_target(item)
    if target.namespace == NODE_TARGET:
        raise DecodeError("bad-target", "a node is no service")
    return ServiceKey(*target)


def _name(doc: dict[str, Any], name: str) -> str:
    item = doc.get(name)
    if item is None:
        return ""
    if type(item) is not str:
        raise wrong_type(name, "a string", item)
    if not is_service(item):
        raise DecodeError(f"bad-{name}", f"a {name} is an RFC 1123 name")
    return item
