"""Nodes that do not exist, and their kubelets: made, taken away and given back at the API server."""

from __future__ import annotations

from collections.abc import Mapping

from kubernetes import client

from waypost.local.kwok import KUBELET_LABEL, KUBELET_RUNS


def create(core: client.CoreV1Api, name: str, labels: Mapping[str, str]) -> None:
    """Create a node with a kubelet. kwok makes it Ready."""
    metadata = client.V1ObjectMeta(
        name=name, labels={"kubernetes.io/hostname": name, **labels, KUBELET_LABEL: KUBELET_RUNS}
    )
    core.create_node(client.V1Node(metadata=metadata))


def take_kubelet_away(core: client.CoreV1Api, name: str) -> None:
    """Let kwok forget the node, as if the machine were gone."""
    core.patch_node(name, {"metadata": {"labels": {KUBELET_LABEL: None}}})


def give_kubelet_back(core: client.CoreV1Api, name: str) -> None:
    core.patch_node(name, {"metadata": {"labels": {KUBELET_LABEL: KUBELET_RUNS}}})


def ready(core: client.CoreV1Api) -> set[str]:
    """Return the names of the nodes whose Ready condition is True."""
    return {
        node.metadata.name
        for node in core.list_node().items
        if node.metadata is not None and node.metadata.name is not None and is_ready(node)
    }


def is_ready(node: client.V1Node) -> bool:
    conditions = (node.status.conditions if node.status else None) or []
    return any(c.type == "Ready" and c.status == "True" for c in conditions)
