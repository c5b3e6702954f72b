"""What every `Cluster` promises, whatever is behind it. `Stage` makes what a test needs there; the same class runs on
the fake, on the adapter over a socket, and (marker `kubernetes`) on a real control plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pytest

from waypost.repair.claims import CLAIMS, CORDONED_BY, RESTARTED
from waypost.repair.objects import DEPLOYMENT, STATEFUL_SET, Note, Pod, Workload
from waypost.repair.port import Cluster, Conflict, EmptyName, NotNow

NS = "shop"


class Stage(Protocol):
    """A cluster with something in it. Methods return when the control plane has done its part."""

    namespace: str
    cluster: Cluster

    def deploy(self, name: str, replicas: int, kind: str = DEPLOYMENT, *, recreate: bool = False) -> list[Pod]:
        """Make a workload and a Service of that name; return its pods, all Ready. `recreate`: a Deployment that takes
        all of them down at once."""

    def budget(self, name: str, min_available: int) -> None: ...

    def settle(self) -> None:
        """Return when all workloads have what they shall have."""

    def touch(self, kind: str, name: str) -> None:
        """Let somebody else change a workload or a node."""

    def opt_out(self, kind: str, name: str, value: str) -> None:
        """Let the owner of a pod, a Deployment or a node write the annotation."""

    def a_node(self) -> str: ...

    def uncordon(self, name: str) -> None:
        """Let a person do it."""

    def now(self) -> int:
        """Return the control plane's time, epoch ms."""


