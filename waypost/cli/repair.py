"""`waypost repair`: what was repaired and why not, and a person's word in it.

What is shown is read from the topics of evidence; what is said becomes a configuration on `service-config`.
"""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import click

from waypost.cli.options import kafka_address, kafka_option, output_option, state_dir_option
from waypost.cli.output import Row, age, print_document, print_table
from waypost.errors import DecodeError, RegistryUnavailable, SettingsError
from waypost.model.alert import Alert, Target
from waypost.model.alert_processor import Decided
from waypost.model.rehearsal import TimedAlert, rehearse
from waypost.model.repair import Refusal
from waypost.model.repair_policy import PolicySet
from waypost.model.repair_state import Approval
from waypost.repair.configuration import Configuration, Configured, Reading
from waypost.repair.history import Story, stories, waiting_for_approval
from waypost.repair.topic_log import read_since, write
from waypost.topics import CONFIG, REPAIR_ACTIONS, REPAIR_RESULTS, default_topics
from waypost.wire.alerts import decode_alert
from waypost.wire.config import ConfigRecord, encode_config
from waypost.wire.policies import decode_policies
from waypost.wire.repair_action import read_target, step_fields
from waypost.wire.repair_config import (
    POLICIES,
    ApprovalFor,
    Resumption,
    Switch,
    approval_config,
    resume_config,
    switch_config,
)
from waypost.wire.repair_decisions import decode_decision
from waypost.wire.repair_results import decode_result

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_TOPICS = default_topics()
_FILE = click.Path(dir_okay=False, path_type=Path)


def _now() -> int:
    return int(time.time() * 1000)


def _since_option(function: F) -> F:
    return click.option(
        "--since", default="24h", show_default=True, metavar="TIME", callback=_span,
        help="How far back: 30m, 24h, 7d.",
    )(function)  # fmt: skip


def _by_option(function: F) -> F:
    return click.option("--by", metavar="WORD", help="Who says so. [default: operator:<you>]", callback=_by)(function)


