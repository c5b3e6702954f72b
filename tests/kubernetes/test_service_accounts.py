"""RBAC is on: a service account may do what a role says, and nothing else."""

from __future__ import annotations

import pytest
from kubernetes import client

from tests.kubernetes.permissions import EVERYBODY, Permission, permissions
from tests.kubernetes.workloads import Namespace


def an_account(room: Namespace, name: str) -> str:
    room.core.create_namespaced_service_account(
        room.name, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name=name))
    )
    return name


def test_an_account_without_a_role_may_touch_no_object(room: Namespace) -> None:
    kubeconfig = room.cluster.service_account_kubeconfig(room.name, an_account(room, "nobody"))

    assert permissions(room.cluster, kubeconfig, room.name) == EVERYBODY
    with room.cluster.api_client(kubeconfig) as api, pytest.raises(client.ApiException) as refusal:
        client.CoreV1Api(api).list_namespaced_pod(room.name)
    assert refusal.value.status == 403
    assert f"system:serviceaccount:{room.name}:nobody" in refusal.value.body


def test_a_role_gives_its_verbs_in_its_namespace_only(room: Namespace) -> None:
    account = an_account(room, "reader")
    room.cluster.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods", "-n", room.name)
    room.cluster.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={room.name}:{account}", "-n", room.name
    )

    kubeconfig = room.cluster.service_account_kubeconfig(room.name, account)

    granted = {Permission(verb=verb, resource="pods") for verb in ("get", "list")}
    room.cluster.wait_until(
        lambda: permissions(room.cluster, kubeconfig, room.name) == EVERYBODY | granted, "the role counts"
    )
    assert permissions(room.cluster, kubeconfig, "default") == EVERYBODY
    with room.cluster.api_client(kubeconfig) as api:
        assert client.CoreV1Api(api).list_namespaced_pod(room.name).items == []


def test_there_is_no_token_for_an_account_that_does_not_exist(room: Namespace) -> None:
    with pytest.raises(client.ApiException) as refusal:
        room.cluster.service_account_kubeconfig(room.name, "missing")

    assert refusal.value.status == 404


def test_kubeconfigs_are_readable_by_their_owner_only(room: Namespace) -> None:
    made = room.cluster.service_account_kubeconfig(room.name, an_account(room, "anybody"))

    assert [path.stat().st_mode & 0o777 for path in (made, room.cluster.kubeconfig)] == [0o600, 0o600]


def test_the_administrator_may_do_anything(room: Namespace) -> None:
    may = permissions(room.cluster, room.cluster.kubeconfig, room.name)

    assert Permission(verb="*", resource="*.*") in may
