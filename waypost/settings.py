"""Everything that can be configured, in one typed place.

Values come, later ones winning, from the defaults here, a YAML file (groups as mappings), the environment
(`WAYPOST_<GROUP>_<FIELD>`, e.g. `WAYPOST_LEASE_SHARDS`) and `--set group.field=value` flags. An unknown name or a
value out of bounds is an error that names the field, never a silent default.

`waypost settings` prints this register with units and reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from waypost.errors import SettingsError
from waypost.model.brake import BrakeRules
from waypost.model.damping import DampingRules
from waypost.model.names import ServiceKey, is_namespace, is_service

ENV_PREFIX = "WAYPOST_"


def _setting(default: Any, unit: str, why: str, low: int | None = None, high: int | None = None) -> Any:
    """Declare a field: its default, its unit, the reason for the default, and inclusive bounds."""
    return field(default=default, metadata={"unit": unit, "why": why, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """Where the log is."""

    bootstrap: str = _setting("127.0.0.1:9092", "host:port,…", "what a broker on this machine listens on")
    group_id: str = _setting("waypost-route-table", "name", "one consumer group per installation of the job")
    properties: str = _setting(
        "", "k=v;k=v", "passed to every Kafka client of the job as they are: security.protocol, sasl.*, ssl.*"
    )
    check_topics: bool = _setting(
        True, "yes/no", "a topic with producer timestamps or compaction would make every lease wrong: refuse to start"
    )


@dataclass(frozen=True, kw_only=True)
class Topics:
    """What the topics are called here."""

    registry: str = _setting("service-registry", "topic", "registration events")
    heartbeat: str = _setting("service-heartbeat", "topic", "beats and witnesses")
    isolation: str = _setting("service-isolation", "topic", "what repairs and operators take out of tables")
    alerts: str = _setting("alerts", "topic", "what the bridge writes and repairs begin with")
    route_changes: str = _setting("route-changes", "topic", "audit log of everything published")
    repair_actions: str = _setting("repair-actions", "topic", "every decision about an alert, also not to act")
    repair_results: str = _setting("repair-results", "topic", "how each repair ended")
    config: str = _setting("service-config", "topic", "the switch, the policies, and what people say to repairs")
    dead_letter: str = _setting("dead-letter", "topic", "every record that was refused, with the reason")


@dataclass(frozen=True, kw_only=True)
class Redis:
    """Where gateways read the tables."""

    url: str = _setting("redis://127.0.0.1:6379/0", "URL", "what a server on this machine listens on")
    prefix: str = _setting(
        "waypost:v1:", "text", "v1 is the version of the key layout; two installations may share a server"
    )
    timeout_ms: int = _setting(
        250, "ms", "a stream waits for the answer: longer stalls every service of the subtask", 10, 10_000
    )
    changes_maxlen: int = _setting(
        100_000, "entries", "1,000 s at 100 changes/s; a reader that was away longer rereads its tables", 100
    )
    log_maxlen: int = _setting(1_000, "entries", "revisions per service that can be explained from Redis alone", 1)


@dataclass(frozen=True, kw_only=True)
class Leases:
    """How leases are folded."""

    shards: int = _setting(
        128,
        "shards",
        "rows per tick whatever the fleet's size; fixed once the job has state; doubled, twice the calls into Python",
        1,
        4096,
    )
    tick_ms: int = _setting(
        1000,
        "ms",
        "a silent death is noticed up to this late; halved, Python is called twice as much",
        100,
        60_000,
    )
    batch_grace_ms: int = _setting(
        2000, "ms", "how long good news waits for a shard whose row is missing (no witness running)", 100, 60_000
    )


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How beats are added up per service."""

    size_ms: int = _setting(
        60_000,
        "ms",
        "length of a window, whole ticks: how often a service's load statistics and weights are renewed",
        10_000,
        3_600_000,
    )
    buckets: int = _setting(
        32,
        "buckets",
        "services are divided into so many groups whose windows end one after the other; 3,000 instances per bucket "
        "keep each call below 10 ms",
        1,
        1024,
    )


@dataclass(frozen=True, kw_only=True)
class Brake:
    """When many lapses at once are held instead of executed."""

    enabled: bool = _setting(
        True, "yes/no", "off, a network between agents and Kafka that fails in part empties tables within a lease"
    )
    service_percent: int = _setting(
        50, "%", "of a service's leased endpoints; a majority that falls silent together is rarely dead", 1, 100
    )
    service_min: int = _setting(
        3, "instances", "one or two of a small service may die: they leave as usual, the last one excepted", 1
    )
    service_ms: int = _setting(
        30_000, "ms", "lapses this close together count as one event; beats of a fleet are spread over 30 s", 1_000
    )
    fleet_percent: int = _setting(
        15, "%", "of all leased endpoints, as Eureka's self preservation; a zone is usually a third", 1, 100
    )
    fleet_min: int = _setting(
        10, "instances", "below it a fleet of 60 or less would be held for what the service rule lets pass", 1
    )
    fleet_ms: int = _setting(60_000, "ms", "a rolling failure is slower over a fleet than in a service", 1_000)
    hold_ms: int = _setting(
        600_000,
        "ms",
        "time for people to look; the dead get requests meanwhile. No shorter than `fleet_ms`, or the next lapses "
        "are judged without these",
        1_000,
        86_400_000,
    )
    hold_by_service: str = _setting("", "ns/svc=ms;…", "services whose hold time is another")


