"""EndpointSlices as a test writes them, and the way to who serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from waypost.client.registry.instance import Instance
from waypost.model.lifecycle import Status


def endpoint(instance: Instance) -> dict[str, Any]:
    """Return the endpoint that is read as this instance, a pod on a node."""
    is_up = instance.status is Status.UP
    return {
        "addresses": [instance.address],
        "conditions": {
            "ready": is_up,
            "serving": instance.status in (Status.UP, Status.DRAINING),
            "terminating": instance.status is Status.DRAINING,
        },
        "targetRef": {"kind": "Pod", "name": instance.id},
        "nodeName": instance.metadata["node"],
        "zone": instance.zone,
    }


def endpoint_slice(
    service: str, *instances: Instance, name: str = "", ports: list[dict[str, Any]] | None = None, **labels: str
) -> dict[str, Any]:
    """Return a slice with these endpoints."""
    said = [{"name": "http", "port": port, "protocol": "TCP"} for port in sorted({each.port for each in instances})]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name or f"{service}-1", "labels": {"kubernetes.io/service-name": service, **labels}},
        "addressType": "IPv4",
        "ports": said if ports is None else ports,
        "endpoints": [endpoint(each) for each in instances],
    }


def write_kubeconfig(path: Path, url: str) -> Path:
    """Write a kubeconfig with the contexts `here` (namespace `shop`) and `a/b:c`."""
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: here,"
        f" clusters: [{{name: there, cluster: {{server: '{url}'}}}}],"
        " users: [{name: me, user: {token: t}}],"
        " contexts: [{name: here, context: {cluster: there, user: me, namespace: shop}},"
        " {name: 'a/b:c', context: {cluster: there, user: me}}]}"
    )
    return path
