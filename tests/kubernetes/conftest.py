"""The cluster itself is in tests/conftest.py, because others use it too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes import manifests
from tests.kubernetes.permissions import permissions
from tests.kubernetes.workloads import Namespace, opened
from waypost.local.kubernetes import Kubernetes


@pytest.fixture
def room(kubernetes: Kubernetes, namespace: str) -> Iterator[Namespace]:
    """A namespace of the test's own, with what the tests here do in one."""
    with opened(kubernetes, namespace) as made:
        yield made


@pytest.fixture(scope="session")
def installed(kubernetes: Kubernetes) -> Kubernetes:
    """The cluster with k8s/base applied; its namespaces are `waypost`, `waypost-agents` and `microservices`."""
    manifests.install(kubernetes)
    return kubernetes


@pytest.fixture(scope="session")
def repair_account(installed: Kubernetes) -> Path:
    """The kubeconfig of the repair job's account, made by the manifest as it is shipped."""
    return installed.service_account_kubeconfig("waypost", "waypost-repair")


@pytest.fixture
def bound(kubernetes: Kubernetes, repair_account: Path, namespace: str) -> str:
    """A namespace whose workloads may be repaired."""
    binding = manifests.BASE / "repair-account" / "binding.yaml"
    kubernetes.kubectl("apply", "-n", namespace, "-f", str(binding))
    kubernetes.wait_until(
        lambda: any(may.resource == "pods/eviction" for may in permissions(kubernetes, repair_account, namespace)),
        "the binding counts",
    )
    return namespace
