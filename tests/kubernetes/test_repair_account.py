"""The repair job's account, as k8s/base/repair-account makes it: it may do what repairs do, and not one verb more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.grants import FLINK, REPAIR_ANYWHERE, REPAIR_IN_DEFAULT, REPAIR_WHERE_BOUND
from tests.kubernetes.permissions import EVERYBODY, permissions
from tests.repair.contract import ClusterContract
from tests.repair.test_real_contract import RealStage
from waypost.local.kubernetes import Kubernetes
from waypost.repair.api_server import connect
from waypost.repair.port import Denied

pytestmark = pytest.mark.timeout(900)


def test_in_a_namespace_that_may_be_repaired_it_may_do_this_and_nothing_more(
    kubernetes: Kubernetes, repair_account: Path, bound: str
) -> None:
    assert permissions(kubernetes, repair_account, bound) == EVERYBODY | REPAIR_ANYWHERE | REPAIR_WHERE_BOUND


def test_elsewhere_it_may_only_see_which_pods_there_are_and_run_itself(
    kubernetes: Kubernetes, repair_account: Path, namespace: str
) -> None:
    kubernetes.wait_until(
        lambda: permissions(kubernetes, repair_account, namespace) >= EVERYBODY | REPAIR_ANYWHERE, "the binding counts"
    )

    assert permissions(kubernetes, repair_account, namespace) == EVERYBODY | REPAIR_ANYWHERE
    assert permissions(kubernetes, repair_account, "kube-system") == EVERYBODY | REPAIR_ANYWHERE
    assert permissions(kubernetes, repair_account, "waypost") == EVERYBODY | REPAIR_ANYWHERE | FLINK
    assert permissions(kubernetes, repair_account, "default") == EVERYBODY | REPAIR_ANYWHERE | REPAIR_IN_DEFAULT


def test_what_it_may_not_do_is_refused(kubernetes: Kubernetes, repair_account: Path, namespace: str) -> None:
    kubernetes.kubectl("create", "deployment", "web", "--image=any", "-n", namespace)
    cluster = connect(repair_account, timeout_ms=10_000)

    with pytest.raises(Denied, match="403"):
        cluster.workload("Deployment", namespace, "web")

    cluster.close()


class TestWithTheseRights(ClusterContract):
    """All that repairs do, done with them."""

    @pytest.fixture
    def stage(self, kubernetes: Any, repair_account: Path, bound: str) -> Iterator[RealStage]:
        cluster = connect(repair_account, timeout_ms=10_000)
        with kubernetes.api_client() as api:
            yield RealStage(kubernetes, bound, api, cluster)
        cluster.close()
