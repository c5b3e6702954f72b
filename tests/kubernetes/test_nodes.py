"""Nodes live by their leases: made, failed, recovered."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client
from kubernetes.utils.quantity import parse_quantity

from tests.kubernetes.workloads import Namespace, condition
from waypost.local.kubernetes import Kubernetes


@pytest.fixture
def node(room: Namespace) -> Iterator[str]:
    """A node of the test's own, Ready, in zone b."""
    name = f"frail-{secrets.token_hex(3)}"
    room.cluster.add_nodes([name], labels={"topology.kubernetes.io/zone": "b"})
    yield name
    room.core.delete_node(name)


def test_nodes_become_ready_with_room_for_pods(kubernetes: Kubernetes) -> None:
    with kubernetes.api_client() as api:
        read = lambda: [client.CoreV1Api(api).read_node(name) for name in ("node-1", "node-2", "node-3")]  # noqa: E731
        is_ready = lambda: all(condition(node, "Ready") == "True" for node in read())  # noqa: E731
        kubernetes.wait_until(is_ready, "the nodes are ready")
        nodes = read()

    assert [parse_quantity(node.status.allocatable["pods"]) for node in nodes] == [1000] * 3


def test_a_node_has_the_labels_it_was_made_with(room: Namespace, node: str) -> None:
    labels = room.core.read_node(node).metadata.labels

    assert labels["topology.kubernetes.io/zone"] == "b"
    assert labels["kubernetes.io/hostname"] == node


def test_a_node_whose_lease_stops_is_not_ready_until_it_recovers(room: Namespace, node: str) -> None:
    [pod] = room.deploy("web", replicas=1, on_node=node)
    address = pod.status.pod_ip
    room.cluster.wait_until(lambda: room.endpoints("web") == {address: True}, "its endpoint is ready")

    room.cluster.fail_node(node)

    room.cluster.wait_until(lambda: condition(room.core.read_node(node), "Ready") == "Unknown", "the node is lost")
    room.cluster.wait_until(lambda: room.endpoints("web") == {address: False}, "its endpoint is not ready")
    room.cluster.wait_until(
        lambda: "node.kubernetes.io/unreachable" in {t.key for t in room.core.read_node(node).spec.taints or ()},
        "it is tainted",
    )

    room.cluster.recover_node(node)

    room.cluster.wait_until(lambda: condition(room.core.read_node(node), "Ready") == "True", "the node is back")
    room.cluster.wait_until(lambda: room.endpoints("web") == {address: True}, "its endpoint is ready again")
    assert [p.metadata.uid for p in room.ready_pods("web")] == [pod.metadata.uid]


def test_a_pod_deleted_on_a_dead_node_stays_until_the_node_is_back(room: Namespace, node: str) -> None:
    [pod] = room.deploy("web", replicas=1, on_node=node)
    room.cluster.fail_node(node)
    # By then kwok has heard that the node is not its any more, too.
    room.cluster.wait_until(lambda: condition(room.core.read_node(node), "Ready") == "Unknown", "the node is lost")

    room.core.delete_namespaced_pod(pod.metadata.name, room.name)

    uids = {p.metadata.uid: p for p in room.pods("web")}
    assert uids[pod.metadata.uid].metadata.deletion_timestamp is not None

    room.cluster.recover_node(node)

    room.cluster.wait_until(
        lambda: pod.metadata.uid not in {p.metadata.uid for p in room.pods("web")}, "the kubelet removes it"
    )
