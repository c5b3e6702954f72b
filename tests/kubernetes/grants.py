"""What the roles in k8s/ grant, verb by verb; what is granted beyond these is found by asking a real API server."""

from __future__ import annotations

from tests.kubernetes.permissions import Permission


def may(verbs: str, resource: str, name: str = "") -> set[Permission]:
    return {Permission(verb=verb, resource=resource, name=name) for verb in verbs.split()}


FLINK = (
    may("get list watch create delete deletecollection", "pods")
    | may("get list watch create update patch delete deletecollection", "configmaps")
    | may("get list watch", "services")
    | may("get list watch", "deployments.apps")
    | may("update", "deployments.apps/finalizers")
)
CONTROLLER = (
    may("get list watch patch", "kafkaservicediscoveries.waypost.io")
    | may("patch", "kafkaservicediscoveries.waypost.io/status")
    | may("update", "kafkaservicediscoveries.waypost.io/finalizers")
    | may("get list watch create patch delete", "flinkdeployments.flink.apache.org")
    | may("get list watch create patch delete", "deployments.apps")
    | may("create", "leases.coordination.k8s.io")
    | may("get update", "leases.coordination.k8s.io", name="waypost-controller")
    | may("create", "events")
)
MIRROR = may("get list watch", "endpointslices.discovery.k8s.io")
REPAIR_ANYWHERE = may("get patch", "nodes") | may("list", "pods")
REPAIR_IN_DEFAULT = may("create", "events")
"""Events about nodes are kept in the namespace `default`."""
REPAIR_WHERE_BOUND = (
    may("get list", "pods")
    | may("create", "pods/eviction")
    | may("get", "services")
    | may("create", "events")
    | may("get patch", "deployments.apps")
    | may("get patch", "statefulsets.apps")
    | may("get patch", "daemonsets.apps")
    | may("get", "replicasets.apps")
)
