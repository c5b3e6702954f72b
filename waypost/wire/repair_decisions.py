"""Records of `repair-actions`: every decision about an alert, those not to act included.

    act      the action was granted: whoever executes it may begin, until `granted_at` + 10 min
    undo     the same, for taking back what an earlier action did
    ask      the action was decided and waits for the budget
    refuse   nothing is done, `reason` says why; `action` is what would have been done, if that is known
    cancel   the alert of this action is over: whoever has not begun must not

A record is evidence as well as an order: it says which alert, policy and version led to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.alert import Alert
from waypost.model.refusals import Reason
from waypost.model.repair import Refusal
from waypost.model.repair_action import RepairAction
from waypost.wire.alerts import read_fingerprint, read_type
from waypost.wire.fields import as_text, read_object, required, safe_int
from waypost.wire.repair_action import action_fields, read_action
from waypost.wire.words import read_word

MAX_BYTES = 1024 * 1024
MAX_DETAIL = 1_000


class DecisionKind(str, Enum):
    """What a record says."""

    ACT = "act"
    UNDO = "undo"
    ASK = "ask"
    REFUSE = "refuse"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One decision about the alert (`type`, `fingerprint`, `starts_at`) of `target`, "" when it named none."""

    kind: DecisionKind
    at: int
    target: str
    type: str
    fingerprint: str
    starts_at: int
    reason: Reason | None = None
    detail: str = ""
    retry_at: int | None = None
    action: RepairAction | None = None


def decision_record(alert: Alert, decision: RepairAction | Refusal, now: int) -> DecisionRecord:
    """Return the record of a decision as it leaves the rules: an action only asks, until it is granted."""
    target = str(alert.target) if alert.target is not None else ""
    told = {"target": target, "type": alert.type, "fingerprint": alert.fingerprint, "starts_at": alert.starts_at}
    if isinstance(decision, RepairAction):
        return action_record(decision, now)
    return DecisionRecord(
        kind=DecisionKind.REFUSE,
        at=now,
        reason=decision.reason,
        detail=decision.detail,
        retry_at=decision.retry_at,
        action=decision.would,
        **told,  # type: ignore[arg-type]
    )


def action_record(action: RepairAction, now: int, refusal: Refusal | None = None) -> DecisionRecord:
    """Return the record of what the budget said of an action: granted, or refused; or (not granted, no refusal) that
    it was asked for."""
    kind = DecisionKind.UNDO if action.undoes else DecisionKind.ACT
    if refusal is not None:
        kind = DecisionKind.REFUSE
    elif not action.granted_at:
        kind = DecisionKind.ASK
    return DecisionRecord(
        kind=kind,
        at=now,
        target=str(action.target),
        type=action.type,
        fingerprint=action.fingerprint,
        starts_at=action.starts_at,
        reason=refusal.reason if refusal is not None else None,
        detail=refusal.detail if refusal is not None else "",
        retry_at=refusal.retry_at if refusal is not None else None,
        action=action,
    )


def cancel_record(action: RepairAction, now: int) -> DecisionRecord:
    """Return the record that an action must not begin any more."""
    return DecisionRecord(
        kind=DecisionKind.CANCEL,
        at=now,
        target=str(action.target),
        type=action.type,
        fingerprint=action.fingerprint,
        starts_at=action.starts_at,
        action=action,
    )


def encode_decision(record: DecisionRecord) -> bytes:
    """Write one decision."""
    return orjson.dumps(
        {
            "decision": record.kind.value,
            "at": record.at,
            "target": record.target,
            "type": record.type,
            "fingerprint": record.fingerprint,
            "startsAt": record.starts_at,
            "reason": record.reason.value if record.reason is not None else None,
            "detail": record.detail[:MAX_DETAIL],
            "retry_at": record.retry_at,
            "action": action_fields(record.action) if record.action is not None else None,
        }
    )


def decode_decision(value: bytes | None) -> DecisionRecord:
    """Read one record. Raises DecodeError; an order without its action, or a refusal without its reason, is none."""
    if value is None:
        raise DecodeError("tombstone", "a null value is no decision")
    doc = read_object(value, MAX_BYTES)
    kind = read_word(DecisionKind, doc, "decision")
    refused = kind is DecisionKind.REFUSE
    if doc.get("startsAt") is None:
        raise DecodeError("starts-at-missing", "the field startsAt is absent or null")
    return DecisionRecord(
        kind=kind,
        at=safe_int("at", required(doc, "at")),
        target=as_text("target", required(doc, "target"), 320),
        type=read_type(required(doc, "type")),
        fingerprint=read_fingerprint(required(doc, "fingerprint")),
        starts_at=safe_int("startsAt", doc["startsAt"]),
        reason=read_word(Reason, doc, "reason") if refused else None,
        detail=as_text("detail", required(doc, "detail"), MAX_DETAIL),
        retry_at=_moment(doc),
        action=read_action(required(doc, "action")) if not refused or doc.get("action") is not None else None,
    )


def _moment(doc: dict[str, Any]) -> int | None:
    return None if doc.get("retry_at") is None else safe_int("retry_at", doc["retry_at"])
