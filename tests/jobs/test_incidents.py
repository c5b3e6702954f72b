"""One failed node, many symptoms: the repair job cordons it and restarts nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.jobs.repair_world import World
from tests.jobs.test_repairs import ACTING
from tests.model.repairs import MINUTE, PAYMENTS, SECOND, an_alert
from waypost.model.alert import Alert, AlertStatus
from waypost.model.isolation import Verb
from waypost.model.names import ServiceKey
from waypost.model.repair_action import Outcome
from waypost.repair.objects import DEPLOYMENT

CART, BOOKS = ServiceKey("shop", "cart"), ServiceKey("shop", "books")
SERVICES = (PAYMENTS, CART, BOOKS)


def a_world() -> World:
    """Three services with two pods on n1, which fails, and two on n2; and others on the other nodes."""
    world = World()
    for n in range(1, 7):
        world.cluster.add_node(f"n{n}")
    for service in SERVICES:
        for node in ("n1", "n2"):
            world.cluster.add_workload(DEPLOYMENT, "shop", f"{service.service}-{node}", replicas=2, node=node)
        world.cluster.add_service("shop", service.service, {"app": f"{service.service}-n1"})
    world.policies(ACTING % "act")
    for service in SERVICES:
        placed = {pod: node for node in ("n1", "n2") for pod in on(world, node, service)}
        world.table(service, placed, placed)
    for n in range(2, 7):
        for service in SERVICES:
            other = ServiceKey("shop", f"{service.service}-{n}")
            world.table(other, [f"{other.service}-{i}" for i in range(3)], node=f"n{n}")
    world.run_for(2 * SECOND)
    world.checkpoint()
    return world


def on(world: World, node: str, service: ServiceKey) -> list[str]:
    return sorted(pod.name for pod in world.cluster.pods("shop", {"app": f"{service.service}-{node}"}))


def table_without_n1(world: World, service: ServiceKey, rule: str) -> None:
    world.table(service, on(world, "n2", service), node="n2", rule=rule)


def crashes(world: World) -> list[Alert]:
    return [
        an_alert(service=service.service, pod=pod, fingerprint=f"f-{pod}", starts_at=world.clock.wall)
        for service in SERVICES
        for pod in on(world, "n1", service)
    ]


def nodes_only(world: World) -> list[str]:
    return [str(decision.target) for decision in world.granted()]


def test_alerts_of_one_node_lead_to_one_repair_of_the_node() -> None:
    world = a_world()
    gone = [f"shop/{pod}" for service in SERVICES for pod in on(world, "n1", service)]
    world.alert(*crashes(world))

    world.run_for(30 * SECOND)

    assert nodes_only(world) == ["node/n1"]
    assert world.kinds().count("part-of-incident") == 6
    assert world.cluster.node("n1").unschedulable  # type: ignore[union-attr]
    assert [word.node for word in world.isolations] == ["n1"]
    assert sorted(world.calls("evict")) == sorted(gone)
    assert world.calls("change_workload") == []


def test_leases_that_end_lead_to_one_repair_of_the_node() -> None:
    world = a_world()
    for service in SERVICES:
        table_without_n1(world, service, "lease-lapsed")

    world.run_for(10 * SECOND)

    assert nodes_only(world) == ["node/n1"]
    assert {word.node for word in world.isolations if word.verb is Verb.ISOLATE} == {"n1"}


@pytest.mark.parametrize("rule", ["deregister", "isolate", "drain"])
def test_whoever_leaves_otherwise_is_no_symptom(rule: str) -> None:
    world = a_world()
    for service in SERVICES:
        table_without_n1(world, service, rule)

    world.run_for(MINUTE)

    assert world.decisions == []


def test_when_the_alerts_are_over_the_node_is_given_back() -> None:
    world = a_world()
    alerts = crashes(world)
    world.alert(*alerts)
    world.run_for(30 * SECOND)

    world.alert(*(replace(alert, status=AlertStatus.RESOLVED) for alert in alerts))
    world.run_for(30 * SECOND)

    assert [decision.kind.value for decision in world.granted()] == ["act", "undo"]
    assert not world.cluster.node("n1").unschedulable  # type: ignore[union-attr]
    assert [result.outcome for result in world.results] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]


@pytest.mark.parametrize("seconds", range(6))
@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_crash_of_the_job_at_any_moment_still_leads_to_one_repair(seconds: int, checkpoints: bool) -> None:
    world = a_world()
    world.alert(*crashes(world))
    for _ in range(seconds):
        world.run_for(SECOND, step_ms=250)
        if checkpoints:
            world.checkpoint()
    world.crash()

    world.run_for(40 * SECOND)

    assert {decision.action.id for decision in world.granted() if decision.action is not None} == {world.results[0].id}
    assert set(nodes_only(world)) == {"node/n1"}
    assert len(world.calls("evict")) == len(set(world.calls("evict"))) == 6


def test_a_storm_of_copies_is_one_incident() -> None:
    world = a_world()
    alerts = crashes(world)
    for _ in range(20):
        world.alert(*alerts)
    world.run_for(30 * SECOND)

    assert nodes_only(world) == ["node/n1"]
    assert len(world.calls("evict")) == 6


@pytest.mark.parametrize("node", ["Node_1", "a:b", "x" * 253, "..", "A"])
def test_a_node_that_no_cluster_can_have_stops_nothing(node: str) -> None:
    world = a_world()
    names = [f"p{n}" for n in range(4)]
    world.table(ServiceKey("shop", "odd"), names, node=node)
    alerts = [an_alert(service="odd", pod=name, fingerprint=f"f-{name}", starts_at=world.clock.wall) for name in names]
    world.alert(*alerts)
    world.run_for(10 * SECOND)

    assert world.calls("change_node", "evict", "change_workload") == []
    world.alert(*crashes(world))
    world.run_for(30 * SECOND)
    assert nodes_only(world)[-1] == "node/n1"


def test_a_node_that_runs_other_pods_again_is_given_back() -> None:
    world = a_world()
    for service in SERVICES:
        table_without_n1(world, service, "lease-lapsed")
    world.run_for(30 * SECOND)
    assert world.cluster.node("n1").unschedulable  # type: ignore[union-attr]

    for service in SERVICES:
        placed = dict.fromkeys(on(world, "n2", service), "n2") | {f"new-{service.service}-{n}": "n1" for n in (1, 2)}
        world.table(service, placed, placed)
    world.run_for(30 * SECOND)

    assert [decision.kind.value for decision in world.granted()] == ["act", "undo"]
    assert not world.cluster.node("n1").unschedulable  # type: ignore[union-attr]
    assert [word.verb for word in world.isolations] == [Verb.ISOLATE, Verb.RELEASE]


def test_in_shadow_a_silent_node_is_told_of_once_and_leaves_no_timer() -> None:
    world = a_world()
    world.policies((ACTING % "act").replace("mode: act", "mode: shadow"))
    world.run_for(2 * SECOND)
    for service in SERVICES:
        table_without_n1(world, service, "lease-lapsed")

    world.run_for(10 * SECOND)
    assert world.timers() > 0
    world.run_for(61 * MINUTE, step_ms=30 * SECOND)

    assert [kind for kind in world.kinds() if kind != "waiting"] == ["shadow", "resolved"]
    assert world.timers() == 0
    assert world.cluster.calls == []
