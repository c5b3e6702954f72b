"""examples/06-peers on a real API server: who is found, with which rights, and that the instances agree."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.contracts.registry_contract import eventually, follow
from tests.examples.peers import PEERS, Peer
from tests.kubernetes.permissions import EVERYBODY, Permission, permissions
from tests.kubernetes.workloads import Namespace
from waypost.client.registry.opening import open_discoverer
from waypost.local.kwok import HANDS_OFF
from waypost.local.ports import free_ports


@pytest.fixture
def applied(room: Namespace) -> Namespace:
    """The example as a user applies it, where the strictest pod security is enforced."""
    strict = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    room.core.patch_namespace(room.name, strict)
    room.cluster.kubectl("apply", "-k", str(PEERS), "-n", room.name)
    return room


def registry(room: Namespace) -> str:
    """Return where the example's service account finds its peers."""
    return f"kubernetes:{room.name}?kubeconfig={room.cluster.service_account_kubeconfig(room.name, 'peers')}"


def selected(room: Namespace) -> set[str]:
    """Follow Service -> selector -> ready pods, as the administrator."""
    wanted = room.core.read_namespaced_service("peers", room.name).spec.selector
    labels = ",".join(f"{key}={value}" for key, value in wanted.items())
    pods = room.core.list_namespaced_pod(room.name, label_selector=labels).items
    return {
        pod.metadata.name
        for pod in pods
        if pod.metadata.deletion_timestamp is None
        and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
    }


def test_an_instance_finds_the_pods_that_its_service_selects_and_may_do_nothing_else(applied: Namespace) -> None:
    kubeconfig = applied.cluster.service_account_kubeconfig(applied.name, "peers")
    granted = {Permission(verb=verb, resource="endpointslices.discovery.k8s.io") for verb in ("get", "list", "watch")}
    applied.cluster.wait_until(
        lambda: permissions(applied.cluster, kubeconfig, applied.name) == EVERYBODY | granted, "the role counts"
    )
    assert permissions(applied.cluster, kubeconfig, "default") == EVERYBODY
    applied.cluster.wait_until(lambda: len(selected(applied)) == 3, "three pods are ready")

    with open_discoverer(registry(applied)) as discoverer, discoverer.watch("peers") as watch:
        follow(watch, lambda held: set(held) == selected(applied))
        for pod in applied.core.list_namespaced_pod(applied.name).items:
            found = watch.snapshot.callable[pod.metadata.name]
            assert (found.address, found.port) == (pod.status.pod_ip, 8080)
            assert found.metadata == {"node": pod.spec.node_name}

        applied.cluster.kubectl("scale", "deployment/peers", "--replicas=1", "-n", applied.name)
        follow(watch, lambda held: len(held) == 1)
        follow(watch, lambda held: set(held) == selected(applied))
        applied.cluster.kubectl("scale", "deployment/peers", "--replicas=4", "-n", applied.name)
        follow(watch, lambda held: len(held) == 4)
        follow(watch, lambda held: set(held) == selected(applied))
        assert discoverer.list_services() == ("peers",)


def own_address() -> str:
    """Return an address of this machine that is not loopback, which no endpoint may have. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
    return address


class Pods:
    """Pods of the example whose processes are ours: selected by its Service, each listening on its own port here."""

    def __init__(self, room: Namespace) -> None:
        self._room = room
        self._registry = registry(room)
        self._address = own_address()
        self._running: dict[str, Peer] = {}

    def start(self, name: str) -> Peer:
        [port] = free_ports([None])
        annotation, off = HANDS_OFF
        port_of_it = client.V1ContainerPort(name="http", container_port=port)
        spec = client.V1PodSpec(
            node_name="node-1",
            security_context=client.V1PodSecurityContext(
                run_as_non_root=True, seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault")
            ),
            containers=[
                client.V1Container(
                    name="main",
                    image="registry.invalid/peers:1",
                    ports=[port_of_it],
                    security_context=client.V1SecurityContext(
                        allow_privilege_escalation=False, capabilities=client.V1Capabilities(drop=["ALL"])
                    ),
                )
            ],
        )
        metadata = client.V1ObjectMeta(name=name, labels={"app": "peers"}, annotations={annotation: off})
        self._room.core.create_namespaced_pod(self._room.name, client.V1Pod(metadata=metadata, spec=spec))
        return self._run(name, port)

    def kill(self, name: str) -> None:
        """End the process; its pod stays, and is not ready."""
        self._running[name].kill()
        self._say(name, ready="False")

    def restart(self, name: str) -> Peer:
        """Run the process again in its pod, as a kubelet does. (A new pod of that name would be at kwok's mercy: it
        removes a deleted pod by its name, whichever has it by then.)"""
        return self._run(name, self._running[name].port)

    def _run(self, name: str, port: int) -> Peer:
        peer = self._running[name] = Peer(name, self._address, port, self._registry)
        eventually(lambda: peer.peers() is not None)
        self._say(name, ready="True")
        return peer

    def _say(self, name: str, *, ready: str) -> None:
        status = {
            "phase": "Running",
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "conditions": [
                {"type": "Ready", "status": ready},
                {"type": "ContainersReady", "status": ready},
                {"type": "Initialized", "status": "True"},
            ],
        }
        self._room.core.patch_namespaced_pod_status(name, self._room.name, {"status": status})

    def close(self) -> None:
        for peer in self._running.values():
            peer.kill()


@pytest.fixture
def pods(applied: Namespace) -> Iterator[Pods]:
    applied.cluster.kubectl("scale", "deployment/peers", "--replicas=0", "-n", applied.name)
    pods = Pods(applied)
    yield pods
    pods.close()


def test_the_instances_keep_one_cache(pods: Pods) -> None:
    one, two = pods.start("peers-1"), pods.start("peers-2")
    eventually(lambda: (one.peers(), two.peers()) == (["peers-2"], ["peers-1"]))
    one.put("colour", "red")
    eventually(lambda: two.get("colour") == "red")

    late = pods.start("peers-3")
    eventually(lambda: late.get("colour") == "red")
    pods.kill("peers-1")
    late.put("colour", "blue")
    eventually(lambda: (two.get("colour"), two.peers()) == ("blue", ["peers-3"]))
    eventually(lambda: late.peers() == ["peers-2"])

    back = pods.restart("peers-1")
    eventually(lambda: back.get("colour") == "blue")
    eventually(lambda: two.peers() == ["peers-1", "peers-3"])
