"""The sink's connections: made when they are needed, and what is wrong with them told where it can be."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import pytest

from sinks.kubernetes_repair import ClusterConnector, KubernetesRepairSink, LazyCluster, LazyWebhooks
from tests.repair.fake_api_server import served
from waypost.errors import SettingsError
from waypost.repair.fake import FakeCluster
from waypost.repair.port import Refused, Unavailable
from waypost.settings import Settings


def test_a_cluster_is_reached_by_the_first_call(tmp_path: Path) -> None:
    fake = FakeCluster()
    fake.add_node("n1")
    with served(fake) as api:
        lazy = LazyCluster(ClusterConnector(str(api.kubeconfig(tmp_path)), 5_000))
        assert api.requests.all == []

        node = lazy.node("n1")
        assert node is not None
        lazy.change_node(node, unschedulable=True, annotations={"a": "b"})

    changed = fake.node("n1")
    assert changed is not None
    assert changed.unschedulable


@pytest.mark.parametrize("kubeconfig", ["", "/nowhere/kubeconfig"])
def test_a_way_that_is_none_is_an_unavailable_server(kubeconfig: str) -> None:
    lazy = LazyCluster(ClusterConnector(kubeconfig, 1_000))

    for _ in range(2):
        with pytest.raises(Unavailable, match="no way to the Kubernetes API"):
            lazy.node("n1")


def test_every_call_of_the_door_goes_through(tmp_path: Path) -> None:
    fake = FakeCluster()
    fake.add_node("n1")
    fake.add_workload("Deployment", "shop", "web")
    lazy = LazyCluster(lambda: fake)
    [pod] = lazy.pods("shop", {"app": "web"})
    workload = lazy.workload_of(pod)

    assert workload is not None
    assert lazy.pod("shop", pod.name) == pod
    assert lazy.pods_on("n1") == [pod]
    assert lazy.service_selector("shop", "web") is None
    assert lazy.workload("Deployment", "shop", "web") == workload
    lazy.change_workload(workload, annotations={"a": "b"})
    lazy.evict(pod)
    assert [call for call, _ in fake.calls] == ["change_workload", "evict"]


def test_the_sink_travels_by_value() -> None:
    sink = KubernetesRepairSink.of(
        Settings.load(overrides=["repair.kubeconfig=/k", "repair.webhooks=http://a/;http://b/x"])
    )

    again = cloudpickle.loads(cloudpickle.dumps(sink))

    assert again == sink
    assert again.webhooks == ("http://a/", "http://b/x")


def test_a_webhook_that_is_none_is_told_when_the_job_is_submitted() -> None:
    with pytest.raises(SettingsError, match=r"repair\.webhooks"):
        KubernetesRepairSink.of(Settings.load(overrides=["repair.webhooks=hooks.example"]))


def test_without_webhooks_none_is_called() -> None:
    with pytest.raises(Refused):
        LazyWebhooks(()).post("http://127.0.0.1/", b"{}", timeout_ms=100, key="k")
