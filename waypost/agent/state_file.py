"""What an agent looks after, on disk, so that the one that starts after a crash takes it over.

Without it the instances of a killed agent would lapse although they live, unless each registered itself again. The file
is replaced whole and checked like anything from outside; one that cannot be read is set aside, not overwritten.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from waypost.agent.member import Who, member_document, read_member
from waypost.agent.roster import Stage, Standing, Told
from waypost.client.registry.instance import checked_id, checked_service
from waypost.errors import DecodeError, InvalidInstance, SettingsError
from waypost.model.lifecycle import Health
from waypost.wire.fields import as_bool, as_list, as_object, read_object, required
from waypost.wire.words import read_word

_log = logging.getLogger(__name__)

VERSION = 1
MAX_BYTES = 64 * 1024 * 1024


def read_state(path: Path, namespace: str) -> list[Standing]:
    """Return the instances of an agent of this namespace; none when there is no file that can be read."""
    try:
        document = read_object(path.read_bytes(), MAX_BYTES)
        if document.get("version") != VERSION or document.get("namespace") != namespace:
            raise DecodeError("unknown-version", "written by another release, or for another namespace")
        return [_standing(as_object("an instance", item)) for item in as_list("instances", document.get("instances"))]
    except FileNotFoundError:
        return []
    except (OSError, DecodeError, InvalidInstance) as error:
        aside = path.with_name(f"{path.name}.unreadable")
        _log.warning("%s cannot be read (%s): set aside as %s, nothing is taken over", path, error, aside)
        with contextlib.suppress(OSError):
            path.replace(aside)
        return []


def write_state(path: Path, namespace: str, standings: Iterable[Standing]) -> None:
    """Replace the file; nobody else may read it. Raises OSError."""
    content = orjson.dumps(
        {"version": VERSION, "namespace": namespace, "instances": [_document(each) for each in standings]}
    )
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


@contextlib.contextmanager
def only_agent(path: Path) -> Iterator[None]:
    """Be the only agent of a lock file. Raises SettingsError when there is another; a dead one holds nothing."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(f"another agent is running: it holds {path}") from error
        yield
    finally:
        os.close(file)


def _document(standing: Standing) -> dict[str, Any]:
    told = standing.told
    return {
        "service": standing.member.who.service,
        "instance": standing.member.who.instance,
        "member": member_document(standing.member),
        "stage": standing.stage.value,
        "health": standing.health.value,
        "told": {
            "stage": told.stage.value if told.stage is not None else None,
            "health": told.health.value,
            "tried": told.tried,
        },
    }


def _standing(doc: dict[str, Any]) -> Standing:
    who = Who(checked_service(required(doc, "service")), checked_id(required(doc, "instance")))
    told = as_object("told", required(doc, "told"))
    return Standing(
        member=read_member(who, as_object("member", required(doc, "member"))),
        stage=read_word(Stage, doc, "stage"),
        health=read_word(Health, doc, "health"),
        told=Told(
            stage=None if told.get("stage") is None else read_word(Stage, told, "stage"),
            health=read_word(Health, told, "health"),
            tried=as_bool("tried", required(told, "tried")),
        ),
    )
