"""Watches of a real API server: what its controllers write, its restart, history that is gone, another's rights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tests.client.registry.cut import Relay
from tests.contracts.registry_contract import A_WHILE, eventually, exactly, follow
from tests.contracts.slices import endpoint_slice
from tests.contracts.test_kubernetes import RealSlices
from tests.docs.pages import ROOT, fences
from tests.kubernetes.permissions import EVERYBODY, Permission, permissions
from tests.kubernetes.workloads import Namespace
from waypost.client.registry.etcd.gateway import EtcdGateway
from waypost.client.registry.feed import Watch
from waypost.client.registry.instance import Instance
from waypost.client.registry.kubernetes.discoverer import KubernetesDiscoverer
from waypost.client.registry.opening import open_discoverer
from waypost.errors import RegistryUnavailable, WatchPositionLost
from waypost.local.kubernetes import Kubernetes
from waypost.local.kwok import HANDS_OFF
from waypost.model.lifecycle import Status

pytestmark = pytest.mark.kubernetes


def pay(number: int) -> Instance:
    return Instance(
        id=f"pay-{number}", name="pay", address=f"10.1.0.{number}", port=8080, zone="a", metadata={"node": "n"}
    )


def put(slices: RealSlices, *instances: Instance) -> None:
    slices.put(endpoint_slice("pay", *instances))


def through(cluster: Kubernetes, relay: Relay, directory: Path) -> Path:
    """Return a kubeconfig of the administrator's by which the server is reached through a relay."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://{relay.address}"
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def relay(kubernetes: Kubernetes) -> Iterator[Relay]:
    document = yaml.safe_load(kubernetes.kubeconfig.read_text())
    relay = Relay(document["clusters"][0]["cluster"]["server"].removeprefix("https://"))
    yield relay
    relay.close()


@pytest.fixture
def slices(kubernetes: Kubernetes, namespace: str) -> Iterator[RealSlices]:
    slices = RealSlices(kubernetes, namespace)
    yield slices
    slices.close()


def test_what_was_missed_while_the_server_was_out_of_reach_is_told(
    kubernetes: Kubernetes, namespace: str, relay: Relay, slices: RealSlices, tmp_path: Path
) -> None:
    url = f"kubernetes:{namespace}?kubeconfig={through(kubernetes, relay, tmp_path)}"
    put(slices, pay(1))
    with open_discoverer(url) as found, found.watch("pay") as watch:
        follow(watch, exactly(pay(1)))
        for number in range(2, 5):
            relay.cut(refuse=True)
            eventually(lambda: watch.stale_since is not None)
            with pytest.raises(RegistryUnavailable):
                found.get_service("pay")
            put(slices, pay(number))
            assert watch.poll(A_WHILE) == []
            relay.mend()
            follow(watch, exactly(pay(number)))
            eventually(lambda: watch.stale_since is None)


