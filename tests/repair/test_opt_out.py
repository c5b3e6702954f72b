"""What its owner keeps from repairs is left alone, also when a repair was granted."""

from __future__ import annotations

import pytest

from tests.repair.played import Played, an_action
from waypost.model.repair_action import Outcome
from waypost.model.repair_steps import Do, Step
from waypost.repair.objects import DEPLOYMENT
from waypost.repair.opt_out import OPT_OUT, opted_out
from waypost.wire.repair_results import StepOutcome

DRAIN = (Step.of(Do.CORDON), Step.of(Do.ISOLATE), Step.of(Do.DRAIN, timeout_seconds=60))


@pytest.mark.parametrize(("value", "out"), [("off", True), ("", True), ("nope", True), ("on", False), (" ON ", False)])
def test_whatever_is_not_on_is_off(value: str, out: bool) -> None:
    assert opted_out({OPT_OUT: value}) is out
    assert opted_out({}, {OPT_OUT: value}) is out
    assert not opted_out({}, {"waypost.io/repairs": value})


def a_cluster() -> tuple[Played, list[str]]:
    played = Played()
    for name in ("n1", "n2"):
        played.cluster.add_node(name)
    for app in ("payments", "web"):
        played.cluster.add_workload(DEPLOYMENT, "shop", app, replicas=2, node="n1")
    played.cluster.add_service("shop", "payments", {"app": "payments"})
    return played, sorted(pod.name for pod in played.cluster.pods("shop", {"app": "payments"}))


def changes(played: Played) -> list[str]:
    return [call for call, _ in played.cluster.calls if call in ("evict", "change_workload", "change_node")]


@pytest.mark.parametrize("step", [Step.of(Do.EVICT_POD), Step.of(Do.RESTART), Step.of(Do.SCALE, at_most=5)])
def test_a_workload_that_opts_out_is_not_touched(step: Step) -> None:
    played, pods = a_cluster()
    played.cluster.opt_out(DEPLOYMENT, "shop", "payments")
    played.give(an_action(step, pod=pods[0]))

    result = played.to_the_end()

    assert changes(played) == []
    assert [one.outcome for one in result.steps] == [StepOutcome.SKIPPED]
    assert result.outcome is Outcome.SUCCEEDED
    assert "left to people" in result.detail


def test_a_pod_that_opts_out_is_not_evicted() -> None:
    played, pods = a_cluster()
    played.cluster.opt_out("Pod", "shop", pods[0])
    played.give(an_action(pod=pods[0]))

    played.to_the_end()

    assert changes(played) == []


def test_a_node_that_opts_out_keeps_its_pods_and_its_place_in_the_tables() -> None:
    played, _ = a_cluster()
    played.cluster.opt_out("Node", "", "n1")
    played.give(an_action(*DRAIN, node="n1"))

    played.to_the_end()

    assert changes(played) == []
    assert played.isolations == []


def test_a_drain_leaves_alone_what_opts_out_and_takes_the_rest() -> None:
    played, pods = a_cluster()
    played.cluster.opt_out("Pod", "shop", pods[0])
    played.cluster.opt_out(DEPLOYMENT, "shop", "web")
    played.give(an_action(*DRAIN, node="n1"))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED, result
    left = sorted(pod.name for pod in played.cluster.pods_on("n1"))
    web = sorted(pod.name for pod in played.cluster.pods("shop", {"app": "web"}))
    assert left == sorted([pods[0], *web])
