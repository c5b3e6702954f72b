"""What the controller relies on of a cluster: the same on dictionaries and on a real API server."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.controller.cluster_in_memory import ClusterInMemory
from tests.controller.discoveries import a_body
from waypost.controller.cluster import ApiServer, Cluster
from waypost.controller.discovery import read_discovery
from waypost.controller.drift import covers
from waypost.controller.objects import DEPLOYMENTS, DISCOVERIES, FLINK_DEPLOYMENTS, Images, parts
from waypost.local.kubernetes import Kubernetes


class ClusterContract:
    """`cluster` is empty but for one object `shop` in `namespace`, as `body` has it."""

    def wanted(self, body: dict[str, Any], part: str) -> dict[str, Any]:
        [found] = [p.body for p in parts(read_discovery(body), Images(waypost="w:1", flink="f:1")) if p.part == part]
        assert found
        return copy.deepcopy(dict(found))

    def test_what_is_not_there_is_none(self, cluster: Cluster, body: dict[str, Any]) -> None:
        assert cluster.get(DEPLOYMENTS, body["metadata"]["namespace"], "shop-witness") is None

    @pytest.mark.parametrize(("kind", "part"), [(DEPLOYMENTS, "witness"), (FLINK_DEPLOYMENTS, "job")])
    def test_what_is_applied_is_there_and_covered(
        self, cluster: Cluster, body: dict[str, Any], kind: Any, part: str
    ) -> None:
        wanted = self.wanted(body, part)

        cluster.apply(kind, wanted)

        there = cluster.get(kind, body["metadata"]["namespace"], wanted["metadata"]["name"])
        assert there
        assert covers(there, wanted)
        assert there["metadata"]["generation"] == 1

    def test_the_same_wish_twice_changes_nothing(self, cluster: Cluster, body: dict[str, Any]) -> None:
        wanted = self.wanted(body, "job")
        once = cluster.apply(FLINK_DEPLOYMENTS, wanted)

        again = cluster.apply(FLINK_DEPLOYMENTS, wanted)

        assert again["metadata"]["generation"] == once["metadata"]["generation"]
        assert again["spec"] == once["spec"]

    def test_only_the_object_that_is_meant_is_deleted(self, cluster: Cluster, body: dict[str, Any]) -> None:
        namespace = body["metadata"]["namespace"]
        there = cluster.apply(FLINK_DEPLOYMENTS, self.wanted(body, "job"))
        name = there["metadata"]["name"]

        cluster.delete(FLINK_DEPLOYMENTS, namespace, name, "00000000-0000-4000-8000-000000000000")
        assert cluster.get(FLINK_DEPLOYMENTS, namespace, name) is not None

        cluster.delete(FLINK_DEPLOYMENTS, namespace, name, there["metadata"]["uid"])
        assert cluster.get(FLINK_DEPLOYMENTS, namespace, name) is None
        cluster.delete(FLINK_DEPLOYMENTS, namespace, name, there["metadata"]["uid"])

    def test_a_status_is_told_field_by_field(self, cluster: Cluster, body: dict[str, Any]) -> None:
        namespace = body["metadata"]["namespace"]

        cluster.tell(namespace, "shop", {"services": 1, "endpoints": 2})
        cluster.tell(namespace, "shop", {"endpoints": 3})
        cluster.tell(namespace, "gone", {"endpoints": 3})

        there = cluster.get(DISCOVERIES, namespace, "shop")
        assert there
        assert there["status"] == {"services": 1, "endpoints": 3}
        assert there["metadata"]["generation"] == 1

    def test_all_objects_are_listed(self, cluster: Cluster, body: dict[str, Any]) -> None:
        [only] = cluster.discoveries(body["metadata"]["namespace"])

        assert read_discovery(only) == read_discovery(body)


class TestInMemory(ClusterContract):
    @pytest.fixture
    def body(self) -> dict[str, Any]:
        return a_body()

    @pytest.fixture
    def cluster(self, body: dict[str, Any]) -> Cluster:
        made = ClusterInMemory()
        made.put(DISCOVERIES, copy.deepcopy(body))
        return made


class TestApiServer(ClusterContract):
    @pytest.fixture
    def body(self, installed: Kubernetes, namespace: str) -> dict[str, Any]:
        """The object, applied in a namespace of the test's own; there is no controller for it."""
        body = a_body()
        body["metadata"] = {"name": "shop", "namespace": namespace}
        installed.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(body))
        text = installed.kubectl("get", "ksd", "shop", "-n", namespace, "-o", "json")
        found: dict[str, Any] = json.loads(text)
        return found

    @pytest.fixture
    def cluster(self, installed: Kubernetes, body: dict[str, Any]) -> Iterator[Cluster]:
        with installed.api_client() as api:
            yield ApiServer(api)