@dataclass(frozen=True, kw_only=True)
class Damping:
    """How instances that come and go are kept away for a while. One departure is a penalty of 1000."""

    enabled: bool = _setting(True, "yes/no", "off, each flap of an instance is two changes of its table")
    half_life_ms: int = _setting(
        60_000, "ms", "how fast a penalty is forgotten; doubled, twice as long away after the same flaps", 1_000
    )
    suppress: int = _setting(
        3_000, "penalty", "the fourth departure within a minute or so; a rolling restart makes one", 2_000
    )
    reuse: int = _setting(
        1_000,
        "penalty",
        "below it the instance may come back; equal to `suppress` it would flap at the limit",
        100,
        2_000,
    )
    longest_ms: int = _setting(300_000, "ms", "nobody calm is kept away longer, however often it flapped", 1_000)


@dataclass(frozen=True, kw_only=True)
class Routes:
    """How tables are published."""

    coalesce_ms: int = _setting(
        50,
        "ms",
        "at most one write per service in this time after the first; a rolling deploy costs 20 writes/s at most",
        0,
        10_000,
    )
    retry_ms: int = _setting(
        250, "ms", "how often a change waiting for an unreachable store is tried again", 10, 60_000
    )
    audit_ms: int = _setting(
        5_000,
        "ms",
        "how often each service asks whether the store was wiped, and has its table compared with state; "
        "a wiped or damaged one is back within this and its writing time, unless the budget below says later",
        100,
        600_000,
    )
    audit_percent: int = _setting(
        5,
        "%",
        "part of a processor that comparing tables may take; 10,000 instances in 1,000 services took all of it on a "
        "busy machine. Doubled, larger fleets are compared twice as often, and changes wait longer",
        1,
        50,
    )
    settle_ms: int = _setting(
        250, "ms", "after a restore, quiet time between reaching the stored position and the first snapshot", 10, 60_000
    )
    catch_up_ms: int = _setting(
        180_000,
        "ms",
        "after a restore, longest wait without coming nearer to what the store shows: two default leases",
        1_000,
    )


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """How the repair job reaches what it repairs. What it does is said by policies (`waypost policy`)."""

    group_id: str = _setting("waypost-repair", "name", "one consumer group per installation of the repair job")
    kubeconfig: str = _setting(
        "", "path", "how to reach the Kubernetes API, a file on the TaskManagers; empty: the pod's own service account"
    )
    call_timeout_ms: int = _setting(
        5_000,
        "ms",
        "for one request; repairs of other targets wait for it, so no longer than the switch's 10 s",
        100,
        10_000,
    )
    webhooks: str = _setting("", "URL;URL", "what policies may call, and everything below it; empty: no webhook at all")


