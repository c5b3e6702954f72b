"""The topics Waypost works with, as data: who needs which settings, and why.

`check_topics` is what a job does at its start; `ensure_topics` is what a laptop does instead of an
administrator. Neither lowers anything: retention, partitions and replication beyond ours are left alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from waypost.errors import TopicError

REGISTRY = "registry"
HEARTBEAT = "heartbeat"
ISOLATION = "isolation"
ALERTS = "alerts"
ROUTE_CHANGES = "route_changes"
REPAIR_ACTIONS = "repair_actions"
REPAIR_RESULTS = "repair_results"
CONFIG = "config"
DEAD_LETTER = "dead_letter"

PARTITIONS = 4
"""Enough for a few hundred thousand beats/s, few enough for a laptop. Grow a topic rather before than after."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a topic: what `ensure_topics` writes, what `check_topics` accepts, and why."""

    value: str
    why: str
    at_least: int | None = None
    """Also right: any number from here on. `-1` (without limit) passes as well."""
    at_most: int | None = None

    def accepts(self, actual: str | None) -> bool:
        if actual == self.value:
            return True
        if actual is None or self.at_least is None:
            return False
        try:
            number = int(actual)
        except ValueError:
            return False
        if number == -1:
            return self.at_most is None
        return number >= self.at_least and (self.at_most is None or number <= self.at_most)


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic. `role` is what it is for; `name` is what this installation calls it."""

    role: str
    name: str
    partitions: int = PARTITIONS
    replication: int = -1
    """Copies of each partition; -1 is the broker's default."""
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a topic that would make a job wrong, with the command that mends it."""

    topic: str
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.what}. {self.why} Mend it with: {self.fix}"


_BROKERS_CLOCK = Setting(
    value="LogAppendTime",
    why="Leases are counted on the broker's clock; with the producers' clocks one wrong clock expires a fleet.",
)
_FOR_EVER = "A registration without heartbeats must survive any rebuild of the tables, however old it is."


def default_topics(names: Mapping[str, str] | None = None) -> dict[str, Topic]:
    """Return all topics by role. `names` (role → name) renames; raises `TopicError` for a role we do not know."""
    topics = {topic.role: topic for topic in _all()}
    for role, name in (names or {}).items():
        if role not in topics:
            raise TopicError(f"no topic has the role {role!r}; there are {', '.join(topics)}")
        topics[role] = replace(topics[role], name=name)
    return topics


def _all() -> Iterator[Topic]:
    yield Topic(
        role=REGISTRY,
        name="service-registry",
        settings={
            "message.timestamp.type": _BROKERS_CLOCK,
            "cleanup.policy": Setting(
                value="delete",
                why="Keys are free and a record is a change, not the whole truth: compaction would lose facts.",
            ),
            "retention.ms": Setting(value="-1", why=_FOR_EVER),
            "retention.bytes": Setting(value="-1", why=_FOR_EVER),
        },
    )
    yield Topic(
        role=HEARTBEAT,
        name="service-heartbeat",
        settings={
            "message.timestamp.type": _BROKERS_CLOCK,
            "cleanup.policy": Setting(
                value="delete", why="Beats are events; compaction would thin out what says who was alive when."
            ),
            "retention.ms": Setting(
                value=str(_HOUR_MS + _HOUR_MS // 2),
                at_least=_HOUR_MS,
                why="A job that was away must still find the beats that renewed the leases meanwhile.",
            ),
            # By size as well a broker deletes only whole segments: with the default 1 GiB and 7 days
            # a quiet topic would keep its beats for a week.
            "segment.ms": Setting(
                value=str(10 * 60_000), at_least=60_000, why="Old beats go by whole segments; smaller ones go sooner."
            ),
        },
    )
    yield Topic(
        role=ISOLATION,
        name="service-isolation",
        settings={
            "message.timestamp.type": _BROKERS_CLOCK,
            "cleanup.policy": Setting(
                value="delete", why="The key is the service: compaction would leave one word of several."
            ),
            "retention.ms": Setting(
                value="-1", why="A released isolation that comes back after a rebuild takes a healthy instance out."
            ),
        },
    )
    yield Topic(
        role=ALERTS,
        name="alerts",
        settings={
            "message.timestamp.type": Setting(
                value="LogAppendTime",
                why="Waiting and incidents are counted on the broker's clock; a wrong clock would cut them short.",
            ),
            "cleanup.policy": Setting(
                value="delete", why="The key is the service: compaction would leave one alert of several."
            ),
            "retention.ms": Setting(
                value=str(7 * _DAY_MS),
                at_least=_HOUR_MS,
                why="A repair job that was away must find what fires, and what has ended since.",
            ),
        },
    )
    yield Topic(
        role=ROUTE_CHANGES,
        name="route-changes",
        settings={
            "retention.ms": Setting(
                value=str(7 * _DAY_MS),
                at_least=_DAY_MS,
                why="What a table was on Friday is asked on Monday.",
            )
        },
    )
    yield Topic(role=REPAIR_ACTIONS, name="repair-actions", settings=_evidence())
    yield Topic(role=REPAIR_RESULTS, name="repair-results", settings=_evidence())
    yield Topic(
        role=CONFIG,
        name="service-config",
        # One: the commit of a transaction shows its records together within a partition, not across several.
        partitions=1,
        settings={
            "cleanup.policy": Setting(value="compact", why="The newest value of each config must stay."),
            "min.compaction.lag.ms": Setting(
                value=str(7 * _DAY_MS), at_least=0, why="So long a change can be looked at and taken back."
            ),
        },
    )
    # No setting: a letter keeps 256 KiB of a value, so that it fits into the 1 MiB every broker accepts.
    yield Topic(role=DEAD_LETTER, name="dead-letter")


def _evidence() -> dict[str, Setting]:
    return {
        "cleanup.policy": Setting(
            value="delete", why="Every decision and outcome is evidence; compaction would keep one per service."
        ),
        "retention.ms": Setting(
            value=str(30 * _DAY_MS),
            at_least=_DAY_MS,
            why="Why something was repaired, or was not, is asked weeks later.",
        ),
    }


class Admin(Protocol):
    """The calls of kafka-python's `KafkaAdminClient` that are used here."""

    def describe_topics(self, topics: list[str] | None = None) -> list[dict[str, Any]]: ...
    def describe_configs(self, config_resources: list[Any], *, config_filter: str) -> dict[str, Any]: ...
    def create_topics(self, new_topics: dict[str, dict[str, Any]], *, raise_errors: bool) -> dict[str, Any]: ...
    def create_partitions(self, topic_partitions: dict[str, int]) -> Any: ...
    def alter_configs(self, config_resources: list[Any]) -> Any: ...
    def wait_for_topics(self, topic_names: list[str], timeout_ms: int) -> Any: ...


