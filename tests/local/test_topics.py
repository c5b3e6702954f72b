"""What the job refuses to start on, asked of a broker made of dictionaries."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.errors import TopicError
from waypost.topics import DEAD_LETTER, HEARTBEAT, REGISTRY, Topic, check_topics, default_topics, ensure_topics


class FakeAdmin:
    def __init__(self, topics: dict[str, tuple[int, dict[str, str]]]) -> None:
        self.topics = topics
        self.refusal = ""

    def describe_topics(self, topics: list[str] | None = None) -> list[dict[str, Any]]:
        assert topics is None
        return [{"name": n, "error_code": 0, "partitions": [{}] * count} for n, (count, _) in self.topics.items()]

    def describe_configs(self, config_resources: list[Any], *, config_filter: str) -> dict[str, Any]:
        return {
            "topic": {
                r.name: {key: {"value": value} for key, value in self.topics[r.name][1].items()}
                for r in config_resources
            }
        }

    def create_topics(self, new_topics: dict[str, dict[str, Any]], *, raise_errors: bool) -> dict[str, Any]:
        for name, wish in new_topics.items():
            assert name not in self.topics
            self.topics[name] = (wish["num_partitions"], dict(wish["configs"]))
        return {}

    def create_partitions(self, topic_partitions: dict[str, int]) -> None:
        for name, count in topic_partitions.items():
            self.topics[name] = (count, self.topics[name][1])

    def alter_configs(self, config_resources: list[Any]) -> dict[str, dict[str, str]]:
        if self.refusal:
            return {"topic": {resource.name: self.refusal for resource in config_resources}}
        for resource in config_resources:
            self.topics[resource.name][1].update(resource.configs)
        return {"topic": {resource.name: "OK" for resource in config_resources}}

    def wait_for_topics(self, topic_names: list[str], timeout_ms: int) -> None: ...


def test_ensured_topics_have_no_problems() -> None:
    admin = FakeAdmin({})

    ensure_topics(admin, default_topics())

    assert check_topics(admin, default_topics().values()) == []


def test_a_missing_topic_is_a_problem_with_the_command_that_creates_it() -> None:
    [problem] = check_topics(FakeAdmin({}), [default_topics()[REGISTRY]])

    assert "does not exist" in problem.what
    assert "--create --topic service-registry" in problem.fix
    assert "--config message.timestamp.type=LogAppendTime" in problem.fix


def test_the_producers_clock_is_refused() -> None:
    admin = FakeAdmin({})
    ensure_topics(admin, default_topics())
    admin.topics["service-heartbeat"][1]["message.timestamp.type"] = "CreateTime"

    [problem] = check_topics(admin, [default_topics()[HEARTBEAT]])

    assert "CreateTime" in problem.what
    assert "expires a fleet" in str(problem)
    assert "--add-config message.timestamp.type=LogAppendTime" in problem.fix


def test_more_readers_than_partitions_are_refused() -> None:
    admin = FakeAdmin({})
    ensure_topics(admin, default_topics())
    topic = default_topics()[HEARTBEAT]
    partitions = admin.topics[topic.name][0]

    assert check_topics(admin, [topic], readers={topic.name: partitions}) == []
    [problem] = check_topics(admin, [topic], readers={topic.name: partitions + 1})

    assert f"{partitions} partitions for {partitions + 1} readers" in problem.what
    assert f"--set job.source_parallelism={partitions}" in problem.fix


@pytest.mark.parametrize(
    ("retention_ms", "accepted"), [("3600000", True), ("-1", True), ("86400000", True), ("60000", False), ("", False)]
)
def test_beats_are_kept_for_an_hour_or_longer(retention_ms: str, accepted: bool) -> None:
    admin = FakeAdmin({})
    ensure_topics(admin, default_topics())
    admin.topics["service-heartbeat"][1]["retention.ms"] = retention_ms

    assert (check_topics(admin, [default_topics()[HEARTBEAT]]) == []) is accepted


def test_ensure_mends_what_check_refuses_and_lowers_nothing() -> None:
    admin = FakeAdmin({"service-registry": (12, {"cleanup.policy": "compact", "retention.ms": "-1"})})

    ensure_topics(admin, default_topics())

    partitions, configs = admin.topics["service-registry"]
    assert partitions == 12
    assert configs["cleanup.policy"] == "delete"


def test_a_broker_that_refuses_a_setting_is_an_error() -> None:
    admin = FakeAdmin({"service-registry": (4, {})})
    admin.refusal = "[Error 44] PolicyViolation"

    with pytest.raises(TopicError, match="PolicyViolation"):
        ensure_topics(admin, default_topics())


def test_names_can_be_changed_and_only_known_roles_have_one() -> None:
    assert default_topics({DEAD_LETTER: "dlq"})[DEAD_LETTER] == Topic(
        role=DEAD_LETTER, name="dlq", settings=default_topics()[DEAD_LETTER].settings
    )
    with pytest.raises(TopicError, match="no topic has the role"):
        default_topics({"deadletter": "dlq"})
