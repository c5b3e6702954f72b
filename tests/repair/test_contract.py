"""The contract of the door to a cluster, on the fake and on the adapter over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.config import ConfigException

from tests.repair.contract import ClusterContract
from tests.repair.fake_api_server import Served, served
from tests.repair.stages import FakeStage
from waypost.errors import SettingsError
from waypost.repair.api_server import ApiServer, connect
from waypost.repair.fake import FakeCluster
from waypost.repair.objects import DEPLOYMENT
from waypost.repair.port import FIELD_MANAGER, CallFailed, Conflict, Denied, NotNow, Unavailable


class TestFake(ClusterContract):
    @pytest.fixture
    def stage(self) -> FakeStage:
        fake = FakeCluster()
        return FakeStage(fake, fake)


@pytest.fixture
def server() -> Iterator[Served]:
    with served(FakeCluster()) as running:
        yield running


@pytest.fixture
def api(server: Served, tmp_path: Path) -> Iterator[ApiServer]:
    client = connect(server.kubeconfig(tmp_path), timeout_ms=5_000)
    yield client
    client.close()


class TestAdapter(ClusterContract):
    @pytest.fixture
    def stage(self, server: Served, api: ApiServer) -> FakeStage:
        return FakeStage(server.cluster, api)

    def test_changes_are_made_under_our_own_name(self, stage: FakeStage, server: Served) -> None:
        [pod] = stage.deploy("web", 1)

        stage.cluster.evict(pod)

        assert server.requests.managers == {FIELD_MANAGER}

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_server_that_fails_is_unavailable_and_asked_once(
        self, stage: FakeStage, server: Served, status: int
    ) -> None:
        stage.deploy("web", 1)
        workload = stage.cluster.workload(DEPLOYMENT, "shop", "web")
        assert workload is not None
        stage.fake.fail("change_workload", Unavailable(str(status)))
        asked = len(server.requests.all)

        with pytest.raises(Unavailable):
            stage.cluster.change_workload(workload, annotations={"a": "b"})

        assert len(server.requests.all) == asked + 1

    def test_an_overloaded_server_is_no_budget(self, stage: FakeStage) -> None:
        """429 with a cause is the budget; 429 of the server's own flow control says nothing about the pod."""
        [pod] = stage.deploy("web", 1)
        stage.fake.fail("evict", NotNow("full"))

        with pytest.raises(NotNow):
            stage.cluster.evict(pod)

    @pytest.mark.parametrize("status", ["401", "403"])
    def test_what_we_may_not_is_denied(self, stage: FakeStage, status: str) -> None:
        stage.fake.fail("node", CallFailed(status))

        with pytest.raises(Denied, match=status):
            stage.cluster.node("n1")

    def test_a_refusal_in_several_lines_is_told_in_one(self, stage: FakeStage) -> None:
        stage.fake.fail("node", CallFailed("denied the request: \n\nresource \ud800"))

        with pytest.raises(Denied) as refused:
            stage.cluster.node("n1")

        assert str(refused.value) == "GET /api/v1/nodes/n1: 403 denied the request:   resource ?"

    def test_a_token_that_cannot_be_read_for_a_moment_is_unavailable(self, stage: FakeStage, api: ApiServer) -> None:
        stage.fake.add_node("n1")

        def fails(_: object) -> None:
            raise ConfigException("Token file exists but empty.")

        api._client.configuration.refresh_api_key_hook = fails
        with pytest.raises(Unavailable, match="ConfigException"):
            stage.cluster.node("n1")

        api._client.configuration.refresh_api_key_hook = None
        assert stage.cluster.node("n1") is not None

    def test_an_answer_that_never_comes_is_unavailable(self, server: Served, tmp_path: Path) -> None:
        server.cluster.add_node("n1")
        hasty = connect(server.kubeconfig(tmp_path), timeout_ms=200)
        node = hasty.node("n1")
        assert node is not None
        released = threading.Event()
        server.requests.before = lambda *_: released.wait(30) and None

        with pytest.raises(Unavailable):
            hasty.change_node(node, unschedulable=True, annotations={})

        released.set()
        hasty.close()

    def test_no_server_is_unavailable(self, tmp_path: Path) -> None:
        with served(FakeCluster()) as gone:
            path = gone.kubeconfig(tmp_path)
        client = connect(path, timeout_ms=2_000)

        with pytest.raises(Unavailable):
            client.node("n1")

        client.close()


def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no way to the Kubernetes API"):
        connect(tmp_path / "absent", timeout_ms=1_000)


def test_a_version_in_between_is_a_conflict(server: Served, api: ApiServer) -> None:
    server.cluster.add_node("n1")
    node = api.node("n1")
    assert node is not None
    server.cluster.uncordon("n1")

    with pytest.raises(Conflict):
        api.change_node(node, unschedulable=True, annotations={})