def _span(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no time such as 30m, 24h or 7d")
    return int(found[1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]


def _by(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    if value is None:
        return "operator:" + (re.sub(r"[^A-Za-z0-9._-]", "", getpass.getuser())[:64] or "unknown")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", value):
        raise click.BadParameter("1 to 128 of A-Z a-z 0-9 . _ : @ / -")
    return value


@click.group("repair")
def repair() -> None:
    """Show what was repaired and why not, approve, pause and resume."""


@repair.command("list")
@click.option("-n", "--namespace", help="Only this namespace, `node` for nodes. [default: all]")
@_since_option
@output_option
@kafka_option
@state_dir_option
def list_(namespace: str | None, since: int, output: str, kafka: str | None, state_dir: Path) -> None:
    """Show every fault that was decided about, the newest last: where it stands, and why."""
    found = [
        story
        for story in _stories(kafka_address(kafka, state_dir), since)
        if namespace is None or story.target.partition("/")[0] == namespace
    ]
    if output != "table":
        print_document([_document(story) for story in found], output)
        return
    now = _now()
    print_table([_row(story, now) for story in found], ("TARGET", "ALERT", "STATE", "STEPS", "AGE", "ACTION", "WHY"))


def _row(story: Story, now: int) -> Row:
    action = story.action
    return (
        story.target or "<none>",
        story.type,
        story.state,
        ",".join(step.do.value for step in story.steps) or "<none>",
        age(story.at, now),
        action.id[:12] if action is not None else "<none>",
        story.detail,
    )


@repair.command("describe")
@click.argument("what", metavar="ACTION|TARGET|FINGERPRINT")
@_since_option
@output_option
@kafka_option
@state_dir_option
def describe(what: str, since: int, output: str, kafka: str | None, state_dir: Path) -> None:
    """Show everything that was decided about an action, a target or an alert, and what became of it."""
    found = [story for story in _stories(kafka_address(kafka, state_dir), since) if _is_about(story, what)]
    if not found:
        raise SettingsError(f"nothing is known of {what} in this time")
    if output != "table":
        print_document([_document(story) for story in found], output)
        return
    for story in found:
        click.echo(f"{story.target or '<none>'}  {story.type}  {story.fingerprint}  since {_clock(story.starts_at)}")
        for line in _lines(story):
            click.echo(f"  {line}")


def _is_about(story: Story, what: str) -> bool:
    ids = {one.action.id for one in story.decisions if one.action is not None}
    return what in (story.target, story.fingerprint) or (len(what) >= 4 and any(i.startswith(what) for i in ids))


def _lines(story: Story) -> Iterator[str]:
    told: list[tuple[int, str]] = []
    for one in story.decisions:
        why = f" {one.reason.value}" if one.reason is not None else ""
        which = f" {one.action.id[:12]} attempt {one.action.attempt}" if one.action is not None else ""
        policy = f" by {one.action.policy} ({one.action.policy_version})" if one.action is not None else ""
        told.append((one.at, f"{one.kind.value}{why}{which}{policy} {one.detail}".rstrip()))
    for result in story.results:
        told.append((result.at, f"{result.outcome.value} {result.id[:12]} {result.detail}".rstrip()))
        told += [(result.at, f"  {s.do.value}: {s.outcome.value} {s.detail}".rstrip()) for s in result.steps]
    yield from (f"{_clock(at)}  {text}" for at, text in sorted(told, key=lambda one: one[0]))


@repair.command("approve")
@click.argument("action")
@_by_option
@_since_option
@kafka_option
@state_dir_option
def approve(action: str, by: str, since: int, kafka: str | None, state_dir: Path) -> None:
    """Say yes to one repair that waits for a person. ACTION is its id, or the beginning of it (4 signs or more)."""
    if len(action) < 4:
        raise click.UsageError("the beginning of an action's id has at least 4 signs")
    address = kafka_address(kafka, state_dir)
    waiting = waiting_for_approval(_stories(address, since), action)
    if len(waiting) != 1:
        several = ", ".join(story.action.id for story in waiting if story.action is not None)
        raise SettingsError(f"{action} begins several: {several}" if waiting else f"{action} waits for nobody's word")
    found = waiting[0].action
    assert found is not None
    _say(
        address, approval_config(ApprovalFor(target=found.target, approval=Approval(found.id, by, _now(), found.plan)))
    )
    steps = ", ".join(step.do.value for step in found.steps)
    click.echo(f"{found.target}: {steps} approved by {by} ({found.id})")


@repair.command("pause")
@click.option("--because", default="", metavar="TEXT", help="Why, for whoever wonders.")
@_by_option
@kafka_option
@state_dir_option
def pause(because: str, by: str, kafka: str | None, state_dir: Path) -> None:
    """Stop all repairs, within 10 s; those under way stand still before their next call."""
    _say_anew(kafka_address(kafka, state_dir), switch_config(Switch(enabled=False, by=by, at=_now(), because=because)))
    click.echo(f"repairs are paused by {by}")


@repair.command("resume")
@click.argument("target", required=False, metavar="[NAMESPACE/SERVICE|node/NAME]")
@_by_option
@kafka_option
@state_dir_option
def resume(target: str | None, by: str, kafka: str | None, state_dir: Path) -> None:
    """Let repairs go on; with a target, forget its attempts and its cooldown, so that it may be repaired again."""
    address = kafka_address(kafka, state_dir)
    if target is None:
        _say_anew(address, switch_config(Switch(enabled=True, by=by, at=_now())))
        click.echo(f"repairs are resumed by {by}")
        return
    _say(address, resume_config(Resumption(target=_target(target), by=by, at=_now())))
    click.echo(f"{target} may be repaired again, says {by}")


@repair.command("dry-run")
@click.argument("alert", type=click.File("rb"))
@click.option("--as-acting", is_flag=True, help="Ask what would be done if no policy were shadow or needed approval.")
@output_option
@kafka_option
@state_dir_option
def dry_run(alert: Any, as_acting: bool, output: str, kafka: str | None, state_dir: Path) -> None:
    """Show what the policies in force would do about an alert (a record of `alerts` as JSON; `-` reads it).

    The alert is taken for the first of its target, and the budget is not asked. Nothing is written.
    """
    try:
        given = decode_alert(alert.read())
    except DecodeError as error:
        raise SettingsError(f"this is no alert: {error}") from error
    configuration = _in_force(kafka_address(kafka, state_dir))
    print_document(list(_dry(configuration, given, as_acting=as_acting)), "json" if output == "table" else output)


def _dry(configuration: Configuration, alert: Alert, *, as_acting: bool) -> Iterator[dict[str, Any]]:
    now = _now()
    if (stopped := configuration.control.refuses(now)) is not None:
        yield {"decision": "refuse", "reason": stopped.value, "detail": "but for that:"}
    for one in rehearse(configuration.policies, [TimedAlert(now, alert)], as_acting=as_acting):
        if not isinstance(one.told, Decided):
            continue
        decision = one.told.decision
        document: dict[str, Any] = {"after_s": (one.at - now) // 1000, "policy": one.policy}
        if isinstance(decision, Refusal):
            would = [step_fields(step) for step in decision.would.steps] if decision.would is not None else []
            yield {**document, "decision": "refuse", "reason": decision.reason.value, "detail": decision.detail,
                   "would": would}  # fmt: skip
        else:
            yield {**document, "decision": "act", "steps": [step_fields(step) for step in decision.steps]}


@repair.command("policies")
@click.argument("file", type=_FILE)
@_by_option
@kafka_option
@state_dir_option
def policies(file: Path, by: str, kafka: str | None, state_dir: Path) -> None:
    """Put a policy document in force, without a restart. It is checked first, and taken whole or not at all."""
    try:
        text = file.read_text(encoding="utf-8")
        found: PolicySet = decode_policies(text)
    except (OSError, UnicodeDecodeError, DecodeError) as error:
        raise SettingsError(f"{file}: {error}") from error
    _say_anew(kafka_address(kafka, state_dir), ConfigRecord(name=POLICIES, revision=_now(), value=text, change_set=by))
    click.echo(f"{file}: version {found.guards.version}, {len(found.policies)} policies, in force within seconds")


# --- the topics -------------------------------------------------------------------------------


def _say(address: str, record: ConfigRecord) -> None:
    write(address, _TOPICS[CONFIG].name, *encode_config(record))


def _say_anew(address: str, record: ConfigRecord) -> None:
    """Say what replaces what was said before: by a higher revision, whatever the clock of whoever said that. Who cannot
    read is heard all the same, if clocks agree."""
    try:
        known = _read(address).revisions.get(record.name, 0)
    except RegistryUnavailable:
        known = 0
    _say(address, replace(record, revision=max(record.revision, known + 1)))


def _stories(address: str, since: int) -> list[Story]:
    start = _now() - since
    decisions = _decoded(read_since(address, _TOPICS[REPAIR_ACTIONS].name, start), decode_decision)
    results = _decoded(read_since(address, _TOPICS[REPAIR_RESULTS].name, start), decode_result)
    return stories(decisions, results)


def _decoded(
    records: list[tuple[bytes | None, bytes | None]], decode: Callable[[bytes | None], T]
) -> list[T]:  # fmt: skip
    found = []
    for _, value in records:
        try:
            found.append(decode(value))
        except DecodeError as error:
            click.echo(f"a record that is none: {error}", err=True)
    return found


def _read(address: str) -> Configuration:
    class Whole:
        def read(self) -> Reading:
            return Reading(True, read_since(address, _TOPICS[CONFIG].name, 0))

        def close(self) -> None:
            """Nothing is open."""

    return Configured(Whole, _now).current()


def _in_force(address: str) -> Configuration:
    found = _read(address)
    if found.problem:
        click.echo(found.problem, err=True)
    return found


def _target(text: str) -> Target:
    try:
        return read_target(text)
    except DecodeError as error:
        raise click.UsageError(str(error)) from error


def _document(story: Story) -> dict[str, Any]:
    action = story.action
    return {
        "target": story.target,
        "type": story.type,
        "fingerprint": story.fingerprint,
        "startsAt": story.starts_at,
        "state": story.state,
        "detail": story.detail,
        "at": story.at,
        "action": action.id if action is not None else None,
        "policy": action.policy if action is not None else None,
        "steps": [step_fields(step) for step in story.steps],
        "decisions": [
            {
                "at": one.at,
                "decision": one.kind.value,
                "reason": one.reason.value if one.reason is not None else None,
                "detail": one.detail,
                "action": one.action.id if one.action is not None else None,
            }
            for one in story.decisions
        ],
        "results": [
            {
                "at": one.at,
                "action": one.id,
                "outcome": one.outcome.value,
                "detail": one.detail,
                "steps": [{"do": s.do.value, "outcome": s.outcome.value, "detail": s.detail} for s in one.steps],
            }
            for one in story.results
        ],
    }


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


commands: list[click.Command] = [repair]