def check_topics(
    bootstrap: str | Admin, topics: Iterable[Topic], *, readers: Mapping[str, int] | None = None
) -> list[Problem]:
    """Return what is wrong with the topics, empty when nothing is.

    `bootstrap` is the brokers' address or a ready admin client. `readers` says how many subtasks will read a topic,
    by its name. Raises `TopicError` when the brokers cannot be asked: not knowing is not the same as being right.
    """
    wanted = list(topics)
    address = bootstrap if isinstance(bootstrap, str) else "HOST:PORT"
    with connected(bootstrap) as admin:
        found = _existing(admin, [topic.name for topic in wanted])
        configs = _configs(admin, [topic.name for topic in wanted if topic.name in found])
    problems = []
    for topic in wanted:
        if topic.name not in found:
            problems.append(_missing(topic, address))
        else:
            problems += _wrong_settings(topic, configs[topic.name], address)
            if found[topic.name] < (wanted_by := (readers or {}).get(topic.name, 0)):
                problems.append(_too_few_partitions(topic, found[topic.name], wanted_by, address))
    return problems


def ensure_topics(bootstrap: str | Admin, topics: Mapping[str, Topic] | Iterable[Topic]) -> list[str]:
    """Create what is missing and correct what `check_topics` would refuse; returns the topics' names.

    For one's own topics. Raises `TopicError`.
    """
    from kafka.admin import ConfigResource

    wanted = list(topics.values() if isinstance(topics, Mapping) else topics)
    with connected(bootstrap) as admin:
        found = _existing(admin, [topic.name for topic in wanted])
        _create(admin, [topic for topic in wanted if topic.name not in found])
        configs = _configs(admin, [topic.name for topic in wanted if topic.name in found])
        for topic in wanted:
            if topic.name not in found:
                continue
            if found[topic.name] < topic.partitions:
                admin.create_partitions({topic.name: topic.partitions})
            wrong = {
                key: setting.value
                for key, setting in topic.settings.items()
                if not setting.accepts(configs[topic.name].get(key))
            }
            if wrong:
                refused = [
                    answer for answer in _answers(admin, ConfigResource("TOPIC", topic.name, wrong)) if answer != "OK"
                ]
                if refused:
                    raise TopicError(f"topic {topic.name}: the broker refuses {wrong}: {refused[0]}")
        _wait_until_right(admin, wanted)
    return [topic.name for topic in wanted]


