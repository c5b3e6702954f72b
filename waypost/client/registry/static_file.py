"""Services from a file, YAML or JSON, read again whenever it changes.

    payments:
      - {id: payments-1, address: 10.1.2.3, port: 8080}
      - {id: payments-2, address: 10.1.2.4, port: 8080, weight: 50, zone: a, metadata: {version: "2.1"}}

Of an instance only `address` and `port` have to be there; its id is `address:port` unless it says another. One mistake
refuses the whole file, and what was last read stays: half a file is more dangerous than an old one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from waypost.client.registry.instance import Instance, checked, checked_service
from waypost.client.registry.polled import PolledDiscoverer
from waypost.errors import DecodeError, InvalidInstance, RegistryUnavailable
from waypost.model.lifecycle import Status
from waypost.wire.fields import as_list, as_object, as_text
from waypost.wire.words import read_word

LOOK = timedelta(milliseconds=500)
MAX_BYTES = 16 * 1024 * 1024
_FIELDS = {"id", "address", "port", "weight", "zone", "status", "metadata"}

Services = Mapping[str, Mapping[str, Instance]]


class StaticFile(PolledDiscoverer):
    """See the module."""

    def __init__(self, path: Path | str, **clock: Callable[[], int]) -> None:
        super().__init__(**clock)
        self._path = Path(path)
        self.where = f"file {self._path}"
        self._reading = threading.Lock()
        self._read: tuple[tuple[int, int, int], Services] | None = None

    @property
    def retry(self) -> timedelta:
        return LOOK

    def ask(self, service: str) -> tuple[Mapping[str, Instance] | None, timedelta]:
        return self._services().get(service), LOOK

    def list_services(self) -> tuple[str, ...]:
        return tuple(sorted(self._services()))

    def _services(self) -> Services:
        with self._reading:
            try:
                stat = self._path.stat()
                mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if self._read is None or self._read[0] != mark:
                    self._read = mark, parse_services(self._path.read_bytes())
                return self._read[1]
            except (OSError, DecodeError, InvalidInstance) as error:
                raise RegistryUnavailable(f"{self.where}: {error}") from error


def parse_services(content: bytes) -> Services:
    """Return service → id → instance. Raises DecodeError or InvalidInstance for the first mistake."""
    if len(content) > MAX_BYTES:
        raise DecodeError("oversize", f"more than {MAX_BYTES} bytes")
    try:
        document: Any = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DecodeError("bad-yaml", " ".join(str(error).split())) from error
    found: dict[str, dict[str, Instance]] = {}
    for name, entries in as_object("the file", document if document is not None else {}).items():
        service = checked_service(name)
        instances = [_instance(service, as_object("an instance", entry)) for entry in as_list(service, entries)]
        found[service] = {instance.id: instance for instance in instances}
        if len(found[service]) != len(instances):
            raise DecodeError("ambiguous-id", f"two instances of {service} have the same id")
    return found


def _instance(service: str, entry: dict[str, Any]) -> Instance:
    unknown = sorted(str(name) for name in entry.keys() - _FIELDS)
    if unknown:
        raise DecodeError("unknown-field", f"{', '.join(unknown)}; an instance has {', '.join(sorted(_FIELDS))}")
    address, port = entry.get("address", ""), entry.get("port", 0)
    fields = {name: entry[name] for name in ("weight", "zone") if name in entry}
    return checked(
        Instance(
            id=as_text("id", entry["id"], 253) if "id" in entry else f"{address}:{port}",
            name=service,
            address=address,
            port=port,
            status=read_word(Status, entry, "status") if "status" in entry else Status.UP,
            metadata=as_object("metadata", entry.get("metadata", {})),
            **fields,
        )
    )
