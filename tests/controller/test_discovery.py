"""What an object says becomes the job's settings, or is refused with the name of the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.discoveries import a_body, a_discovery
from waypost.controller.discovery import read_discovery
from waypost.errors import SettingsError
from waypost.settings import Settings


def test_what_is_not_said_is_the_jobs_own_default() -> None:
    assert loaded(a_discovery().settings) == Settings()


def test_what_is_said_reaches_the_job() -> None:
    discovery = a_discovery(
        topic="events",
        isolationTopic="out",
        groupID="shop",
        windowSize="5m",
        redisPrefix="shop:v1:",
        lease={"shards": 64, "tick": "500ms"},
        brake={"enabled": False, "hold": "20m"},
    )

    settings = loaded(discovery.settings)

    assert settings.topics.registry == "events"
    assert settings.topics.isolation == "out"
    assert settings.kafka.group_id == "shop"
    assert settings.window.size_ms == 300_000
    assert settings.redis.prefix == "shop:v1:"
    assert (settings.lease.shards, settings.lease.tick_ms) == (64, 500)
    assert (settings.brake.enabled, settings.brake.hold_ms) == (False, 1_200_000)


def loaded(settings: dict[str, str]) -> Settings:
    return Settings.load(overrides=[f"{name}={value}" for name, value in settings.items()])


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("spec.topic", {"topic": None}),
    ("spec.topic", {"topic": "a b"}),
    ("spec.topic", {"topic": 7}),
    ("no topic", {"topic": ".."}),
    ("a name of its own", {"topic": "dead-letter"}),
    ("a name of its own", {"isolationTopic": "route-changes"}),
    ("spec.isolationTopic", {"isolationTopic": "a b"}),
    ("spec.groupID", {"groupID": "x;sasl.jaas.config=y"}),
    ("spec.redisPrefix", {"redisPrefix": "{all}:"}),
    ("spec.windowSize", {"windowSize": "5"}),
    ("spec.windowSize", {"windowSize": "9s"}),
    ("spec.windowSize", {"windowSize": "2h"}),
    ("spec.windowSize", {"windowSize": 300}),
    ("whole ticks", {"windowSize": "10s", "lease": {"tick": "7s"}}),
    ("spec.lease.shards", {"lease": {"shards": 0}}),
    ("spec.lease.shards", {"lease": {"shards": True}}),
    ("spec.lease must be", {"lease": []}),
    ("no shorter", {"brake": {"hold": "30s"}}),
    ("spec.topics.replicationFactor", {"topics": {"replicationFactor": 0}}),
    ("spec.topics.deletionPolicy", {"topics": {"deletionPolicy": "delete"}}),
    ("matchNames.0", {"namespaceSelector": {"matchNames": ["--all"]}}),
    ("must be a list", {"namespaceSelector": {"matchNames": "shop"}}),
    ("key of a label", {"serviceSelector": {"matchLabels": {"a,b": "c"}}}),
    ("matchLabels.app", {"serviceSelector": {"matchLabels": {"app": "a,b=c"}}}),
    ("spec.job.state", {"job": {"state": "stopped"}}),
    ("spec.job.target", {"job": {"target": "docker"}}),
]


@pytest.mark.parametrize(("said", "spec"), WRONG, ids=[f"{said}-{i}" for i, (said, _) in enumerate(WRONG)])
def test_what_is_wrong_is_refused_by_name(said: str, spec: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=said):
        a_discovery(**spec)


def test_a_name_that_its_parts_could_not_have_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"metadata\.name"):
        a_discovery("a" * 34)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["topic", "groupID", "windowSize", "lease", "brake", "topics", "job", "namespaceSelector", "serviceSelector"]
)


@given(st.dictionaries(FIELDS, JSON))
def test_any_json_is_read_or_refused(spec: dict[str, Any]) -> None:
    try:
        discovery = read_discovery(a_body(**spec))
    except SettingsError:
        return

    loaded(discovery.settings)  # whatever is taken here, the job takes as well
