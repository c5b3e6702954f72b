"""KafkaServiceDiscovery objects for tests, as the API server gives them out."""

from __future__ import annotations

from typing import Any

from waypost.controller.discovery import Discovery, read_discovery


def a_body(
    name: str = "shop", *, uid: str = "uid-1", created: str = "2026-11-22T10:00:00Z", **spec: Any
) -> dict[str, Any]:
    """Return one with the required fields; `spec` adds to them or replaces them."""
    return {
        "apiVersion": "waypost.io/v1alpha1",
        "kind": "KafkaServiceDiscovery",
        "metadata": {"namespace": "waypost", "name": name, "uid": uid, "generation": 1, "creationTimestamp": created},
        "spec": {"topic": "service-registry", "groupID": "waypost-route-table", **spec},
    }


def a_discovery(name: str = "shop", **spec: Any) -> Discovery:
    return read_discovery(a_body(name, **spec))
