"""What people say to the repair job, as configurations on `service-config`.

    repair/control              {"enabled": false, "by": …, "at": …, "because": …}      the switch
    repair/policies             a policy document (`waypost.wire.policies`)
    repair/approval/<action>    {"action": …, "plan": …, "target": …, "by": …, "at": …} yes to one action
    repair/resume/<target>      {"target": …, "by": …, "at": …}                         it may be repaired again

The first two are states: the newest counts. The others are words that count once, when they are read. An approval is
for what the record of the asking said (`plan`): without, or with that of another policy, it approves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.alert import Target
from waypost.model.repair_state import Approval
from waypost.wire.config import ConfigRecord
from waypost.wire.fields import as_bool, as_text, read_object, required, safe_int, wrong_type
from waypost.wire.repair_action import read_id, read_target

PREFIX = "repair/"
CONTROL = "repair/control"
POLICIES = "repair/policies"
_APPROVAL = "repair/approval/"
_RESUME = "repair/resume/"

MAX_BYTES = 4 * 1024
MAX_BECAUSE = 500

_BY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What an operator said of all repairs."""

    enabled: bool
    by: str
    at: int
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """A person's word that a target may be repaired again."""

    target: Target
    by: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFor:
    """A person's word for one action, and whose action that is."""

    target: Target
    approval: Approval


def switch_config(switch: Switch) -> ConfigRecord:
    """Return the configuration that is the switch."""
    doc = {"enabled": switch.enabled, "by": switch.by, "at": switch.at, "because": switch.because[:MAX_BECAUSE]}
    return _config(CONTROL, switch.at, doc)


def decode_switch(value: str) -> Switch:
    """Read the switch. Raises DecodeError."""
    doc = read_object(value, MAX_BYTES)
    return Switch(
        enabled=as_bool("enabled", required(doc, "enabled")),
        by=_by(doc),
        at=safe_int("at", required(doc, "at")),
        because="" if doc.get("because") is None else as_text("because", doc["because"], MAX_BECAUSE),
    )


def approval_config(said: ApprovalFor) -> ConfigRecord:
    """Return the configuration that approves an action."""
    approval = said.approval
    doc = {
        "action": approval.action_id, "plan": approval.plan, "target": str(said.target), "by": approval.by,
        "at": approval.at,
    }  # fmt: skip
    return _config(_APPROVAL + approval.action_id, approval.at, doc)


def resume_config(said: Resumption) -> ConfigRecord:
    """Return the configuration that resumes a target."""
    return _config(
        f"{_RESUME}{said.target}", said.at, {"target": str(said.target), "by": said.by, "at": said.at}
    )  # fmt: skip


def decode_word(record: ConfigRecord) -> ApprovalFor | Resumption | None:
    """Read a word to one target; None for a configuration that is none. Raises DecodeError, also when its name says
    another thing than its value."""
    if not record.name.startswith((_APPROVAL, _RESUME)):
        return None
    doc = read_object(record.value, MAX_BYTES)
    target = read_target(required(doc, "target"))
    by, at = _by(doc), safe_int("at", required(doc, "at"))
    if record.name.startswith(_APPROVAL):
        action = read_id("action", required(doc, "action"))
        plan = "" if doc.get("plan") in (None, "") else read_id("plan", doc["plan"])
        said: ApprovalFor | Resumption = ApprovalFor(target=target, approval=Approval(action, by, at, plan))
        name = _APPROVAL + action
    else:
        said = Resumption(target=target, by=by, at=at)
        name = f"{_RESUME}{target}"
    if name != record.name:
        raise DecodeError("other-name", f"the value belongs under {name}")
    return said


def _config(name: str, at: int, doc: dict[str, Any]) -> ConfigRecord:
    return ConfigRecord(name=name, revision=at, value=orjson.dumps(doc).decode())


def _by(doc: dict[str, Any]) -> str:
    item = required(doc, "by")
    if type(item) is not str:
        raise wrong_type("by", "a string", item)
    if not _BY.match(item):
        raise DecodeError("bad-by", "by is 1 to 128 of A-Z a-z 0-9 . _ : @ / - and begins with a letter or digit")
    return item
