"""The CustomResourceDefinition refuses at the API server what the controller could not do."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.controller.test_discovery import WRONG
from tests.kubernetes.workloads import Namespace
from waypost.errors import StackError
from waypost.local.kubernetes import Kubernetes

MINIMAL = {"topic": "service-registry", "groupID": "waypost-route-table"}


def a_manifest(name: str = "shop", **spec: Any) -> str:
    kind = {"apiVersion": "waypost.io/v1alpha1", "kind": "KafkaServiceDiscovery", "metadata": {"name": name}}
    return yaml.safe_dump(
        {**kind, "spec": {key: value for key, value in {**MINIMAL, **spec}.items() if value is not None}}
    )


def apply(room: Namespace, manifest: str) -> str:
    return room.cluster.kubectl(
        "apply", "-n", room.name, "--server-side", "--validate=strict", "-f", "-", stdin=manifest
    )


@pytest.fixture
def place(installed: Kubernetes, room: Namespace) -> Namespace:
    """A namespace of the test's own in a cluster that knows the kind."""
    return room


def test_two_fields_are_enough_and_the_rest_has_defaults(place: Namespace) -> None:
    apply(place, a_manifest())

    spec = yaml.safe_load(place.cluster.kubectl("get", "ksd", "shop", "-n", place.name, "-o", "yaml"))["spec"]
    assert spec["windowSize"] == "1m"
    assert spec["heartbeatTopic"] == "service-heartbeat"
    assert spec["lease"] == {"shards": 128, "tick": "1s", "batchGrace": "2s"}
    assert spec["topics"] == {"partitions": 4, "replicationFactor": -1, "deletionPolicy": "Retain"}
    assert spec["brake"]["hold"] == "10m"
    assert spec["namespaceSelector"] == {"matchNames": []}


def test_everything_may_be_said(place: Namespace) -> None:
    everything = {
        "windowSize": "1h",
        "redisPrefix": "shop:v1:",
        "topics": {"partitions": 12, "replicationFactor": 3, "deletionPolicy": "Delete"},
        "namespaceSelector": {"matchNames": ["shop", "pay"]},
        "serviceSelector": {"matchLabels": {"waypost.io/mirror": "true", "app": ""}},
        "lease": {"shards": 64, "tick": "500ms", "batchGrace": "1s"},
        "brake": {"enabled": False, "fleetWindow": "1m30s", "hold": "24h"},
        "job": {"target": "flink-run", "state": "suspended", "parallelism": 4, "standby": 0},
    }

    assert "serverside-applied" in apply(place, a_manifest(**everything))


REFUSED = [(said, spec) for said, spec in WRONG if said != "key of a label"]
"""The keys of labels are looked at by the controller alone."""


@pytest.mark.parametrize(("said", "spec"), REFUSED, ids=[f"{said}-{i}" for i, (said, _) in enumerate(REFUSED)])
def test_what_the_controller_refuses_the_api_server_refuses_first(
    place: Namespace, said: str, spec: dict[str, Any]
) -> None:
    with pytest.raises(StackError, match=r"is invalid|failed to create typed patch"):
        apply(place, a_manifest(**spec))


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"windowsize": "5m"}, "field not declared in schema"),
        ({"brake": {"percent": 5}}, "field not declared in schema"),
        ({"topic": "service-heartbeat"}, "every topic must have a name of its own"),
        ({"windowSize": "61m"}, "windowSize must be from 10s to 1h"),
        ({"windowSize": "99999999999999999999h"}, "windowSize"),
        ({"lease": {"tick": "7s"}}, "whole ticks"),
        ({"brake": {"hold": "30s"}}, "no shorter than"),
        ({"topics": {"replicationFactor": 0}}, "at least one replica"),
    ],
)
def test_a_refusal_says_why(place: Namespace, spec: dict[str, Any], complaint: str) -> None:
    with pytest.raises(StackError, match=complaint):
        apply(place, a_manifest(**spec))


def test_a_name_that_is_too_long_for_its_parts_is_refused(place: Namespace) -> None:
    with pytest.raises(StackError, match="at most 33"):
        apply(place, a_manifest("a" * 34))
    assert "serverside-applied" in apply(place, a_manifest("a" * 33))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"topic": "events"}, "topic cannot be changed"),
        ({"redisPrefix": "other:"}, "redisPrefix cannot be changed"),
        ({"lease": {"shards": 64}}, "lease.shards cannot be changed"),
        ({"job": {"target": "flink-run"}}, "job.target cannot be changed"),
    ],
)
def test_what_state_or_readers_depend_on_cannot_be_changed(
    place: Namespace, change: dict[str, Any], complaint: str
) -> None:
    apply(place, a_manifest())

    with pytest.raises(StackError, match=complaint):
        apply(place, a_manifest(**change))
    assert "serverside-applied" in apply(place, a_manifest(windowSize="5m"))


def test_kubectl_shows_what_matters(place: Namespace) -> None:
    apply(place, a_manifest())

    heading, row = place.cluster.kubectl("get", "ksd", "-n", place.name).splitlines()

    assert heading.split() == ["NAME", "TOPIC", "WINDOW", "READY", "REASON", "SERVICES", "ENDPOINTS", "AGE"]
    assert row.split()[:3] == ["shop", "service-registry", "1m"]


def test_a_status_is_written_apart_from_the_spec(place: Namespace) -> None:
    apply(place, a_manifest())
    custom = client.CustomObjectsApi(place.api)
    where = ("waypost.io", "v1alpha1", place.name, "kafkaservicediscoveries", "shop")

    custom.patch_namespaced_custom_object(*where, {"status": {"services": 3}})
    assert "status" not in custom.get_namespaced_custom_object(*where)

    custom.patch_namespaced_custom_object_status(*where, {"status": {"services": 3}, "spec": {"windowSize": "5m"}})
    now = custom.get_namespaced_custom_object(*where)
    assert now["status"] == {"services": 3}
    assert now["spec"]["windowSize"] == "1m"
    assert now["metadata"]["generation"] == 1