@dataclass(frozen=True, kw_only=True)
class Job:
    """How Flink runs the job. Anything else of Flink is set where Flink reads it: `-D`, its config file."""

    parallelism: int = _setting(
        1, "subtasks", "one Python interpreter per TaskManager: scale by TaskManagers of one slot", 1, 1024
    )
    max_parallelism: int = _setting(
        128, "key groups", "fixed once the job has state; the limit of any later rescaling", 1, 32_768
    )
    source_parallelism: int = _setting(
        1,
        "subtasks",
        "at most the partitions of any input topic: a reader without a partition stops time",
        1,
        1024,
    )
    behind_ms: int = _setting(
        1_000,
        "ms",
        "a registration older than this when it is read is gathered with others of its service; an ordinary one is "
        "read within 10 ms, 300 on a busy machine, and goes alone, at once, overtaking what is being gathered",
        0,
        60_000,
    )
    gather_ms: int = _setting(
        250, "ms", "how long such registrations are gathered; doubled, a storm costs less and passes later", 10, 10_000
    )
    checkpoint_ms: int = _setting(5_000, "ms", "how much of the log is read again after a crash", 100, 3_600_000)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of the jobs."""

    kafka: Kafka = field(default_factory=Kafka)
    topics: Topics = field(default_factory=Topics)
    redis: Redis = field(default_factory=Redis)
    lease: Leases = field(default_factory=Leases)
    window: Windows = field(default_factory=Windows)
    brake: Brake = field(default_factory=Brake)
    damping: Damping = field(default_factory=Damping)
    routes: Routes = field(default_factory=Routes)
    repair: Repairs = field(default_factory=Repairs)
    job: Job = field(default_factory=Job)

    @classmethod
    def load(
        cls, file: Path | None = None, env: Mapping[str, str] | None = None, overrides: Iterable[str] = ()
    ) -> Settings:
        """Build settings from a YAML file, environment variables and `group.field=value` overrides.

        Raises SettingsError with the name of the offending field and where the value came from.
        """
        values: dict[str, tuple[Any, str]] = {}
        if file is not None:
            values.update(_from_file(file))
        known = {name for name, _, _ in register()}
        for name in known:
            variable = ENV_PREFIX + name.replace(".", "_").upper()
            if env is not None and variable in env:
                values[name] = (env[variable], f"environment variable {variable}")
        for override in overrides:
            name, equals, text = override.partition("=")
            if not equals:
                raise SettingsError(f"--set takes group.field=value, not {override!r}")
            values[name.strip()] = (text, f"--set {name.strip()}")
        for name, (_, origin) in values.items():
            if name not in known:
                raise SettingsError(f"{origin}: there is no setting {name!r}; `waypost settings` lists them all")
        settings = cls(**{group.name: _build(group.name, _group_type(group.name), values) for group in fields(cls)})
        if settings.window.size_ms % settings.lease.tick_ms:
            raise SettingsError(
                f"window.size_ms={settings.window.size_ms} must be a multiple of lease.tick_ms={settings.lease.tick_ms}"
            )
        if settings.damping.reuse >= settings.damping.suppress:
            raise SettingsError(
                f"damping.reuse={settings.damping.reuse} must be below damping.suppress={settings.damping.suppress}"
            )
        brake_rules(settings)
        return settings


def brake_rules(settings: Settings) -> BrakeRules:
    """Return the brake's limits for the model. Raises SettingsError for a hold time that cannot be read."""
    brake = settings.brake
    by_service = {}
    for part in filter(None, brake.hold_by_service.split(";")):
        name, _, ms = part.partition("=")
        try:
            service, length = ServiceKey.parse(name.strip()), int(ms)
            if not (is_namespace(service.namespace) and is_service(service.service)):
                raise ValueError(name)
        except ValueError:
            raise SettingsError(f"brake.hold_by_service: {part!r} is not namespace/service=ms") from None
        if not 1_000 <= length <= 86_400_000:
            raise SettingsError(f"brake.hold_by_service: {part!r} must be 1000 to 86400000 ms")
        by_service[service] = length
    limits = {item.name: getattr(brake, item.name) for item in fields(brake) if item.name != "hold_by_service"}
    return BrakeRules(**limits, hold_by_service=by_service)


def damping_rules(settings: Settings) -> DampingRules:
    """Return the limits of damping for the model."""
    return DampingRules(**{item.name: getattr(settings.damping, item.name) for item in fields(settings.damping)})


def register() -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Yield every setting as (dotted name, default, {unit, why, low, high})."""
    for group in fields(Settings):
        for item in fields(_group_type(group.name)):
            yield f"{group.name}.{item.name}", item.default, item.metadata


def kafka_properties(settings: Settings) -> dict[str, str]:
    """Return `kafka.properties` as a mapping. Raises SettingsError for a part without `=`."""
    result = {}
    for part in filter(None, settings.kafka.properties.split(";")):
        name, equals, value = part.partition("=")
        if not equals:
            raise SettingsError(f"kafka.properties: {name!r} has no value; write k=v;k=v")
        result[name.strip()] = value
    return result


def _group_type(name: str) -> Any:
    return get_type_hints(Settings)[name]


def _from_file(file: Path) -> dict[str, tuple[Any, str]]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"the settings file {file} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"the settings file {file} must hold a mapping of groups")
    values = {}
    for group, body in document.items():
        if not isinstance(body, dict):
            raise SettingsError(f"{file}: {group!r} must be a mapping of settings")
        values.update({f"{group}.{name}": (value, f"{file}") for name, value in body.items()})
    return values


def _build(group: str, kind: Any, values: Mapping[str, tuple[Any, str]]) -> Any:
    types = get_type_hints(kind)
    arguments = {}
    for item in fields(kind):
        name = f"{group}.{item.name}"
        if name in values:
            value, origin = values[name]
            arguments[item.name] = _convert(name, value, origin, types[item.name], item.metadata)
    return kind(**arguments)


def _convert(name: str, value: Any, origin: str, kind: type, bounds: Mapping[str, Any]) -> Any:
    if kind is bool:
        word = str(value).strip().lower()
        if word not in ("true", "false", "yes", "no", "1", "0"):
            raise SettingsError(f"{origin}: {name} must be true or false, not {value!r}")
        return word in ("true", "yes", "1")
    if kind is int:
        try:
            number = int(str(value).strip())
        except ValueError:
            raise SettingsError(f"{origin}: {name} must be a whole number ({bounds['unit']}), not {value!r}") from None
        low, high = bounds["low"], bounds["high"]
        if (low is not None and number < low) or (high is not None and number > high):
            span = f"{low} to {high}" if high is not None else f"at least {low}"
            raise SettingsError(f"{origin}: {name} must be {span} {bounds['unit']}, not {number}")
        return number
    return str(value)
