"""Everything in k8s/ is taken by a real API server as it stands, and its pods run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.kubernetes import manifests
from tests.kubernetes.manifests import BASE, OVERLAYS
from waypost.local.kubernetes import Kubernetes

WORKLOADS = ("Deployment", "DaemonSet")


@pytest.mark.parametrize("name", [n for n in manifests.BASES if n != "discovery"])
def test_a_base_is_applied_again_without_any_change(installed: Kubernetes, name: str) -> None:
    before = versions(installed, BASE / name)

    manifests.apply(installed, manifests.built(BASE / name))

    assert versions(installed, BASE / name) == before


def versions(cluster: Kubernetes, directory: Path) -> dict[str, int]:
    """Return the generation of each object that has one: it moves when a spec does."""
    text = cluster.kubectl("get", "-o", "yaml", "-f", "-", stdin=manifests.built(directory))
    body = yaml.safe_load(text)
    items = body["items"] if body["kind"] == "List" else [body]
    return {f"{b['kind']}/{b['metadata']['name']}": b["metadata"].get("generation", 0) for b in items}


def test_every_pod_of_the_bases_runs(installed: Kubernetes) -> None:
    wanted = pods_of([body for name in manifests.BASES for body in manifests.objects(BASE / name)], nodes=3)
    assert wanted[("microservices", "provider")] == 3
    assert wanted[("microservices", "consumer")] == 2

    until_they_run(installed, wanted)


def pods_of(bodies: list[dict[str, Any]], *, nodes: int) -> dict[tuple[str, str], int]:
    """Return how many pods there should be of each workload, by namespace and name."""
    return {
        (body["metadata"]["namespace"], body["metadata"]["name"]): (
            nodes if body["kind"] == "DaemonSet" else body["spec"]["replicas"]
        )
        for body in bodies
        if body["kind"] in WORKLOADS
    }


def until_they_run(cluster: Kubernetes, wanted: dict[tuple[str, str], int]) -> None:
    with cluster.api_client() as api:
        core = client.CoreV1Api(api)

        def run(namespace: str, name: str, count: int) -> bool:
            pods = core.list_namespaced_pod(namespace, label_selector=f"app.kubernetes.io/name={name}").items
            return sum(pod.status.phase == "Running" for pod in pods) >= count

        for (namespace, name), count in wanted.items():
            cluster.wait_until(partial(run, namespace, name, count), f"{count} pods of {name} run")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Kubernetes]:
    """A cluster of the test's own where only the operators that overlays presuppose have said their kinds."""
    with Kubernetes(tmp_path / "cluster", nodes=1) as cluster:
        manifests.define(cluster)
        yield cluster


@pytest.mark.kubernetes
def test_dev_installs_on_an_empty_cluster_and_goes_again(empty: Kubernetes) -> None:
    goes_up_and_down(empty, "dev")


@pytest.mark.kubernetes
def test_prod_installs_on_an_empty_cluster_and_leaves_the_definition(empty: Kubernetes) -> None:
    empty.kubectl("apply", "--server-side", "-k", str(BASE / "crd"))
    empty.kubectl("wait", "--for=condition=Established", "crd/kafkaservicediscoveries.waypost.io")

    goes_up_and_down(empty, "prod")

    assert "kafkaservicediscoveries.waypost.io" in empty.kubectl("get", "crd", "-o", "name")


def goes_up_and_down(cluster: Kubernetes, name: str) -> None:
    """Apply an overlay by the command of the documentation, wait for its pods, and delete it."""
    overlay = OVERLAYS / name
    bodies = manifests.objects(overlay)

    taken = cluster.kubectl("apply", "--server-side", "--validate=strict", "-k", str(overlay))
    assert taken.count("serverside-applied") == len(bodies)
    until_they_run(cluster, pods_of(bodies, nodes=1))

    cluster.kubectl("delete", "--wait=false", "-k", str(overlay))
    ours = {f"namespace/{body['metadata']['name']}" for body in bodies if body["kind"] == "Namespace"}
    assert ours
    cluster.wait_until(
        lambda: not ours & set(cluster.kubectl("get", "namespaces", "-o", "name").split()), f"{name} is gone"
    )


