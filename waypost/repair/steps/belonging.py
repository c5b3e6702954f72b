"""Which pods and which workload are a service's. A name in an alert is a claim; this is where it is looked at.

A service of Waypost and a Service of Kubernetes need not be the same thing. In this order: the pod's label
`waypost.io/service`; the Service of that name, by its selector; a workload of that name.
"""

from __future__ import annotations

from collections.abc import Mapping

from waypost.model.names import ServiceKey
from waypost.repair.objects import DEPLOYMENT, WORKLOADS, Pod, Workload
from waypost.repair.port import Cluster

SERVICE_LABEL = "waypost.io/service"

_OF_PARAMETER = {kind.lower(): kind for kind in WORKLOADS}


def belongs(cluster: Cluster, service: ServiceKey, pod: Pod, workload: Workload) -> bool:
    """Tell whether a pod of the service's namespace is one of the service."""
    said = pod.labels.get(SERVICE_LABEL)
    if said is not None:
        return said == service.service
    selector = cluster.service_selector(service.namespace, service.service)
    if selector:
        return _has(pod.labels, selector)
    return workload.name == service.service


def workload_for(cluster: Cluster, service: ServiceKey, named: str, pod: str) -> Workload | str:
    """Return the workload that a repair of a service is about, or why it cannot be told. `named` is what the policy
    says (`deployment/web`), "" when it says nothing; `pod` what the alert names."""
    if named:
        kind, _, name = named.partition("/")
        found = cluster.workload(_OF_PARAMETER[kind], service.namespace, name)
        return found if found is not None else f"there is no {named}"
    pods = _pods(cluster, service)
    if pods is None:
        workload = _of_that_name(cluster, service)
        return workload if workload is not None else "neither a Service nor a workload has the service's name"
    known = [one for one in pods if one.name == pod] or pods
    owners = {(w.kind, w.name): w for one in known if (w := cluster.workload_of(one)) is not None}
    if len(owners) == 1:
        return next(iter(owners.values()))
    if owners:
        listed = ", ".join(sorted(f"{kind.lower()}/{name}" for kind, name in owners))
        return f"the service's pods are of several workloads ({listed}): name one in the policy"
    return "nothing makes the service's pods anew" if pods else "the service has no pods"


def _pods(cluster: Cluster, service: ServiceKey) -> list[Pod] | None:
    selector = cluster.service_selector(service.namespace, service.service)
    if selector:
        return cluster.pods(service.namespace, selector)
    return cluster.pods(service.namespace, {SERVICE_LABEL: service.service}) or None


def _of_that_name(cluster: Cluster, service: ServiceKey) -> Workload | None:
    kinds = (DEPLOYMENT, *(kind for kind in WORKLOADS if kind != DEPLOYMENT))
    found = (cluster.workload(kind, service.namespace, service.service) for kind in kinds)
    return next((one for one in found if one is not None), None)


def _has(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())
