"""Restart and scale: one patch each, whoever makes it and however often it is asked for."""

from __future__ import annotations

import pytest

from tests.repair.played import Played, an_action
from tests.repair.test_pods import a_shop
from waypost.model.repair_action import Outcome, RepairAction
from waypost.model.repair_steps import Do, Step
from waypost.repair.claims import CLAIMS, MOST, claim_of, with_claim
from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET
from waypost.repair.port import Conflict, Unavailable
from waypost.wire.repair_results import StepOutcome

RESTART = Step.of(Do.RESTART)
SCALE = Step.of(Do.SCALE, by=2, at_most=4)


def changes(played: Played) -> int:
    return sum(call == "change_workload" for call, _ in played.cluster.calls)


def restarts(played: Played, name: str = "payments", kind: str = "deployment") -> int:
    return played.cluster.restarts.get(f"{kind} shop/{name}", 0)


def replicas(played: Played, kind: str = DEPLOYMENT) -> int:
    found = played.cluster.workload(kind, "shop", "payments")
    assert found is not None
    return found.replicas


def restarting(**facts: object) -> RepairAction:
    return an_action(RESTART, pod="", **facts)


@pytest.mark.parametrize("kind", [DEPLOYMENT, STATEFUL_SET, DAEMON_SET])
def test_a_restart_is_one_patch(kind: str) -> None:
    played, _ = a_shop(kind)
    before = {pod.uid for pod in played.cluster.all_pods()}
    played.give(restarting())

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert changes(played) == 1
    assert restarts(played, kind=kind.lower()) == 1
    assert before.isdisjoint(pod.uid for pod in played.cluster.all_pods())


@pytest.mark.parametrize("step", [RESTART, SCALE])
@pytest.mark.parametrize("lost_turns", range(1, 5))
@pytest.mark.parametrize("between", [False, True])
def test_a_replay_changes_nothing_even_behind_another_repair(step: Step, lost_turns: int, between: bool) -> None:
    played, _ = a_shop()
    played.give(an_action(step, pod=""))
    played.save()
    for _ in range(lost_turns):
        played.turn()
    played.crash()
    if between:
        now = played.cluster.workload(DEPLOYMENT, "shop", "payments")
        assert now is not None
        played.cluster.change_workload(now, annotations=with_claim(now.annotations, "another.0", "restart"))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert changes(played) == 1 + between
    assert restarts(played) == (step is RESTART)
    assert replicas(played) == (4 if step is SCALE else 3)


@pytest.mark.parametrize("step", [RESTART, SCALE])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [Unavailable("500"), Conflict("409")])
def test_a_failing_server_leads_to_one_effect(step: Step, after: bool, error: Exception) -> None:
    played, _ = a_shop()
    played.cluster.fail("change_workload", error, after=after, times=1)  # type: ignore[arg-type]
    played.give(an_action(step, pod=""))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert changes(played) == 1
    assert restarts(played) == (step is RESTART)
    assert replicas(played) == (4 if step is SCALE else 3)


def test_somebody_else_s_change_in_between_is_kept() -> None:
    played, _ = a_shop()
    played.cluster.fail("change_workload", Conflict("409"))
    played.give(restarting())

    assert played.to_the_end().outcome is Outcome.SUCCEEDED
    assert restarts(played) == 1


def test_a_workload_that_always_changes_is_given_up() -> None:
    played, _ = a_shop()
    played.cluster.fail("change_workload", Conflict("409"), times=1_000)
    played.give(restarting())

    assert played.to_the_end().outcome is Outcome.FAILED
    assert restarts(played) == 0


def test_a_named_workload_is_taken_instead() -> None:
    played, _ = a_shop()
    played.cluster.add_workload(STATEFUL_SET, "shop", "ledger")
    played.give(an_action(Step.of(Do.RESTART, workload="statefulset/ledger"), pod=""))

    assert played.to_the_end().outcome is Outcome.SUCCEEDED
    assert (restarts(played), restarts(played, "ledger", "statefulset")) == (0, 1)


def test_pods_of_several_workloads_are_for_a_person() -> None:
    played, _ = a_shop()
    canary = played.cluster.add_workload(DEPLOYMENT, "shop", "canary")
    for pod in played.cluster.pods("shop", canary.selector):
        played.cluster.add_pod("shop", pod.name, labels={"app": "payments"}, owner=pod.owner)
    played.give(restarting())

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "deployment/canary, deployment/payments" in result.detail
    assert changes(played) == 0


def test_a_service_that_nobody_knows_in_the_cluster_restarts_nothing() -> None:
    played = Played()
    played.cluster.add_workload(DEPLOYMENT, "shop", "other")
    played.give(restarting())

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert changes(played) == 0


def test_a_service_without_a_selector_is_not_all_pods() -> None:
    played = Played()
    played.cluster.add_workload(DEPLOYMENT, "shop", "other")
    played.cluster.add_service("shop", "payments", {})
    played.give(restarting())

    assert played.to_the_end().outcome is Outcome.FAILED
    assert changes(played) == 0


def test_scaling_ends_at_the_most_and_then_at_a_person() -> None:
    played, _ = a_shop()
    played.give(an_action(SCALE, pod=""))
    assert played.to_the_end().outcome is Outcome.SUCCEEDED
    assert replicas(played) == 4

    played.give(an_action(SCALE, pod="", attempt=2, granted_at=played.now))
    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "the most it may" in result.detail
    assert replicas(played) == 4


def test_a_daemon_set_is_not_scaled() -> None:
    played, _ = a_shop(DAEMON_SET)
    played.give(an_action(SCALE, pod=""))

    assert played.to_the_end().outcome is Outcome.FAILED
    assert changes(played) == 0


def test_steps_behind_a_failed_one_have_no_turn() -> None:
    played, _ = a_shop(DAEMON_SET)
    played.give(an_action(SCALE, RESTART, pod=""))

    result = played.to_the_end()

    assert [step.outcome for step in result.steps] == [StepOutcome.FAILED, StepOutcome.SKIPPED]
    assert changes(played) == 0


def test_the_ledger_keeps_the_newest() -> None:
    annotations: dict[str, str] = {"other": "x"}
    for n in range(MOST + 3):
        annotations |= with_claim(annotations, f"a{n}.0", "restart")

    assert claim_of(annotations, "a2.0") is None
    assert claim_of(annotations, "a3.0") == "restart"
    assert claim_of(annotations, f"a{MOST + 2}.0") == "restart"
    assert annotations["other"] == "x"
    assert len(annotations[CLAIMS].split()) == MOST
