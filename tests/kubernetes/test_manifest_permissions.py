"""What each account of k8s/ may do: exactly this, swept with `kubectl auth can-i --list`."""

from __future__ import annotations

import pytest

from tests.kubernetes.grants import CONTROLLER, FLINK, MIRROR, REPAIR_ANYWHERE
from tests.kubernetes.permissions import EVERYBODY, permissions
from waypost.local.kubernetes import Kubernetes

HERE = {
    ("waypost", "default"): set(),
    ("waypost", "waypost-bridge"): set(),
    ("waypost", "waypost-controller"): CONTROLLER,
    ("waypost", "waypost-flink"): FLINK,
    ("waypost", "waypost-gateway-feed"): set(),
    ("waypost", "waypost-mirror"): set(),
    ("waypost", "waypost-repair"): FLINK | REPAIR_ANYWHERE,
    ("waypost", "waypost-witness"): set(),
    ("waypost-agents", "default"): set(),
    ("waypost-agents", "waypost-agent"): set(),
    ("microservices", "default"): set(),
}
"""Account → what it may do in its own namespace beyond what everybody may."""
ANYWHERE = {("waypost", "waypost-repair"): REPAIR_ANYWHERE}
"""Account → what of it holds in all namespaces; nothing for the others."""


def test_the_table_has_every_account(installed: Kubernetes) -> None:
    names = set()
    for namespace in sorted({namespace for namespace, _ in HERE}):
        listed = installed.kubectl("get", "serviceaccounts", "-n", namespace, "-o", "name").split()
        names |= {(namespace, name.removeprefix("serviceaccount/")) for name in listed}

    assert names == set(HERE)


@pytest.mark.parametrize("account", sorted(HERE), ids=lambda account: "/".join(account))
def test_an_account_may_do_this_and_nothing_else(installed: Kubernetes, account: tuple[str, str]) -> None:
    kubeconfig = installed.service_account_kubeconfig(*account)

    assert permissions(installed, kubeconfig, account[0]) == EVERYBODY | HERE[account]
    assert permissions(installed, kubeconfig, "kube-system") == EVERYBODY | ANYWHERE.get(account, set())


def test_the_mirror_may_read_a_namespace_that_binds_its_role(installed: Kubernetes, namespace: str) -> None:
    binding = ("--clusterrole=waypost-mirror", "--serviceaccount=waypost:waypost-mirror")
    installed.kubectl("create", "rolebinding", "waypost-mirror", "-n", namespace, *binding)
    kubeconfig = installed.service_account_kubeconfig("waypost", "waypost-mirror")

    installed.wait_until(
        lambda: permissions(installed, kubeconfig, namespace) == EVERYBODY | MIRROR, "the binding counts, and no more"
    )
