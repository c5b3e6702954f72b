"""What `waypost get` can show: how each kind is read from Redis, as a document and as rows of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import redis

from waypost.cli.output import Row, age, pairs, utc
from waypost.client.connection import text, texts
from waypost.client.keys import Keys
from waypost.model.names import ServiceKey

Document = dict[str, Any]

READ_TOGETHER = 16

_WINDOW = (
    "window_start", "window_end", "window_beats", "window_late", "window_instances", "window_healthy", "cpu_mean",
    "cpu_max", "lag_max_ms", "drift",
)  # fmt: skip
"""Fields of `meta` that the end of a window sets; `waypost.wire.window_stats` writes them."""


class Resource(ABC):
    """One kind. A row belongs to one id within one service, so that a watch can tell which rows changed."""

    name: str
    columns: tuple[str, ...]
    wide_columns: tuple[str, ...]

    @abstractmethod
    def parts(self, keys: Keys, service: ServiceKey) -> Iterable[tuple[str, str]]:
        """Return the commands (name, key) that read one service, besides its meta."""

    @abstractmethod
    def document(self, service: ServiceKey, meta: dict[str, str], replies: list[Any]) -> Document:
        """Return what was read, as one document."""

    @abstractmethod
    def rows(self, document: Document, now_ms: int) -> Iterator[tuple[str, Row, Row]]:
        """Yield (id, cells, more cells for `-o wide`)."""


class Services(Resource):
    """One row per service."""

    name = "services"
    columns = ("NAME", "ROUTABLE", "PROTECTED", "LAST CHANGE")
    wide_columns = ("REVISION", "EPOCH", "RULE", "BEATING", "CPU", "DRIFT")

    def parts(self, keys: Keys, service: ServiceKey) -> Iterable[tuple[str, str]]:
        return (("HLEN", keys.route(service)), ("HLEN", keys.instances(service)))

    def document(self, service: ServiceKey, meta: dict[str, str], replies: list[Any]) -> Document:
        return {
            **_head(service, meta),
            "endpoints": int(replies[0]),
            "instances": int(replies[1]),
            "event_time": int(meta.get("event_time") or 0),
            "updated_at": int(meta.get("updated_at") or 0),
            "epoch": int(meta.get("epoch") or 0),
            "rule": meta.get("rule", ""),
            "cause": _json(meta.get("cause", ""), []),
            "window": {name: meta[name] for name in _WINDOW if name in meta},
        }

    def rows(self, document: Document, now_ms: int) -> Iterator[tuple[str, Row, Row]]:
        d = document
        cells = (
            d["service"],
            f"{d['endpoints']}/{d['instances']}",
            _yes(d["protected"]),
            age(d["event_time"], now_ms),
        )
        window = (_or_none(d["window"], name) for name in ("window_instances", "cpu_mean", "drift"))
        yield "", cells, (str(d["revision"]), str(d["epoch"]), d["rule"], *window)


class _PerInstance(Resource):
    """Kinds with one row per entry of a hash."""

    hash_name: str

    def parts(self, keys: Keys, service: ServiceKey) -> Iterable[tuple[str, str]]:
        return (("HGETALL", getattr(keys, self.hash_name)(service)),)

    def document(self, service: ServiceKey, meta: dict[str, str], replies: list[Any]) -> Document:
        entries = sorted(texts(replies[0]).items())
        found = [{"instance": instance, **_json(entry, {})} for instance, entry in entries]
        return {**_head(service, meta), self.list_name: found}

    @property
    def list_name(self) -> str:
        return "endpoints" if self.hash_name == "route" else "instances"

    def rows(self, document: Document, now_ms: int) -> Iterator[tuple[str, Row, Row]]:
        for entry in document[self.list_name]:
            cells, wide = self.cells(entry, now_ms)
            yield entry["instance"], (document["service"], *cells), wide

    @abstractmethod
    def cells(self, entry: Document, now_ms: int) -> tuple[Row, Row]:
        """Return one row and its wide part."""


class Routes(_PerInstance):
    """One row per endpoint that gateways may use. A weight that follows the load is shown with the declared one."""

    name = "routes"
    hash_name = "route"
    columns = ("SERVICE", "INSTANCE", "ADDRESS", "WEIGHT", "ZONE", "HELD", "AGE")
    wide_columns = ("DECLARED WEIGHT", "NODE", "METADATA")

    def parts(self, keys: Keys, service: ServiceKey) -> Iterable[tuple[str, str]]:
        return (*super().parts(keys, service), ("HGETALL", keys.instances(service)))

    def document(self, service: ServiceKey, meta: dict[str, str], replies: list[Any]) -> Document:
        document = super().document(service, meta, replies)
        known = texts(replies[1])
        for endpoint in document[self.list_name]:
            declared = _json(known.get(endpoint["instance"], ""), {}).get("weight")
            if declared not in (None, endpoint.get("weight")):
                endpoint["declared_weight"] = declared
        return document

    def cells(self, entry: Document, now_ms: int) -> tuple[Row, Row]:
        held, since = _yes(entry.get("held", False)), age(entry.get("since", 0), now_ms)
        cells = (entry["instance"], _address(entry), str(entry.get("weight", "")), _or_none(entry, "zone"), held, since)
        effective = str(entry.get("weight", ""))
        weight = f"{entry['declared_weight']} → {effective}" if "declared_weight" in entry else effective
        return cells, (weight, _or_none(entry, "node"), pairs(entry.get("metadata", {})))


class Instances(_PerInstance):
    """One row per known instance, in the table or not, with the reason."""

    name = "instances"
    hash_name = "instances"
    columns: tuple[str, ...] = ("SERVICE", "INSTANCE", "STATUS", "REASON", "LEASE", "HEALTH", "AGE")
    wide_columns: tuple[str, ...] = (
        "HELD",
        "ISOLATED BY",
        "ADDRESS",
        "WEIGHT",
        "ZONE",
        "NODE",
        "SOURCE",
        "LEASE SECONDS",
        "METADATA",
    )

    def cells(self, entry: Document, now_ms: int) -> tuple[Row, Row]:
        facts = (str(entry.get(name, "")) for name in ("status", "reason", "lease", "health"))
        wide = (
            str((entry.get("held") or {}).get("why", "no")),
            _isolated(entry.get("isolated")),
            _address(entry),
            str(entry.get("weight", "")),
            _or_none(entry, "zone"),
            _or_none(entry, "node"),
            _or_none(entry, "source"),
            str(entry.get("lease_seconds", "")),
            pairs(entry.get("metadata", {})),
        )
        return (entry["instance"], *facts, age(entry.get("generation", 0), now_ms)), wide


def read_documents(
    client: redis.Redis, keys: Keys, resource: Resource, services: Iterable[ServiceKey]
) -> Iterator[tuple[ServiceKey, Document | None]]:
    """Read each service in one MULTI, some services together; None for one that does not exist."""
    wanted = sorted(services)
    for start in range(0, len(wanted), READ_TOGETHER):
        batch = wanted[start : start + READ_TOGETHER]
        pipeline = client.pipeline(transaction=True)
        for service in batch:
            pipeline.hgetall(keys.meta(service))
            for command, key in resource.parts(keys, service):
                pipeline.hlen(key) if command == "HLEN" else pipeline.hgetall(key)
        replies = iter(pipeline.execute())
        for service in batch:
            meta = texts(next(replies))
            parts = [next(replies) for _ in resource.parts(keys, service)]
            yield service, resource.document(service, meta, parts) if meta else None


def known_services(client: redis.Redis, keys: Keys) -> list[ServiceKey]:
    """Return all services, in order."""
    members: Any = client.smembers(keys.services)
    return sorted(ServiceKey.parse(text(member)) for member in members)


def _head(service: ServiceKey, meta: dict[str, str]) -> Document:
    return {
        "namespace": service.namespace,
        "service": service.service,
        "revision": int(meta.get("revision") or 0),
        "protected": meta.get("protected") == "1",
    }


def _json(entry: str, otherwise: Any) -> Any:
    try:
        value = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return otherwise
    return value if isinstance(value, type(otherwise)) else otherwise


def _address(entry: Document) -> str:
    host = str(entry.get("address", ""))
    return f"[{host}]:{entry.get('port', '')}" if ":" in host else f"{host}:{entry.get('port', '')}"


def _isolated(by: Document | None) -> str:
    if not by:
        return "no"
    cause = f" ({by['cause']})" if by.get("cause") else ""
    return f"{by.get('by', '')} until {utc(by.get('until', 0))}{cause}"


def _or_none(entry: Document, name: str) -> str:
    return str(entry.get(name) or "<none>")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
