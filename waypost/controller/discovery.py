"""What a `KafkaServiceDiscovery` says, as a value.

The API server has checked it by the schema in k8s/base/crd. Here it is checked again: a schema of another version may
be installed, and an object may be older than the schema. Defaults are those of `waypost.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waypost.controller.durations import milliseconds
from waypost.errors import SettingsError
from waypost.settings import Brake, Job, Kafka, Leases, Redis, Topics, Windows

GROUP = "waypost.io"
VERSION = "v1alpha1"
KIND = "KafkaServiceDiscovery"
PLURAL = "kafkaservicediscoveries"

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,31}[a-z0-9])?\Z")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")
_PREFIX = re.compile(r"[A-Za-z0-9_:.-]{1,63}:\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """Which Services are told to the topic: those with all `labels` in these namespaces."""

    namespaces: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def nothing(self) -> bool:
        return not self.namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """One installation: topics, keys in Redis, the job's rules. `uid` and `generation` are those of the object."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    """RFC 3339 in UTC, so it sorts."""
    deleting: bool
    topics: Topics
    group_id: str
    redis_prefix: str
    partitions: int
    replication: int
    """-1: the brokers' default."""
    delete_topics: bool
    window: Windows
    lease: Leases
    brake: Brake
    by_flink_run: bool
    """The job runs in a Flink of its own pod, for development, and not as a FlinkDeployment."""
    parallelism: int
    standby: int
    suspended: bool
    mirrored: Mirrored

    @property
    def settings(self) -> dict[str, str]:
        """Return what the job is told, by the names of docs/settings.md; the connection comes from its environment."""
        return {
            "kafka.group_id": self.group_id,
            "redis.prefix": self.redis_prefix,
            "topics.registry": self.topics.registry,
            "topics.heartbeat": self.topics.heartbeat,
            "topics.isolation": self.topics.isolation,
            "topics.route_changes": self.topics.route_changes,
            "topics.dead_letter": self.topics.dead_letter,
            "window.size_ms": str(self.window.size_ms),
            "lease.shards": str(self.lease.shards),
            "lease.tick_ms": str(self.lease.tick_ms),
            "lease.batch_grace_ms": str(self.lease.batch_grace_ms),
            "brake.enabled": "true" if self.brake.enabled else "false",
            "brake.service_percent": str(self.brake.service_percent),
            "brake.service_min": str(self.brake.service_min),
            "brake.service_ms": str(self.brake.service_ms),
            "brake.fleet_percent": str(self.brake.fleet_percent),
            "brake.fleet_min": str(self.brake.fleet_min),
            "brake.fleet_ms": str(self.brake.fleet_ms),
            "brake.hold_ms": str(self.brake.hold_ms),
            "job.parallelism": str(self.parallelism),
        }


def read_discovery(body: Mapping[str, Any]) -> Discovery:
    """Return what an object of the API server says. Raises SettingsError naming the field that is wrong."""
    metadata, spec = _Fields(body, "").group("metadata"), _Fields(body, "").group("spec")
    lease, brake, job, made = (spec.group(name) for name in ("lease", "brake", "job", "topics"))
    window = Windows(size_ms=spec.duration("windowSize", Windows().size_ms, 10_000, 3_600_000))
    leases = Leases(
        shards=lease.number("shards", Leases().shards, 1, 4_096),
        tick_ms=lease.duration("tick", Leases().tick_ms, 100, 60_000),
        batch_grace_ms=lease.duration("batchGrace", Leases().batch_grace_ms, 100, 60_000),
    )
    if window.size_ms % leases.tick_ms:
        raise SettingsError("spec.windowSize must be whole ticks (spec.lease.tick)")
    standard = Brake()
    day = 86_400_000
    brakes = Brake(
        enabled=brake.flag("enabled", standard.enabled),
        service_percent=brake.number("servicePercent", standard.service_percent, 1, 100),
        service_min=brake.number("serviceMin", standard.service_min, 1, 1_000_000),
        service_ms=brake.duration("serviceWindow", standard.service_ms, 1_000, day),
        fleet_percent=brake.number("fleetPercent", standard.fleet_percent, 1, 100),
        fleet_min=brake.number("fleetMin", standard.fleet_min, 1, 1_000_000),
        fleet_ms=brake.duration("fleetWindow", standard.fleet_ms, 1_000, day),
        hold_ms=brake.duration("hold", standard.hold_ms, 1_000, day),
    )
    if brakes.hold_ms < brakes.fleet_ms:
        raise SettingsError("spec.brake.hold must be no shorter than spec.brake.fleetWindow")
    replication = made.number("replicationFactor", -1, -1, 15)
    if replication == 0:
        raise SettingsError("spec.topics.replicationFactor must be -1 or from 1 to 15")
    return Discovery(
        namespace=metadata.text("namespace", None, _NAMESPACE),
        name=metadata.text("name", None, _NAME),
        uid=metadata.text("uid", None, re.compile(r".{1,253}\Z")),
        generation=metadata.number("generation", 1, 0, 2**63 - 1),
        created=metadata.text("creationTimestamp", None, re.compile(r".{1,64}\Z")),
        deleting=metadata.has("deletionTimestamp"),
        topics=_topics(spec),
        group_id=spec.text("groupID", Kafka().group_id, _TOPIC),
        redis_prefix=spec.text("redisPrefix", Redis().prefix, _PREFIX),
        partitions=made.number("partitions", 4, 1, 1_000),
        replication=replication,
        delete_topics=made.word("deletionPolicy", "Retain", ("Retain", "Delete")) == "Delete",
        window=window,
        lease=leases,
        brake=brakes,
        by_flink_run=job.word("target", "operator", ("operator", "flink-run")) == "flink-run",
        parallelism=job.number("parallelism", Job().parallelism, 1, 128),
        standby=job.number("standby", 1, 0, 8),
        suspended=job.word("state", "running", ("running", "suspended")) == "suspended",
        mirrored=_mirrored(spec),
    )


