"""`waypost config`: what the configurations were, what a change set changed, and taking it back."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from waypost.cli.config_sync import SOURCE, TOPIC, read_scope
from waypost.cli.options import kafka_address, kafka_option, output_option, state_dir_option
from waypost.cli.output import print_document, print_table
from waypost.client.change_log import read_logged
from waypost.client.config_feed import KafkaFeed, read_to_end
from waypost.errors import DecodeError, SettingsError
from waypost.model.config_history import CannotUndo, Version, undo
from waypost.model.configs import Content


@click.group()
def config() -> None:
    """Show the configurations' history, and take a change set back."""


@config.command("history")
@click.argument("prefix", default="", metavar="[NAME]")
@click.option("--topic", default=TOPIC, show_default=True, help="The topic for configurations.")
@output_option
@kafka_option
@state_dir_option
def history(prefix: str, topic: str, output: str, kafka: str | None, state_dir: Path) -> None:
    """Show every version of the configurations whose name is NAME or begins with it, the newest last.

    The topic keeps superseded versions for its min.compaction.lag.ms, a week unless set otherwise.
    """
    found = [one for one in _versions(kafka_address(kafka, state_dir), topic) if one.name.startswith(prefix)]
    if output != "table":
        print_document([_document(one) for one in found], output)
        return
    print_table(
        [
            (
                _clock(one.at),
                one.name,
                str(one.revision) if one.content is not None else "<gone>",
                one.change_set or "<none>",
                str(len(one.content.plain())) if one.content is not None else "0",
                one.content.checksum[:12] if one.content is not None else "<none>",
            )
            for one in found
        ],
        ("TIME", "NAME", "REVISION", "CHANGE-SET", "BYTES", "SHA256"),
    )


@config.command("diff")
@click.argument("change_set")
@click.option("--topic", default=TOPIC, show_default=True, help="The topic for configurations.")
@kafka_option
@state_dir_option
def diff(change_set: str, topic: str, kafka: str | None, state_dir: Path) -> None:
    """Show what a change set changed, configuration by configuration. CHANGE_SET is its id as `history` shows it."""
    versions = _versions(kafka_address(kafka, state_dir), topic)
    try:
        before = undo(versions, change_set, force=True, keep_same=True)
    except CannotUndo as error:
        raise SettingsError(str(error)) from error
    after = {one.name: one.content for one in versions if one.change_set == change_set}
    for name in sorted(before):
        for line in _diff(name, before[name], after[name]):
            click.echo(line)


@config.command("rollback")
@click.argument("change_set")
@click.option("--dry-run", is_flag=True, help="Show what would change and write nothing.")
@click.option("--force", is_flag=True, help="Also undo what was changed again since.")
@click.option(
    "--publish", multiple=True, metavar="NAMESPACE/NAME=PREFIX", help="As config-sync was given it."
)  # fmt: skip
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), envvar="KUBECONFIG",
    help="How to reach the Kubernetes API. [default: the pod's service account]",
)  # fmt: skip
@click.option("--topic", default=TOPIC, show_default=True, help="The topic for configurations.")
@kafka_option
@state_dir_option
def rollback(
    change_set: str,
    dry_run: bool,
    force: bool,
    publish: tuple[str, ...],
    kubeconfig: Path | None,
    topic: str,
    kafka: str | None,
    state_dir: Path,
) -> None:
    """Give the ConfigMaps of a change set what they had before it, as one new change set. `history` shows the id.

    Correct what the ConfigMaps are made from as well, or the next deployment brings the change back.
    """
    versions = _versions(kafka_address(kafka, state_dir), topic)
    try:
        undone = undo(versions, change_set, force=force)
    except CannotUndo as error:
        raise SettingsError(str(error)) from error
    now = {one.name: one.content for one in versions}
    for name in sorted(undone):
        for line in _diff(name, now[name], undone[name]):
            click.echo(line)
    if dry_run:
        return
    try:
        from waypost.controller.config_rollback import by_object, write_back
        from waypost.kubernetes_access import api_client
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[config-sync]'") from error
    name = f"rollback-{int(time.time() * 1000)}"
    try:
        objects = by_object(undone, read_scope(SOURCE, publish))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    with api_client(kubeconfig, usual_file=True) as api:
        write_back(api, objects, name)
    click.echo(f"rolled back {change_set}: {', '.join(str(one.key) for one in objects)}")


# --- reading and showing ----------------------------------------------------------------------


def _versions(bootstrap: str, topic: str) -> list[Version]:
    feed = KafkaFeed(bootstrap, topic)
    found = []
    try:
        for raw in read_to_end(feed):
            try:
                one = read_logged(raw.key, raw.value, raw.headers, raw.offset, raw.at)
            except DecodeError as error:
                click.echo(f"offset {raw.offset} is no configuration: {error}", err=True)
                continue
            found.append(
                Version(
                    name=one.name,
                    revision=one.record.revision if one.record is not None else 0,
                    content=one.record.content if one.record is not None else None,
                    change_set=one.change_set,
                    at=one.at,
                    previous=one.record.previous if one.record is not None else None,
                )
            )
    finally:
        feed.close()
    return found


def _diff(name: str, before: Content | None, after: Content | None) -> Iterator[str]:
    if before == after:
        return
    if any(one is not None and one.binary for one in (before, after)):
        yield f"{name}: binary, {_short(before)} -> {_short(after)}"
        return
    old = before.text.splitlines() if before is not None else []
    new = after.text.splitlines() if after is not None else []
    yield from difflib.unified_diff(
        old, new, f"{name} {_short(before)}", f"{name} {_short(after)}", lineterm=""
    )  # fmt: skip


def _short(content: Content | None) -> str:
    return "<none>" if content is None else content.checksum[:12]


def _document(one: Version) -> dict[str, Any]:
    return {
        "time": _clock(one.at),
        "name": one.name,
        "revision": one.revision if one.content is not None else None,
        "change_set": one.change_set or None,
        "checksum": one.content.checksum if one.content is not None else None,
        "value": one.content.text if one.content is not None else None,
        "encoding": "base64" if one.content is not None and one.content.binary else None,
    }


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


commands: list[click.Command] = [config]