def test_a_watch_that_the_server_ends_goes_on(
    kubernetes: Kubernetes, namespace: str, slices: RealSlices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends each watch after the time that it is asked for; here a second, by default some minutes."""
    put(slices, pay(1))
    with open_discoverer(f"kubernetes:{namespace}?kubeconfig={kubernetes.kubeconfig}") as found:
        assert isinstance(found, KubernetesDiscoverer)
        ask, watched = found._api._ask, list[str]()

        def for_a_second(timeout: timedelta, **query: object) -> object:
            if query.get("watch"):
                watched.append(str(query["resource_version"]))
                query["timeout_seconds"] = 1
            return ask(timeout, **query)

        monkeypatch.setattr(found._api, "_ask", for_a_second)
        with found.watch("pay") as watch:
            follow(watch, exactly(pay(1)))
            for number in range(2, 5):
                before = len(watched)
                eventually(lambda: len(watched) > before)  # noqa: B023
                put(slices, pay(number))
                follow(watch, exactly(pay(number)))
                assert watch.stale_since is None


def test_the_controllers_own_slices(room: Namespace) -> None:
    url = f"kubernetes:{room.name}?kubeconfig={room.cluster.kubeconfig}"
    pods = {pod.metadata.name: pod.status.pod_ip for pod in room.deploy("web", replicas=3)}
    with open_discoverer(url) as found, found.watch("web") as watch:
        follow(watch, lambda held: {id: each.address for id, each in held.items()} == pods)
        room.cluster.kubectl("delete", "service/web", "-n", room.name)
        follow(watch, exactly())


def test_a_pod_that_is_not_ready_is_known_and_not_called(room: Namespace) -> None:
    name, value = HANDS_OFF
    (pod,) = room.deploy("web", replicas=1)
    with open_discoverer(f"kubernetes:{room.name}?kubeconfig={room.cluster.kubeconfig}") as found:
        with found.watch("web") as watch:
            follow(watch, lambda held: pod.metadata.name in held)
            room.core.patch_namespaced_pod(pod.metadata.name, room.name, {"metadata": {"annotations": {name: value}}})
            failing = {"conditions": [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]}
            room.core.patch_namespaced_pod_status(pod.metadata.name, room.name, {"status": failing})
            follow(watch, exactly())
        assert found.get_service("web").instances[pod.metadata.name].status is Status.DOWN


def test_labels_of_a_service_are_those_of_its_slices(room: Namespace) -> None:
    """What `waypost mirror kubernetes --selector` relies on."""
    room.deploy("web", replicas=1)
    room.core.patch_namespaced_service("web", room.name, {"metadata": {"labels": {"tier": "edge"}}})
    with open_discoverer(f"kubernetes:{room.name}?kubeconfig={room.cluster.kubeconfig}") as found:
        assert isinstance(found, KubernetesDiscoverer)
        eventually(lambda: found._api.list("tier=edge,kubernetes.io/service-name").found)


def test_who_may_not_is_told_what_to_grant(room: Namespace) -> None:
    kubeconfig = room.cluster.service_account_kubeconfig(room.name, "default")
    with (
        open_discoverer(f"kubernetes:{room.name}?kubeconfig={kubeconfig}") as found,
        pytest.raises(RegistryUnavailable, match="grant get, list and watch on endpointslices"),
    ):
        found.get_service("web")


def test_the_role_of_the_page_about_mirrors_is_enough(room: Namespace) -> None:
    (manifest,) = (fence.text for fence in fences(ROOT / "docs" / "mirrors.md") if fence.language == "yaml")
    room.cluster.kubectl("apply", "-f", "-", "-n", room.name, stdin=manifest)
    kubeconfig = room.cluster.service_account_kubeconfig(room.name, "waypost-mirror")
    granted = {Permission(verb=verb, resource="endpointslices.discovery.k8s.io") for verb in ("get", "list", "watch")}
    room.cluster.wait_until(
        lambda: permissions(room.cluster, kubeconfig, room.name) == EVERYBODY | granted, "the role counts"
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A cluster that nobody else uses, because its servers are stopped."""
    with Kubernetes(tmp_path_factory.mktemp("own"), nodes=1) as cluster:
        yield cluster


@pytest.fixture
def own_slices(own: Kubernetes) -> Iterator[RealSlices]:
    slices = RealSlices(own, "default")
    yield slices
    slices.drop("pay-1")
    slices.close()


def away(own: Kubernetes, watch: Watch) -> None:
    own.stop_server("kube-apiserver")
    eventually(lambda: watch.stale_since is not None)


def back(own: Kubernetes) -> None:
    own.start_server("kube-apiserver")
    own.wait_until(own._servers["kube-apiserver"].is_healthy, "the API server answers again")


def compact(own: Kubernetes) -> None:
    """Forget all of etcd's history, as the API server has it done every five minutes."""
    gateway = EtcdGateway(own._servers["etcd"].url)  # type: ignore[attr-defined]
    revision = gateway.list("/registry/endpointslices/").revision
    gateway._call("/v3/kv/compaction", {"revision": str(revision), "physical": True})
    gateway.close()


def test_an_api_server_goes_and_comes_back(own: Kubernetes, own_slices: RealSlices) -> None:
    put(own_slices, pay(1))
    with open_discoverer(f"kubernetes:default?kubeconfig={own.kubeconfig}") as found, found.watch("pay") as watch:
        follow(watch, exactly(pay(1)))
        away(own, watch)
        assert watch.poll(A_WHILE) == []
        assert watch.snapshot.callable == {"pay-1": pay(1)}
        back(own)
        put(own_slices, pay(2))
        follow(watch, exactly(pay(2)))
        eventually(lambda: watch.stale_since is None)


def test_history_that_is_gone_is_made_good_by_a_list_or_said(
    own: Kubernetes, own_slices: RealSlices, tmp_path: Path
) -> None:
    document = yaml.safe_load(own.kubeconfig.read_text())
    relay = Relay(document["clusters"][0]["cluster"]["server"].removeprefix("https://"))
    put(own_slices, pay(1))
    url = f"kubernetes:default?kubeconfig={through(own, relay, tmp_path)}"
    with open_discoverer(url) as found, found.watch("pay") as watch:
        follow(watch, exactly(pay(1)))
        old = watch.snapshot
        relay.cut(refuse=True)
        eventually(lambda: watch.stale_since is not None)
        put(own_slices, pay(2))
        put(own_slices, pay(3))
        # Neither the store nor the server's own cache has anything of before.
        compact(own)
        own.stop_server("kube-apiserver")
        back(own)
        relay.mend()

        follow(watch, exactly(pay(3)))
        eventually(lambda: watch.stale_since is None)
        with pytest.raises(WatchPositionLost, match="get_service"):  # noqa: SIM117
            with found.watch("pay", after=old) as later:
                follow(later, lambda held: False)
    relay.close()


def test_a_position_of_the_future_is_of_another_store(own: Kubernetes, own_slices: RealSlices) -> None:
    put(own_slices, pay(1))
    with open_discoverer(f"kubernetes:default?kubeconfig={own.kubeconfig}") as found:
        now = found.get_service("pay")
        place, _, version = now.position.rpartition(".")
        later = replace(now, position=f"{place}.{int(version) + 1_000_000}")
        with pytest.raises(WatchPositionLost):  # noqa: SIM117
            with found.watch("pay", after=later) as watch:
                follow(watch, lambda held: False)
