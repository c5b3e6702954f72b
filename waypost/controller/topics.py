"""The topics of a `KafkaServiceDiscovery`: made when missing, kept right if we made them, otherwise only looked at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from waypost.controller.conditions import Condition
from waypost.controller.discovery import Discovery
from waypost.errors import TopicError
from waypost.topics import (
    DEAD_LETTER,
    HEARTBEAT,
    ISOLATION,
    REGISTRY,
    ROUTE_CHANGES,
    Topic,
    check_topics,
    connected,
    create_missing,
    default_topics,
    ensure_topics,
)

_CONDITION = "TopicsReady"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicsKept:
    """How the topics are, and which of them were made in this pass."""

    condition: Condition
    created: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.condition.holds is True


def wanted_topics(discovery: Discovery) -> list[Topic]:
    """Return what the job of this discovery reads and writes."""
    names = {
        REGISTRY: discovery.topics.registry,
        HEARTBEAT: discovery.topics.heartbeat,
        ISOLATION: discovery.topics.isolation,
        ROUTE_CHANGES: discovery.topics.route_changes,
        DEAD_LETTER: discovery.topics.dead_letter,
    }
    known = default_topics(names)
    return [
        replace(known[role], partitions=discovery.partitions, replication=discovery.replication)
        for role in (REGISTRY, HEARTBEAT, ISOLATION, ROUTE_CHANGES, DEAD_LETTER)
    ]


def keep_topics(bootstrap: str, discovery: Discovery, ours: Collection[str]) -> TopicsKept:
    """Create what is missing, correct those in `ours` (made by us before), and say what is wrong with the others.

    Somebody else's topic is never changed: its settings may be meant so, and the message has the command that mends
    it. Nothing is deleted here. Raises nothing; brokers that do not answer are a condition too.
    """
    wanted, created = wanted_topics(discovery), []
    try:
        with connected(bootstrap) as admin:
            created = create_missing(admin, wanted)
            ensure_topics(admin, [topic for topic in wanted if topic.name in {*ours, *created}])
            problems = check_topics(admin, wanted)
    except TopicError as error:
        unknown = Condition(type=_CONDITION, holds=None, reason="KafkaUnavailable", message=str(error))
        return TopicsKept(condition=unknown, created=tuple(created))
    if problems:
        wrong = Condition(type=_CONDITION, holds=False, reason="WrongSettings", message="; ".join(map(str, problems)))
        return TopicsKept(condition=wrong, created=tuple(created))
    right = Condition(type=_CONDITION, holds=True, reason="AsTheyShouldBe", message=f"{len(wanted)} topics")
    return TopicsKept(condition=right, created=tuple(created))


def delete_topics(bootstrap: str, names: Collection[str]) -> None:
    """Delete topics; those that are gone already are no error. Raises TopicError."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError, UnknownTopicOrPartitionError

    client = None
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","), request_timeout_ms=10_000, bootstrap_timeout_ms=10_000
        )
        there = {str(topic["name"]) for topic in client.describe_topics()}
        for name in sorted(set(names) & there):
            try:
                client.delete_topics([name])
            except UnknownTopicOrPartitionError:
                continue
    except (KafkaError, OSError) as error:
        raise TopicError(f"topics at {bootstrap} cannot be deleted: {error}") from error
    finally:
        if client is not None:
            client.close()
