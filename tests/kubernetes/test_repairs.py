"""From an alert to a repaired real cluster: once, within budgets, and not against people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.kubernetes.repairs import Repairs
from tests.kubernetes.workloads import opened
from waypost.local.kubernetes import Kubernetes
from waypost.model.alert import AlertStatus
from waypost.model.isolation import Verb
from waypost.model.repair_action import Outcome
from waypost.repair.port import Denied, Unavailable
from waypost.wire.alerts import alert_fields

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def repairs(kubernetes: Kubernetes, bound: str, repair_account: Path) -> Iterator[Repairs]:
    with opened(kubernetes, bound) as room:
        made = Repairs(room, repair_account)
        yield made
        made.close()


def over(repairs: Repairs, n: int = 1) -> None:
    repairs.until(lambda: len({result.id for result in repairs.world.results}) >= n, f"{n} repairs are over")
    print(*repairs.world.results, sep="\n")  # seen when the test fails


def outcomes(repairs: Repairs) -> set[Outcome]:
    return {result.outcome for result in repairs.world.results}


class TestPodCrash:
    def test_a_crash_without_a_pod_restarts_the_deployment_once(self, repairs: Repairs) -> None:
        repairs.pool(2)
        repairs.deploy("web", replicas=3)
        before, generation = repairs.uids("web"), repairs.generation("web")
        alert = repairs.alert("web")

        repairs.world.alert(*[alert] * 3)
        over(repairs)
        repairs.world.alert(*[alert] * 3)
        repairs.for_a_while(15)

        assert outcomes(repairs) == {Outcome.SUCCEEDED}
        assert repairs.generation("web") == generation + 1
        assert len(repairs.uids("web")) == 3
        assert not repairs.uids("web") & before

    def test_a_named_pod_is_evicted_and_made_anew(self, repairs: Repairs) -> None:
        repairs.pool(2)
        repairs.deploy("web", replicas=3)
        before = repairs.uids("web")
        [pod, *_] = sorted(repairs.placed("web"))

        repairs.world.alert(*[repairs.alert("web", pod=pod)] * 3)
        over(repairs)

        assert outcomes(repairs) == {Outcome.SUCCEEDED}
        assert len(repairs.uids("web")) == 3
        assert len(repairs.uids("web") & before) == 2

    def test_an_alert_that_is_over_does_nothing(self, repairs: Repairs) -> None:
        repairs.pool(1)
        repairs.deploy("web", replicas=2)
        before, generation = repairs.uids("web"), repairs.generation("web")

        repairs.world.alert(replace(repairs.alert("web"), status=AlertStatus.RESOLVED))
        repairs.for_a_while(20)

        assert repairs.world.granted() == []
        assert (repairs.uids("web"), repairs.generation("web")) == (before, generation)

    @pytest.mark.parametrize("done", [False, True], ids=["refused", "done, and the answer lost"])
    def test_failing_calls_are_made_again_and_have_one_effect(self, repairs: Repairs, done: bool) -> None:
        repairs.pool(1)
        repairs.deploy("web", replicas=2)
        generation = repairs.generation("web")
        repairs.cluster.plan = {
            "service_selector": [(Unavailable("429"), False), (Denied("403"), False), (Unavailable("timeout"), False)],
            "change_workload": [(Unavailable("500"), done), (Unavailable("500"), False)],
            "workload": [(Unavailable("503"), False)],
        }

        repairs.world.alert(repairs.alert("web"))
        over(repairs)

        assert outcomes(repairs) == {Outcome.SUCCEEDED}
        assert repairs.generation("web") == generation + 1

    def test_an_outage_of_the_api_server_is_waited_for(self, repairs: Repairs) -> None:
        repairs.pool(1)
        repairs.deploy("web", replicas=2)
        generation = repairs.generation("web")
        cluster = repairs.room.cluster

        # One that goes on without an API server takes all nodes for dead when it is back; a fresh one waits for them.
        cluster.stop_server("kube-controller-manager")
        cluster.stop_server("kube-apiserver")
        try:
            repairs.world.alert(repairs.alert("web"))
            repairs.for_a_while(5)
            assert repairs.world.results == []
        finally:
            cluster.start_server("kube-apiserver")
            cluster.wait_until(lambda: cluster.serves("kube-apiserver"), "it serves again")
            cluster.start_server("kube-controller-manager")
        over(repairs)

        assert outcomes(repairs) == {Outcome.SUCCEEDED}
        assert repairs.generation("web") == generation + 1

    @pytest.mark.parametrize(
        ("field", "value"),
        [("pod", "../../nodes/x"), ("pod", "*"), ("service", "web;rm"), ("namespace", "{{ .ns }}"), ("node", "a/b"),
         ("pod", "web\u0000"), ("service", "\u0430dmin"), ("fingerprint", "x" * 10_000_000)],
    )  # fmt: skip
    def test_names_that_are_none_go_to_dead_letters(self, repairs: Repairs, field: str, value: str) -> None:
        repairs.pool(1)
        repairs.deploy("web", replicas=2)
        generation = repairs.generation("web")
        doc = alert_fields(repairs.alert("web")) | {field: value}

        repairs.world.raw("alerts", b"x", orjson.dumps(doc))
        repairs.for_a_while(3)

        assert len(repairs.world.dead) == 1
        assert repairs.world.decisions == []
        assert repairs.generation("web") == generation

    def test_a_service_without_a_namespace_is_nobody(self, repairs: Repairs) -> None:
        repairs.pool(1)
        repairs.deploy("web", replicas=2)
        generation = repairs.generation("web")

        repairs.world.alert(replace(repairs.alert("web"), namespace=""))
        repairs.for_a_while(5)

        assert set(repairs.world.kinds()) == {"no-namespace"}
        assert repairs.generation("web") == generation


class TestNodeFailure:
    def test_pods_move_within_their_budget_and_the_node_comes_back(self, repairs: Repairs) -> None:
        nodes = repairs.pool(3)
        for app in ("web", "api"):
            repairs.deploy(app, replicas=6)
        repairs.room.budget("web", min_available=5)
        node = nodes[0]
        alert = repairs.node_alert(node)

        repairs.world.alert(alert, alert)
        over(repairs)

        assert outcomes(repairs) == {Outcome.SUCCEEDED}
        assert repairs.cordoned(nodes) == [node]
        assert [(word.verb, word.node) for word in repairs.world.isolations] == [(Verb.ISOLATE, node)]
        for app in ("web", "api"):
            # An empty node ends the drain; the last pod's successor may still have to become Ready.
            repairs.until(lambda app=app: len(repairs.placed(app)) == 6, f"{app} has all its pods")  # type: ignore[misc]
            assert node not in repairs.placed(app).values()

        repairs.world.alert(replace(alert, status=AlertStatus.RESOLVED))
        over(repairs, 2)
        assert repairs.cordoned(nodes) == []
        assert [word.verb for word in repairs.world.isolations] == [Verb.ISOLATE, Verb.RELEASE]

    def test_alerts_of_a_dead_nodes_pods_are_one_repair_of_the_node(self, repairs: Repairs) -> None:
        nodes = repairs.pool(3)
        for app in ("web", "api"):
            repairs.deploy(app, replicas=6)
        node = nodes[0]
        generations = {app: repairs.generation(app) for app in ("web", "api")}
        alerts = [
            repairs.alert(app, f"f-{pod}", pod=pod)
            for app in ("web", "api")
            for pod, where in repairs.placed(app).items()
            if where == node
        ]
        assert len(alerts) >= 3
        repairs.room.cluster.fail_node(node)

        repairs.world.alert(*alerts)
        over(repairs)

        assert [str(decision.target) for decision in repairs.world.granted()] == [f"node/{node}"]
        assert outcomes(repairs) == {Outcome.SUCCEEDED}
        assert repairs.cordoned(nodes) == [node]
        assert {app: repairs.generation(app) for app in generations} == generations
        repairs.until(lambda: all(len(repairs.placed(app)) == 6 for app in generations), "all pods run elsewhere")

    def test_most_nodes_falsely_failed_stop_at_the_budget_and_it_is_said(self, repairs: Repairs) -> None:
        nodes = repairs.pool(8)
        repairs.deploy("web", replicas=16)
        generation = repairs.generation("web")

        repairs.world.alert(*(repairs.node_alert(node) for node in nodes[:6]))
        over(repairs)
        repairs.for_a_while(30)

        assert len(repairs.cordoned(nodes)) == 1
        assert len(repairs.world.granted()) == 1
        refused = {
            decision.target for decision in repairs.world.decisions
            if decision.reason is not None and decision.reason.value == "too-many-nodes"
        }  # fmt: skip
        assert len(refused) == 5
        assert repairs.generation("web") == generation

    def test_what_a_person_uncordons_stays_so_until_there_is_new_evidence(self, repairs: Repairs) -> None:
        nodes = repairs.pool(3)
        repairs.deploy("web", replicas=6)
        alert = repairs.node_alert(nodes[0])
        repairs.world.alert(alert)
        over(repairs)
        repairs.room.cluster.kubectl("uncordon", nodes[0])

        for _ in range(3):
            repairs.world.alert(alert)
            repairs.for_a_while(15)
        assert repairs.cordoned(nodes) == []

        repairs.world.alert(repairs.node_alert(nodes[0]))
        repairs.until(lambda: repairs.cordoned(nodes) == [nodes[0]], "it is cordoned for the new fault")
