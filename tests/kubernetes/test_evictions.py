"""The Eviction API honours budgets: this is what repairs will rely on."""

from __future__ import annotations

import pytest
from kubernetes import client

from tests.kubernetes.workloads import Namespace


def test_an_eviction_against_the_budget_is_refused_with_429(room: Namespace) -> None:
    pods = room.deploy("web", replicas=2)
    room.budget("web", min_available=2)

    with pytest.raises(client.ApiException) as refusal:
        room.evict(pods[0])

    assert refusal.value.status == 429
    assert {pod.metadata.uid for pod in room.ready_pods("web")} == {pod.metadata.uid for pod in pods}


def test_an_eviction_within_the_budget_replaces_the_pod(room: Namespace) -> None:
    evicted, stays = room.deploy("web", replicas=2)
    room.budget("web", min_available=1)

    room.evict(evicted)

    def is_replaced() -> bool:
        now = {pod.metadata.uid for pod in room.ready_pods("web")}
        return len(now) == 2 and evicted.metadata.uid not in now

    room.cluster.wait_until(is_replaced, "another pod runs in its place")
    assert stays.metadata.uid in {pod.metadata.uid for pod in room.ready_pods("web")}
    addresses = {pod.status.pod_ip for pod in room.ready_pods("web")}
    room.cluster.wait_until(lambda: set(room.endpoints("web")) == addresses, "the slice follows")
