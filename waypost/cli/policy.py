"""`waypost policy`: look at repair policies before they are in force."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from waypost.cli.options import output_option
from waypost.cli.output import print_document, print_table
from waypost.errors import DecodeError, PolicyError, SettingsError
from waypost.model.alert import Alert
from waypost.model.alert_processor import Decided
from waypost.model.rehearsal import Rehearsed, TimedAlert, rehearse
from waypost.model.repair import Refusal
from waypost.model.repair_action import RepairAction
from waypost.model.repair_policy import DEFAULT_POLICIES, PolicySet
from waypost.wire.alerts import decode_alert
from waypost.wire.policies import MAX_BYTES, decode_policies

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("policy")
def policy() -> None:
    """Check repair policies, and see what they would have done."""


@policy.command("validate")
@click.argument("file", type=_FILE)
def validate(file: Path) -> None:
    """Check a policy document, YAML or JSON; exit status 1 names every problem with its path."""
    found = _policies(file)
    modes = Counter(one.mode.value for one in found.policies)
    told = ", ".join(f"{n} {mode}" for mode, n in sorted(modes.items())) or "none: nothing would ever be repaired"
    click.echo(f"{file}: version {found.guards.version}, {len(found.policies)} policies ({told})")


@policy.command("test")
@click.argument("file", type=_FILE)
@click.option(
    "--alerts", type=_FILE, required=True,
    help="Recorded alerts: one record of the topic `alerts` per line, in order. A line may begin with the append time "
    "in ms and a tab, as kcat -f '%T\\t%s\\n' writes it.",
)  # fmt: skip
@click.option("--as-acting", is_flag=True, help="Ask what would be done if no policy were shadow or needed approval.")
@output_option
def test(file: Path, alerts: Path, as_acting: bool, output: str) -> None:
    """Show what a policy document would have done with recorded alerts, and why.

    The rules are those of the repair job. Every repair is taken to succeed, and the budget is not asked: it needs the
    live tables. Use `default` as FILE for the policies that hold when there are none.
    """
    policies = DEFAULT_POLICIES if str(file) == "default" else _policies(file)
    found = rehearse(policies, _recorded(alerts), as_acting=as_acting)
    if output == "table":
        print_table([_row(one) for one in found], ("AT", "ALERT", "TARGET", "POLICY", "DECISION", "WHY"))
        done = sum(_acts(one) for one in found)
        click.echo(f"{len(found)} decisions, {done} repairs")
    else:
        print_document([_document(one) for one in found], output)


def _policies(file: Path) -> PolicySet:
    try:
        return decode_policies(_bytes(file)[: MAX_BYTES + 1])
    except PolicyError as error:
        lines = "\n".join(f"  {path or 'document'}: {what}" for path, what in error.problems)
        raise SettingsError(f"{file} is refused:\n{lines}") from error


def _recorded(file: Path) -> list[TimedAlert]:
    found = []
    for number, line in enumerate(_bytes(file).splitlines(), start=1):
        at, tab, value = line.partition(b"\t")
        if not tab:
            at, value = b"", line
        if not value.strip():
            continue
        try:
            alert = decode_alert(value)
        except DecodeError as error:
            raise SettingsError(f"{file}, line {number}: {error}") from error
        found.append(TimedAlert(_time(file, number, at) if tab else alert.starts_at, alert))
    return found


def _time(file: Path, number: int, text: bytes) -> int:
    if not text.isdigit() or len(text) > 15:
        raise SettingsError(f"{file}, line {number}: what stands before the tab is no append time in ms")
    return int(text)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error


def _acts(one: Rehearsed) -> bool:
    decision = one.told.decision if isinstance(one.told, Decided) else None
    return isinstance(decision, RepairAction) and not decision.undoes


def _row(one: Rehearsed) -> tuple[str, ...]:
    document = _document(one)
    alert = one.told.alert
    why = " ".join(filter(None, (document["reason"], document["detail"])))
    if document["would"]:
        why += f", would {', '.join(document['would'])}"
    did = f"{document['decision']} {', '.join(document['steps'])}".strip()
    return str(one.at), f"{alert.type} {alert.status.value}", document["target"] or "-", one.policy or "-", did, why


def _document(one: Rehearsed) -> dict[str, Any]:
    told, alert = one.told, one.told.alert
    head: dict[str, Any] = {"at": one.at, **_about(alert), "policy": one.policy}
    if not isinstance(told, Decided):
        return {
            **head,
            "decision": "cancel",
            "id": told.action.id,
            "steps": [],
            "reason": "",
            "detail": "",
            "would": [],
        }
    decision = told.decision
    if isinstance(decision, Refusal):
        would = [step.do.value for step in decision.would.steps] if decision.would is not None else []
        said = {"reason": decision.reason.value, "detail": decision.detail, "would": would}
        return {**head, "decision": "refuse", "id": "", "steps": [], **said}
    steps = [step.do.value for step in decision.steps]
    kind = "undo" if decision.undoes else "act"
    return {**head, "decision": kind, "id": decision.id, "steps": steps, "reason": "", "detail": "", "would": []}


def _about(alert: Alert) -> dict[str, Any]:
    return {
        "target": str(alert.target) if alert.target is not None else "",
        "type": alert.type,
        "status": alert.status.value,
        "fingerprint": alert.fingerprint,
        "startsAt": alert.starts_at,
    }


commands: list[click.Command] = [policy]
