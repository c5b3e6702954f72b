"""What to do about one object of the API server: compare what is there with what has to be there.

Only what we say counts: fields that the API server, an operator or a person adds are left alone, unless we once said
something else of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

FINGERPRINT = "waypost.io/applied"
"""Annotation: of what was applied last. It tells of fields that are no longer said and have to go."""


class Step(Enum):
    """What to do about it."""

    KEEP = "keep"
    CREATE = "create"
    HEAL = "heal"
    """It is there and differs, by a new wish or by somebody's hand."""
    WAIT = "wait"
    """It must not be made yet."""
    FOREIGN = "foreign"
    """Something else has its name; that is never touched."""
    GOING = "going"
    """One with its name is being deleted; its successor waits until it is gone."""


def marked(desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with its fingerprint."""
    metadata = dict(desired["metadata"])
    metadata["annotations"] = {**metadata.get("annotations", {}), FINGERPRINT: fingerprint(desired)}
    return {**desired, "metadata": metadata}


def fingerprint(desired: Mapping[str, Any]) -> str:
    text = json.dumps(desired, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def decide(observed: Mapping[str, Any] | None, desired: Mapping[str, Any], *, may_create: bool) -> Step:
    """Return the step that makes `observed` what `desired` (marked, with its owner) says."""
    if observed is None:
        return Step.CREATE if may_create else Step.WAIT
    if not owned(observed, desired["metadata"]["ownerReferences"][0]["uid"]):
        return Step.FOREIGN
    if observed["metadata"].get("deletionTimestamp"):
        return Step.GOING
    return Step.KEEP if covers(observed, desired) else Step.HEAL


def owned(observed: Mapping[str, Any], uid: str) -> bool:
    """Return whether the object with this uid is its owner."""
    return any(owner.get("uid") == uid for owner in observed["metadata"].get("ownerReferences") or ())


def covers(observed: Any, desired: Any) -> bool:
    """Return whether everything in `desired` is so in `observed`. Lists are as long and in the same order."""
    if isinstance(desired, Mapping):
        return isinstance(observed, Mapping) and all(
            # The API server drops what is empty.
            (key in observed and covers(observed[key], value)) or (key not in observed and value in ({}, [], None))
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(observed, list)
            and len(observed) == len(desired)
            and all(covers(there, wanted) for there, wanted in zip(observed, desired, strict=True))
        )
    return bool(observed == desired) and isinstance(observed, bool) == isinstance(desired, bool)
