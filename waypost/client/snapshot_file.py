"""Tables on disk, for a program that starts while its registry is away.

The file is replaced whole, so a crash leaves the old one or the new one. What is in it is checked like anything from
outside: a file that cannot be read is as good as none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from waypost.client.registry.feed import ServiceSnapshot
from waypost.client.registry.instance import Instance, checked, checked_service
from waypost.errors import DecodeError, InvalidInstance
from waypost.model.lifecycle import Status
from waypost.wire.fields import as_list, as_object, as_text, read_object, required, safe_int
from waypost.wire.words import read_word

_log = logging.getLogger(__name__)

VERSION = 1
MAX_BYTES = 256 * 1024 * 1024


def read_snapshots(path: Path) -> dict[str, ServiceSnapshot]:
    """Return service → snapshot, stale since it was written; empty when there is no file that can be read."""
    try:
        document = read_object(path.read_bytes(), MAX_BYTES)
        if document.get("version") != VERSION:
            raise DecodeError("unknown-version", "written by another release")
        written = safe_int("written", required(document, "written"))
        services = as_object("services", required(document, "services"))
        return {name: _snapshot(checked_service(name), entry, written) for name, entry in services.items()}
    except FileNotFoundError:
        return {}
    except (OSError, DecodeError, InvalidInstance) as error:
        _log.warning("saved tables in %s cannot be read: %s", path, error)
        return {}


def write_snapshots(path: Path, snapshots: Mapping[str, ServiceSnapshot], now_ms: int) -> None:
    """Replace the file. Raises OSError."""
    services = {
        name: {"position": snapshot.position, "instances": [_fields(i) for i in snapshot.callable.values()]}
        for name, snapshot in sorted(snapshots.items())
        if snapshot.position
    }
    content = orjson.dumps({"version": VERSION, "written": now_ms, "services": services})
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _fields(instance: Instance) -> dict[str, Any]:
    return {**asdict(instance), "status": instance.status.value}


def _snapshot(service: str, item: Any, written: int) -> ServiceSnapshot:
    entry = as_object("a service", item)
    found = [_instance(service, as_object("an instance", i)) for i in as_list("instances", entry.get("instances"))]
    return ServiceSnapshot(
        service=service,
        instances={instance.id: instance for instance in found},
        position=as_text("position", required(entry, "position"), 253),
        stale_since=written,
    )


def _instance(service: str, entry: dict[str, Any]) -> Instance:
    return checked(
        Instance(
            id=as_text("id", required(entry, "id"), 253),
            name=service,
            address=required(entry, "address"),
            port=required(entry, "port"),
            metadata=as_object("metadata", entry.get("metadata") or {}),
            status=read_word(Status, entry, "status"),
            weight=required(entry, "weight"),
            zone=as_text("zone", entry.get("zone") or "", 253),
        )
    )