@pytest.mark.parametrize("name", ["route-job", "repair-job"])
def test_the_pods_of_a_flink_job_would_be_admitted(installed: Kubernetes, name: str) -> None:
    [deployment] = [b for b in manifests.objects(BASE / name) if b["kind"] == "FlinkDeployment"]
    pod = pod_of(deployment)

    assert "created (server dry run)" in installed.kubectl(
        "create", "--validate=strict", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod)
    )


def test_an_ordinary_pod_is_not_admitted_beside_them(installed: Kubernetes) -> None:
    with installed.api_client() as api, pytest.raises(client.ApiException, match="restricted") as refusal:
        client.CoreV1Api(api).create_namespaced_pod(
            "waypost",
            client.V1Pod(
                metadata=client.V1ObjectMeta(name="root"),
                spec=client.V1PodSpec(containers=[client.V1Container(name="main", image="registry.invalid/any:1")]),
            ),
        )

    assert refusal.value.status == 403


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return a pod of the job's template, with what Flink adds to it."""
    spec = deployment["spec"]
    template = spec["podTemplate"]["spec"]
    [container] = template["containers"]
    assert container["name"] == "flink-main-container", "Flink merges its own container by this name"
    main = {**container, "image": spec["image"]}
    metadata = {"name": "job", "namespace": deployment["metadata"]["namespace"]}
    pod = {**template, "serviceAccountName": spec["serviceAccount"], "containers": [main]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def test_budgets_count_the_pods_they_are_for(installed: Kubernetes) -> None:
    with installed.api_client() as api:
        policy = client.PolicyV1Api(api)

        def counted(namespace: str, name: str) -> bool:
            status = policy.read_namespaced_pod_disruption_budget(name, namespace).status
            return status is not None and status.current_healthy >= 2 and status.disruptions_allowed == 1

        for namespace, name in (
            ("waypost", "waypost-witness"),
            ("waypost", "waypost-gateway-feed"),
            ("waypost", "waypost-bridge"),
            ("waypost", "waypost-controller"),
            ("microservices", "provider"),
            ("microservices", "consumer"),
        ):
            installed.wait_until(partial(counted, namespace, name), f"the budget of {name} counts its pods")


def test_services_find_the_pods_of_the_demo(installed: Kubernetes) -> None:
    with installed.api_client() as api:
        discovery = client.DiscoveryV1Api(api)

        def has(service: str, count: int) -> bool:
            selector = f"kubernetes.io/service-name={service}"
            slices = discovery.list_namespaced_endpoint_slice("microservices", label_selector=selector).items
            return sum(bool(e.conditions.ready) for piece in slices for e in piece.endpoints or ()) >= count

        for app, count in (("provider", 3), ("consumer", 2)):
            for service in (app, f"{app}-nodeport", f"{app}-headless"):
                installed.wait_until(partial(has, service, count), f"{service} has {count} endpoints")


@pytest.mark.kubernetes
def test_an_overlay_says_once_which_images_are_run(tmp_path: Path) -> None:
    shutil.copytree(manifests.ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "prod" / "kustomization.yaml"
    said = overlay.read_text()
    for name in ("waypost", "waypost-flink"):
        entry = f"{{name: {name}, newTag: 0.1.0}}"
        said = said.replace(entry, f"{{name: {name}, newName: example.com/{name}, newTag: 9.9.9}}")
    overlay.write_text(said)

    built = manifests.built(overlay.parent)

    assert "example.com/waypost:9.9.9" in built
    assert built.count("example.com/waypost-flink:9.9.9") == 2  # the repair job, and what the controller is told
    assert ":0.1.0" not in built
