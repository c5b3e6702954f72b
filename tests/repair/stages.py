"""The fake as a stage of the contract, alone and behind a socket."""

from __future__ import annotations

from waypost.repair.fake import FakeCluster
from waypost.repair.objects import DEPLOYMENT, Pod
from waypost.repair.port import Cluster

NODES = ("n1", "n2", "n3")


class FakeStage:
    """`fake` is what there is, `cluster` the way in that is tested."""

    namespace = "shop"

    def __init__(self, fake: FakeCluster, cluster: Cluster) -> None:
        self.fake, self.cluster = fake, cluster
        for name in NODES:
            fake.add_node(name)

    def deploy(self, name: str, replicas: int, kind: str = DEPLOYMENT, *, recreate: bool = False) -> list[Pod]:
        at_once = replicas if recreate else 1
        workload = self.fake.add_workload(kind, self.namespace, name, replicas=replicas, at_once=at_once)
        self.fake.add_service(self.namespace, name, workload.selector)
        return self.fake.pods(self.namespace, workload.selector)

    def budget(self, name: str, min_available: int) -> None:
        self.fake.add_budget(self.namespace, {"app": name}, min_available)

    def settle(self) -> None:
        self.fake.settle()

    def touch(self, kind: str, name: str) -> None:
        self.fake.touch(kind, self.namespace, name)

    def opt_out(self, kind: str, name: str, value: str) -> None:
        self.fake.opt_out(kind, self.namespace, name, out=value != "on")

    def a_node(self) -> str:
        return NODES[0]

    def uncordon(self, name: str) -> None:
        self.fake.uncordon(name, self.now())

    def now(self) -> int:
        return 1_795_608_000_000
