"""Records of `repair-results`: how an action ended, step by step. They close the circle: the fold of the target and the
budget learn from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.alert import Target
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import Do
from waypost.wire.fields import as_list, as_object, as_text, cleaned, read_object, required, safe_int
from waypost.wire.repair_action import MAX_STEPS, read_id, read_target
from waypost.wire.words import read_word

MAX_BYTES = 64 * 1024
MAX_DETAIL = 1_000


class StepOutcome(str, Enum):
    """How one step ended. `already`: an earlier try of the same action had done it."""

    DONE = "done"
    ALREADY = "already"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step's outcome, and what the API said."""

    do: Do
    outcome: StepOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """How an action ended, verified on state after its dwell; `began_at` 0: it was not begun."""

    id: str
    target: Target
    outcome: Outcome
    at: int
    began_at: int = 0
    detail: str = ""
    steps: tuple[StepResult, ...] = ()


def encode_result(result: RepairResult) -> bytes:
    """Write one result. What an API server said is not ours: it is cleaned, so that every result can be read."""
    return orjson.dumps(
        {
            "id": result.id,
            "target": str(result.target),
            "outcome": result.outcome.value,
            "at": result.at,
            "began_at": result.began_at,
            "detail": cleaned(result.detail, MAX_DETAIL),
            "steps": [
                {"do": s.do.value, "outcome": s.outcome.value, "detail": cleaned(s.detail, MAX_DETAIL)}
                for s in result.steps
            ],
        }
    )


def decode_result(value: bytes | None) -> RepairResult:
    """Read one record. Raises DecodeError."""
    if value is None:
        raise DecodeError("tombstone", "a null value is no result")
    doc = read_object(value, MAX_BYTES)
    steps = as_list("steps", required(doc, "steps"))
    if len(steps) > MAX_STEPS:
        raise DecodeError("bad-steps", f"an action has at most {MAX_STEPS} steps")
    return RepairResult(
        id=read_id("id", required(doc, "id")),
        target=read_target(required(doc, "target")),
        outcome=read_word(Outcome, doc, "outcome"),
        at=safe_int("at", required(doc, "at")),
        began_at=safe_int("began_at", required(doc, "began_at")),
        detail=as_text("detail", required(doc, "detail"), MAX_DETAIL),
        steps=tuple(_step(step) for step in steps),
    )


def _step(item: Any) -> StepResult:
    doc = as_object("a step", item)
    return StepResult(
        do=read_word(Do, doc, "do"),
        outcome=read_word(StepOutcome, doc, "outcome"),
        detail=as_text("detail", required(doc, "detail"), MAX_DETAIL),
    )
