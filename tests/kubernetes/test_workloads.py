"""Pods run, have addresses, are in EndpointSlices, and go when they are deleted."""

from __future__ import annotations

import ipaddress

from kubernetes import client

from tests.kubernetes.workloads import Namespace, condition
from waypost.local.kwok import HANDS_OFF


def test_a_deployments_pods_run_and_its_endpoint_slice_has_their_addresses(room: Namespace) -> None:
    pods = room.deploy("web", replicas=4)

    addresses = {pod.status.pod_ip for pod in pods}
    assert {pod.status.phase for pod in pods} == {"Running"}
    assert len(addresses) == 4
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network("10.64.0.0/16") for address in addresses)
    room.cluster.wait_until(lambda: room.endpoints("web") == dict.fromkeys(addresses, True), "the slice has them all")


def test_pods_spread_over_the_nodes(room: Namespace) -> None:
    pods = room.deploy("web", replicas=3)

    assert {pod.spec.node_name for pod in pods} <= {"node-1", "node-2", "node-3"}
    assert len({pod.spec.node_name for pod in pods}) > 1


def test_fewer_replicas_mean_fewer_endpoints(room: Namespace) -> None:
    room.deploy("web", replicas=3)

    room.cluster.kubectl("scale", "deployment/web", "--replicas=1", "-n", room.name)

    room.cluster.wait_until(lambda: len(room.pods("web")) == 1, "two pods are gone")
    [left] = room.pods("web")
    room.cluster.wait_until(lambda: room.endpoints("web") == {left.status.pod_ip: True}, "two endpoints are gone")


def test_a_restart_of_a_deployment_replaces_its_pods(room: Namespace) -> None:
    before = {pod.metadata.uid for pod in room.deploy("web", replicas=2)}

    room.cluster.kubectl("rollout", "restart", "deployment/web", "-n", room.name)

    def all_are_new() -> bool:
        now = {pod.metadata.uid for pod in room.ready_pods("web")}
        return len(now) == 2 and not now & before and len(room.pods("web")) == 2

    room.cluster.wait_until(all_are_new, "two new pods, and no old one")


def test_the_status_of_a_pod_is_the_tests_own_where_it_says_so(room: Namespace) -> None:
    [pod] = room.deploy("web", replicas=1)
    name, value = HANDS_OFF
    room.core.patch_namespaced_pod(pod.metadata.name, room.name, {"metadata": {"annotations": {name: value}}})
    crashing = {
        "conditions": [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")],
        "containerStatuses": [
            {
                "name": "main",
                "image": "",
                "imageID": "",
                "ready": False,
                "restartCount": 7,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            }
        ],
    }

    room.core.patch_namespaced_pod_status(pod.metadata.name, room.name, {"status": crashing})

    room.cluster.wait_until(lambda: room.endpoints("web") == {pod.status.pod_ip: False}, "its endpoint is not ready")
    seen = room.core.read_namespaced_pod(pod.metadata.name, room.name)
    assert condition(seen, "Ready") == "False"
    assert seen.status.container_statuses[0].state.waiting.reason == "CrashLoopBackOff"


def test_a_job_completes(room: Namespace) -> None:
    container = client.V1Container(name="main", image="registry.invalid/nothing:1")
    template = client.V1PodTemplateSpec(spec=client.V1PodSpec(containers=[container], restart_policy="Never"))
    batch = client.BatchV1Api(room.api)

    batch.create_namespaced_job(
        room.name,
        client.V1Job(metadata=client.V1ObjectMeta(name="once"), spec=client.V1JobSpec(template=template)),
    )

    room.cluster.wait_until(lambda: batch.read_namespaced_job("once", room.name).status.succeeded == 1, "it completed")