def create_missing(bootstrap: str | Admin, topics: Iterable[Topic]) -> list[str]:
    """Create those that do not exist, and return their names. What exists is not touched. Raises `TopicError`."""
    wanted = list(topics)
    with connected(bootstrap) as admin:
        found = _existing(admin, [topic.name for topic in wanted])
        missing = [topic for topic in wanted if topic.name not in found]
        _create(admin, missing)
    return [topic.name for topic in missing]


def _create(admin: Admin, missing: list[Topic]) -> None:
    if not missing:
        return
    wishes = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": {key: setting.value for key, setting in topic.settings.items()},
        }
        for topic in missing
    }
    admin.create_topics(wishes, raise_errors=True)
    admin.wait_for_topics(list(wishes), timeout_ms=10_000)


def _answers(admin: Admin, resource: Any) -> list[str]:
    # A refusal is a value here, not an exception.
    return [str(a) for by_name in admin.alter_configs([resource]).values() for a in by_name.values()]


def _wait_until_right(admin: Admin, topics: list[Topic], within_s: float = 10.0) -> None:
    """Return when the broker itself says what it was told: it answers from its own copy, ~0.2 s behind."""
    deadline = time.monotonic() + within_s
    while problems := check_topics(admin, topics):
        if time.monotonic() > deadline:
            raise TopicError(str(problems[0]))
        time.sleep(0.05)


def _missing(topic: Topic, address: str) -> Problem:
    settings = "".join(f" --config {key}={setting.value}" for key, setting in topic.settings.items())
    return Problem(
        topic=topic.name,
        what="it does not exist",
        why="Topics are not created by accident, because a created one would have the wrong clock.",
        fix=f"kafka-topics.sh --bootstrap-server {address} --create --topic {topic.name}"
        f" --partitions {topic.partitions}{settings}",
    )


def _too_few_partitions(topic: Topic, partitions: int, readers: int, address: str) -> Problem:
    return Problem(
        topic=topic.name,
        what=f"it has {partitions} partitions for {readers} readers (job.source_parallelism)",
        why="A reader without a partition stops time: no tick would ever end, and no lease.",
        fix=f"--set job.source_parallelism={partitions}, or kafka-topics.sh --bootstrap-server {address} --alter"
        f" --topic {topic.name} --partitions {readers}",
    )


def _wrong_settings(topic: Topic, actual: Mapping[str, str | None], address: str) -> Iterator[Problem]:
    for key, setting in topic.settings.items():
        if not setting.accepts(actual.get(key)):
            yield Problem(
                topic=topic.name,
                what=f"{key} is {actual.get(key)}, must be {_expectation(setting)}",
                why=setting.why,
                fix=f"kafka-configs.sh --bootstrap-server {address} --alter --entity-type topics"
                f" --entity-name {topic.name} --add-config {key}={setting.value}",
            )


def _expectation(setting: Setting) -> str:
    if setting.at_least is None:
        return setting.value
    upper = f" and at most {setting.at_most}" if setting.at_most is not None else ""
    return f"at least {setting.at_least}{upper} (usual: {setting.value})"


@contextlib.contextmanager
def connected(bootstrap: str | Admin) -> Iterator[Admin]:
    """Give an admin client and close it afterwards; one that is given stays open. Raises `TopicError`."""
    if not isinstance(bootstrap, str):
        yield bootstrap
        return
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    client = None
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","), request_timeout_ms=10_000, bootstrap_timeout_ms=10_000
        )
        yield client
    except (KafkaError, OSError) as error:
        raise TopicError(f"the topics at {bootstrap} cannot be asked for: {error}") from error
    finally:
        if client is not None:
            client.close()


def _existing(admin: Admin, names: list[str]) -> dict[str, int]:
    """Return the partition counts of those topics that exist."""
    # All topics, not ours by name: asking for a missing one by name creates it on a careless broker.
    return {
        str(topic["name"]): len(topic["partitions"])
        for topic in admin.describe_topics()
        if topic["name"] in names and not topic.get("error_code")
    }


def _configs(admin: Admin, names: list[str]) -> dict[str, dict[str, str | None]]:
    if not names:
        return {}
    from kafka.admin import ConfigResource

    answer = admin.describe_configs([ConfigResource("TOPIC", name) for name in names], config_filter="all")
    by_name = next(iter(answer.values()))
    return {name: {key: entry["value"] for key, entry in by_name[name].items()} for name in names}