class ClusterContract:
    """Subclasses have a fixture `stage`."""

    def test_what_is_not_there_is_none(self, stage: Stage) -> None:
        cluster, ns = stage.cluster, stage.namespace

        assert cluster.pod(ns, "nobody") is None
        assert cluster.workload(DEPLOYMENT, ns, "nobody") is None
        assert cluster.service_selector(ns, "nobody") is None
        assert cluster.node("no-such-node") is None
        assert cluster.pods(ns, {"app": "nobody"}) == []
        assert cluster.pods_on("no-such-node") == []

    def test_an_empty_name_is_never_everything(self, stage: Stage) -> None:
        [pod] = stage.deploy("web", 1)
        cluster, ns = stage.cluster, stage.namespace

        for call in (
            lambda: cluster.pods("", {"app": "web"}),
            lambda: cluster.pods(ns, {}),
            lambda: cluster.pods_on(""),
            lambda: cluster.pod(ns, ""),
            lambda: cluster.pod("", "web"),
            lambda: cluster.pod("*", "web"),
            lambda: cluster.pod("../..", "web"),
            lambda: cluster.workload(DEPLOYMENT, "", "web"),
            lambda: cluster.workload(DEPLOYMENT, ns, ""),
            lambda: cluster.node(""),
            lambda: cluster.service_selector("", ""),
            lambda: cluster.evict(Pod(namespace="", name=pod.name, uid=pod.uid)),
            lambda: cluster.evict(Pod(namespace=ns, name=pod.name, uid="")),
            lambda: cluster.evict(Pod(namespace=ns, name="", uid=pod.uid)),
        ):
            with pytest.raises(EmptyName):
                call()

        assert cluster.pod(ns, pod.name) == pod

    def test_a_pod_is_found_by_name_label_and_node(self, stage: Stage) -> None:
        pods = stage.deploy("web", 3)
        cluster, ns = stage.cluster, stage.namespace

        assert {pod.name for pod in cluster.pods(ns, {"app": "web"})} == {pod.name for pod in pods}
        one = cluster.pod(ns, pods[0].name)
        assert one is not None
        assert one.ready
        assert one.uid in {pod.uid for pod in cluster.pods_on(one.node)}
        assert cluster.service_selector(ns, "web") == {"app": "web"}

    @pytest.mark.parametrize("kind", [DEPLOYMENT, STATEFUL_SET])
    def test_the_workload_of_a_pod_is_what_makes_it_anew(self, stage: Stage, kind: str) -> None:
        [pod] = stage.deploy("web", 1, kind)

        workload = stage.cluster.workload_of(pod)

        assert workload is not None
        assert (workload.kind, workload.name) == (kind, "web")
        assert workload.settled

    def test_an_evicted_pod_goes_and_another_comes(self, stage: Stage) -> None:
        [pod, other] = stage.deploy("web", 2)

        stage.cluster.evict(pod)
        stage.settle()

        now = {one.uid for one in stage.cluster.pods(stage.namespace, {"app": "web"}) if not one.deleting}
        assert pod.uid not in now
        assert other.uid in now
        assert len(now) == 2

    def test_evicting_what_is_gone_is_no_error(self, stage: Stage) -> None:
        [pod] = stage.deploy("web", 1)
        stage.cluster.evict(pod)
        stage.settle()

        stage.cluster.evict(pod)

        assert len(stage.cluster.pods(stage.namespace, {"app": "web"})) == 1

    def test_the_successor_of_the_same_name_is_safe(self, stage: Stage) -> None:
        [pod] = stage.deploy("db", 1, STATEFUL_SET)
        stage.cluster.evict(pod)
        stage.settle()
        successor = stage.cluster.pod(stage.namespace, pod.name)
        assert successor is not None
        assert successor.uid != pod.uid

        with pytest.raises(Conflict):
            stage.cluster.evict(pod)

        after = stage.cluster.pod(stage.namespace, pod.name)
        assert after is not None
        assert (after.uid, after.deleting) == (successor.uid, False)

    def test_a_disruption_budget_refuses(self, stage: Stage) -> None:
        [pod, _] = stage.deploy("web", 2)
        stage.budget("web", 2)

        with pytest.raises(NotNow):
            stage.cluster.evict(pod)

        now = stage.cluster.pod(stage.namespace, pod.name)
        assert now is not None
        assert not now.deleting

    def test_a_restart_replaces_every_pod_and_keeps_its_claim(self, stage: Stage) -> None:
        pods = stage.deploy("web", 2)

        stage.cluster.change_workload(_read(stage), annotations={CLAIMS: "a.0=restart"}, template={RESTARTED: "a"})
        stage.settle()

        after = _read(stage)
        assert after.annotations[CLAIMS] == "a.0=restart"
        assert after.settled
        now = {pod.uid for pod in stage.cluster.pods(stage.namespace, {"app": "web"}) if not pod.deleting}
        assert now.isdisjoint({pod.uid for pod in pods})

    @pytest.mark.parametrize(("recreate", "most"), [(False, 1), (True, 4)])
    def test_a_workload_tells_how_many_pods_a_restart_takes_at_once(
        self, stage: Stage, recreate: bool, most: int
    ) -> None:
        stage.deploy("web", 4, recreate=recreate)

        assert _read(stage).at_once == most

    def test_a_claim_alone_restarts_nothing(self, stage: Stage) -> None:
        [pod] = stage.deploy("web", 1)

        stage.cluster.change_workload(_read(stage), annotations={CLAIMS: "a.0=uid"})
        stage.settle()

        assert {one.uid for one in stage.cluster.pods(stage.namespace, {"app": "web"})} == {pod.uid}
        assert _read(stage).annotations[CLAIMS] == "a.0=uid"

    def test_a_change_on_an_old_version_is_refused(self, stage: Stage) -> None:
        stage.deploy("web", 1)
        seen = _read(stage)
        stage.touch(DEPLOYMENT, "web")

        with pytest.raises(Conflict):
            stage.cluster.change_workload(seen, annotations={CLAIMS: "a.0=x"}, template={RESTARTED: "a"}, replicas=5)

        after = _read(stage)
        assert CLAIMS not in after.annotations
        assert after.replicas == 1

    def test_scaling_sets_the_number(self, stage: Stage) -> None:
        stage.deploy("web", 1)

        stage.cluster.change_workload(_read(stage), annotations={CLAIMS: "a.0=1->3"}, replicas=3)
        stage.settle()

        assert _read(stage).replicas == 3
        assert _read(stage).settled
        assert len(stage.cluster.pods(stage.namespace, {"app": "web"})) == 3

    def test_a_cordon_and_its_words_come_and_go(self, stage: Stage) -> None:
        name, cluster = stage.a_node(), stage.cluster
        node = cluster.node(name)
        assert node is not None

        _change_node(cluster, name, unschedulable=True, annotations={CORDONED_BY: "a"})
        cordoned = cluster.node(name)
        assert cordoned is not None
        with pytest.raises(Conflict):
            cluster.change_node(node, unschedulable=False, annotations={})
        _change_node(cluster, name, unschedulable=False, annotations={CORDONED_BY: None})
        after = cluster.node(name)

        assert cordoned.unschedulable
        assert cordoned.annotations[CORDONED_BY] == "a"
        assert after is not None
        assert not after.unschedulable
        assert CORDONED_BY not in after.annotations

    def test_a_node_tells_when_a_person_uncordoned_it(self, stage: Stage) -> None:
        name, cluster = stage.a_node(), stage.cluster
        _change_node(cluster, name, unschedulable=True, annotations={CORDONED_BY: "a"})
        before = stage.now() // 1000 * 1000

        stage.uncordon(name)
        node = cluster.node(name)

        assert node is not None
        assert not node.unschedulable
        assert before <= node.touched_at <= stage.now()
        _change_node(cluster, name, unschedulable=False, annotations={CORDONED_BY: None})
        after = cluster.node(name)
        assert after is not None
        assert after.touched_at == node.touched_at

    def test_what_opts_out_says_so_until_it_does_not(self, stage: Stage) -> None:
        [pod] = stage.deploy("web", 1)
        node = stage.a_node()

        def seen() -> list[bool]:
            read = (stage.cluster.pod(stage.namespace, pod.name), _read(stage), stage.cluster.node(node))
            return [one.opted_out for one in read if one is not None]

        assert seen() == [False] * 3
        for value in ("off", "on"):
            for kind, name in (("Pod", pod.name), (DEPLOYMENT, "web"), ("Node", node)):
                stage.opt_out(kind, name, value)
            assert seen() == [value == "off"] * 3

    def test_an_event_is_written_once_and_again_is_no_error(self, stage: Stage) -> None:
        [pod] = stage.deploy("web", 1)
        note = Note(id="a.0", about=pod.reference, reason="WaypostRepair", message="evicted", at=1_795_608_000_000)

        stage.cluster.tell(note)
        stage.cluster.tell(note)

        node = stage.cluster.node(stage.a_node())
        assert node is not None
        stage.cluster.tell(Note(id="a.1", about=node.reference, reason="WaypostRepair", message="cordoned", at=1))


def _read(stage: Stage) -> Workload:
    found = stage.cluster.workload(DEPLOYMENT, stage.namespace, "web")
    assert found is not None
    return found


def _change_node(cluster: Cluster, name: str, *, unschedulable: bool, annotations: Mapping[str, str | None]) -> None:
    """Change a node as it is just now: a control plane writes taints and states to it meanwhile."""
    for _ in range(100):
        node = cluster.node(name)
        assert node is not None
        try:
            cluster.change_node(node, unschedulable=unschedulable, annotations=annotations)
        except Conflict:
            continue
        return
    raise AssertionError(f"{name} never stays as it is")