def _topics(spec: _Fields) -> Topics:
    standard = Topics()
    topics = {
        "registry": spec.text("topic", None, _TOPIC),
        "heartbeat": spec.text("heartbeatTopic", standard.heartbeat, _TOPIC),
        "isolation": spec.text("isolationTopic", standard.isolation, _TOPIC),
        "route_changes": spec.text("routeChangesTopic", standard.route_changes, _TOPIC),
        "dead_letter": spec.text("deadLetterTopic", standard.dead_letter, _TOPIC),
    }
    if len(set(topics.values())) < len(topics):
        raise SettingsError("spec: every topic must have a name of its own")
    if wrong := {".", ".."} & set(topics.values()):
        raise SettingsError(f"spec: Kafka has no topic {wrong.pop()!r}")
    return Topics(**topics)


def _mirrored(spec: _Fields) -> Mirrored:
    labels = spec.group("serviceSelector").group("matchLabels")
    namespaces = spec.group("namespaceSelector").texts("matchNames", _NAMESPACE)
    for key in labels.names():
        if not _LABEL_KEY.match(key):
            raise SettingsError(f"spec.serviceSelector.matchLabels: {key!r} is not the key of a label")
    chosen = tuple(sorted((key, labels.text(key, None, _LABEL_VALUE)) for key in labels.names()))
    return Mirrored(namespaces=tuple(sorted(set(namespaces))), labels=chosen)


class _Fields:
    """Fields of one mapping of the object, each checked when it is read."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values, self._path = values, path

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def names(self) -> list[str]:
        return [str(name) for name in self._values]

    def group(self, name: str) -> _Fields:
        value = self._values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise SettingsError(f"{self._of(name)} must be an object")
        return _Fields(value, self._of(name))

    def text(self, name: str, default: str | None, pattern: re.Pattern[str]) -> str:
        value = self._values.get(name)
        if value is None:
            value = default
        if not isinstance(value, str) or not pattern.match(value):
            raise SettingsError(f"{self._of(name)} must match {pattern.pattern}, not {value!r}")
        return value

    def texts(self, name: str, pattern: re.Pattern[str]) -> list[str]:
        values = self._values.get(name) or []
        if not isinstance(values, list):
            raise SettingsError(f"{self._of(name)} must be a list")
        items = _Fields({str(index): value for index, value in enumerate(values)}, self._of(name))
        return [items.text(index, None, pattern) for index in items.names()]

    def word(self, name: str, default: str, words: tuple[str, ...]) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if value not in words:
            raise SettingsError(f"{self._of(name)} must be one of {', '.join(words)}, not {value!r}")
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise SettingsError(f"{self._of(name)} must be true or false, not {value!r}")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise SettingsError(f"{self._of(name)} must be a whole number from {low} to {high}, not {value!r}")
        return value

    def duration(self, name: str, default: int, low: int, high: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        try:
            found = milliseconds(value) if isinstance(value, str) else -1
        except ValueError as error:
            raise SettingsError(f"{self._of(name)}: {error}") from error
        if not low <= found <= high:
            raise SettingsError(f"{self._of(name)} must be a duration from {low} to {high} ms, not {value!r}")
        return found

    def _of(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name
