"""A failed node: cordoned, isolated, drained, and given back; and what people do meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.model.repairs import MINUTE, T0
from tests.repair.played import DWELL, Played, an_action
from waypost.model.impact import Place
from waypost.model.isolation import REPAIR, Verb
from waypost.model.names import ServiceKey
from waypost.model.repair_action import BEGIN_MS, Outcome, RepairAction, action_id, undo_id
from waypost.model.repair_steps import Do, Step, undo
from waypost.model.surroundings import Spared, Surroundings, surroundings
from waypost.repair.claims import CORDONED_BY, CORDONED_FOR, MOST, SCHEDULABLE_SINCE, with_fault
from waypost.repair.executor import Executor
from waypost.repair.fake import FakeCluster
from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, Pod, Reference, Workload
from waypost.repair.port import CallFailed, Denied, Refused, Unavailable
from waypost.wire.repair_decisions import action_record, decode_decision, encode_decision
from waypost.wire.repair_results import StepOutcome

STEPS = (Step.of(Do.CORDON), Step.of(Do.ISOLATE, for_seconds=600), Step.of(Do.DRAIN, timeout_seconds=60))
CORDON = STEPS[:1]


def a_cluster(cluster: FakeCluster | None = None) -> Played:
    played = Played(cluster=cluster or FakeCluster())
    for name in ("n1", "n2"):
        played.cluster.add_node(name)
    played.cluster.add_workload(DEPLOYMENT, "shop", "web", replicas=3, node="n1")
    played.cluster.add_workload(STATEFUL_SET, "shop", "db", replicas=1, node="n1")
    return played


def repairing(*steps: Step, **facts: object) -> RepairAction:
    return an_action(*(steps or STEPS), node="n1", undo=True, type="NodeFailure", **facts)


def undoing(action: RepairAction, at: int) -> RepairAction:
    return replace(action, id=undo_id(action.id), undoes=action.id, steps=undo(action.steps), granted_at=at)


def another(n: int, starts_at: int, now: int) -> RepairAction:
    """Return a cordon for another alert about the same node."""
    action = repairing(*CORDON, fingerprint=f"f{n}", starts_at=starts_at, granted_at=now)
    return replace(action, id=action_id(action.target, action.fingerprint, starts_at, 1))


def cordoned(played: Played) -> bool:
    node = played.cluster.node("n1")
    assert node is not None
    return node.unschedulable


def there(played: Played, node: str = "n1") -> set[str]:
    return {pod.name for pod in played.cluster.pods_on(node)}


def test_the_node_is_cordoned_isolated_and_drained() -> None:
    played = a_cluster()
    played.give(repairing())

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED, result
    assert cordoned(played)
    assert there(played) == set()
    assert len(there(played, "n2")) == 4
    assert len(played.evictions()) == 4
    [word] = played.isolations
    assert (word.verb, word.node, word.service, word.by) == (Verb.ISOLATE, "n1", None, REPAIR)
    assert word.expires_at == T0 + 600_000
    assert [step.outcome for step in result.steps] == [StepOutcome.DONE] * 3


def test_the_isolation_comes_before_the_first_eviction() -> None:
    played = a_cluster()
    played.give(repairing())

    while not played.isolations:
        played.turn()

    assert cordoned(played)
    assert played.evictions() == []


@pytest.mark.parametrize("lost_turns", range(1, 16))
def test_a_replay_ends_the_same(lost_turns: int) -> None:
    played = a_cluster()
    played.give(repairing())
    played.save()
    for _ in range(lost_turns):
        played.turn()
    played.crash()

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert len(played.evictions()) == 4
    assert len([call for call in played.cluster.calls if call[0] == "change_node"]) == 1
    assert len({(word.scope, word.expires_at) for word in played.isolations}) == 1


def test_who_is_left_alone_on_the_node() -> None:
    played = a_cluster()
    cluster = played.cluster
    cluster.add_workload(DAEMON_SET, "shop", "agent", replicas=1, node="n1")
    cluster.add_workload(DEPLOYMENT, "kube-system", "dns", replicas=1, node="n1")
    cluster.add_pod("shop", "bare", node="n1")
    cluster.add_pod("shop", "mirror", node="n1", mirror=True, owner=Reference("Node", "shop", "n1"))
    cluster.add_pod("shop", "finished", node="n1", phase="Succeeded", owner=Reference("Job", "shop", "nightly"))
    cluster.add_pod("shop", "job", node="n1", owner=Reference("Job", "shop", "nightly"))
    kept = {pod.name for pod in cluster.all_pods() if not pod.name.startswith(("web", "db"))}
    played.give(repairing())

    assert played.to_the_end().outcome is Outcome.SUCCEEDED
    assert there(played) == kept


class TestExcluded:
    WEB = ServiceKey("shop", "web")
    DB = ServiceKey("shop", "db")

    def test_the_pods_of_an_excluded_service_stay_and_its_table_too(self) -> None:
        played = a_cluster()
        around = Surroundings(services=(self.DB, self.WEB), spared=(Spared("shop", "db-0"),))
        played.give(repairing(excluded=(self.DB,)), around)

        assert played.to_the_end().outcome is Outcome.SUCCEEDED
        assert there(played) == {"db-0"}
        assert [(word.service, word.node) for word in played.isolations] == [(self.WEB, "n1")]

    def test_however_many_there_are_none_of_them_is_isolated_and_the_rest_is(self) -> None:
        """Whoever may register can make the list as long as they like: names of 250 signs, 12,000 of them."""
        many = [ServiceKey("shop", f"s{n:05}-{'x' * 50}.{'y' * 60}.{'z' * 60}.{'w' * 60}") for n in range(12_000)]
        tables = {self.WEB: {f"web-{n}": Place("n1") for n in range(2)}} | {s: {"a": Place("n1")} for s in many}
        granted = repairing(excluded=tuple(many))
        around = surroundings(granted, tables)

        told = encode_decision(action_record(granted, T0))
        action = decode_decision(told).action

        assert len(told) < 256 * 1024
        assert orjson.loads(told)["action"]["excluded_count"] == 12_000
        assert action is not None
        played = a_cluster()
        played.give(action, around)
        while not played.isolations:
            played.turn()
        assert [(word.service, word.node) for word in played.isolations] == [(self.WEB, "n1")]

    def test_where_an_endpoint_does_not_say_its_pod_its_namespace_stays(self) -> None:
        played = a_cluster()
        played.cluster.add_workload(DEPLOYMENT, "team", "api", node="n1")
        around = Surroundings(services=(self.DB,), spared=(Spared("shop", "10.0.0.7:5432"),))
        played.give(repairing(excluded=(self.DB,)), around)

        assert played.to_the_end().outcome is Outcome.SUCCEEDED
        assert len(there(played)) == 4
        assert all(about.startswith("team/") for about in played.evictions())

    def test_what_was_isolated_per_service_is_released_per_service(self) -> None:
        played = a_cluster()
        around = Surroundings(services=(self.DB, self.WEB), spared=(Spared("shop", "db-0"),))
        action = repairing(excluded=(self.DB,))
        played.give(action, around)
        played.to_the_end()

        played.give(undoing(action, played.now))
        played.to_the_end()

        last = played.isolations[-1]
        assert (last.verb, last.service, last.node) == (Verb.RELEASE, self.WEB, "n1")


class TestPeople:
    def test_somebody_else_s_cordon_is_not_ours(self) -> None:
        played = a_cluster()
        played.cluster.add_node("n1", unschedulable=True)
        action = repairing()
        played.give(action)
        assert played.to_the_end().outcome is Outcome.SUCCEEDED

        played.give(undoing(action, played.now))
        result = played.to_the_end()

        assert cordoned(played)
        assert {step.do: step.outcome for step in result.steps}[Do.UNCORDON] is StepOutcome.SKIPPED

    def test_a_node_that_a_person_uncordons_is_left_to_them(self) -> None:
        played = a_cluster()
        played.give(repairing())
        while not played.evictions():
            played.turn()
        played.cluster.uncordon("n1")
        evicted = len(played.evictions())

        result = played.to_the_end()

        assert result.outcome is Outcome.SUCCEEDED
        assert "left to people" in result.detail
        assert len(played.evictions()) == evicted
        assert not cordoned(played)

    def test_a_second_attempt_does_not_cordon_it_again(self) -> None:
        played = a_cluster()
        played.give(repairing(*CORDON))
        played.to_the_end()
        played.cluster.uncordon("n1")

        played.give(repairing(*CORDON, attempt=2, granted_at=played.now))
        played.to_the_end()

        assert not cordoned(played)

    def test_new_evidence_does(self) -> None:
        played = a_cluster()
        played.give(repairing(*CORDON))
        played.to_the_end()
        played.cluster.uncordon("n1")

        again = repairing(*CORDON, attempt=3, granted_at=played.now, starts_at=T0 + MINUTE)
        played.give(again)
        played.to_the_end()

        node = played.cluster.node("n1")
        assert node is not None
        assert node.unschedulable
        assert node.annotations[CORDONED_BY] == again.id

    def test_uncordoned_by_a_person_our_words_go_too(self) -> None:
        played = a_cluster()
        action = repairing(*CORDON)
        played.give(action)
        played.to_the_end()
        played.cluster.uncordon("n1")

        played.give(undoing(action, played.now))
        played.to_the_end()

        node = played.cluster.node("n1")
        assert node is not None
        assert not node.annotations.keys() & {CORDONED_BY, CORDONED_FOR}
        assert int(node.annotations[SCHEDULABLE_SINCE]) <= played.now

    @pytest.mark.parametrize("seen_by", ["undo", "another alert", "nobody"])
    @pytest.mark.parametrize("later", [-MINUTE, -1, 0, 1, MINUTE])
    def test_only_a_fault_that_began_after_a_person_s_uncordon_counts(self, seen_by: str, later: int) -> None:
        played = a_cluster()
        first = repairing(*CORDON)
        played.give(first)
        played.to_the_end()
        at = played.now = T0 + 10 * MINUTE
        played.cluster.uncordon("n1", at)
        played.now += 5 * MINUTE
        if seen_by == "undo":
            played.give(undoing(first, played.now))
        elif seen_by == "another alert":
            played.give(another(2, T0 + 1, played.now))
        if seen_by != "nobody":
            played.to_the_end()
            assert not cordoned(played)

        played.give(another(3, at + later, played.now))
        result = played.to_the_end()

        assert cordoned(played) == (later > 0)
        assert ("left to people" in result.detail) == (later <= 0)
        node = played.cluster.node("n1")
        assert node is not None
        assert (SCHEDULABLE_SINCE in node.annotations) == (later <= 0)


class TestSeveralFaults:
    """Two alerts about one node: what takes the cordon back is for whoever knows both to say."""

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_cordon_of_ours_is_adopted_and_any_of_its_faults_takes_it_back(self, which: int) -> None:
        played = a_cluster()
        faults = [repairing(*CORDON), another(2, T0 + MINUTE, T0 + MINUTE)]
        for one in faults:
            played.give(one)
            assert played.to_the_end().outcome is Outcome.SUCCEEDED

        played.give(undoing(faults[which], played.now))
        played.to_the_end()

        assert not cordoned(played)

    def test_an_alert_that_comes_again_takes_its_older_fault_s_place(self) -> None:
        played = a_cluster()
        first = repairing(*CORDON)
        again = replace(repairing(*CORDON, starts_at=T0 + MINUTE), id="e" * 32)
        for one in (first, again):
            played.give(one)
            played.to_the_end()

        played.give(undoing(first, played.now))
        played.to_the_end()
        assert cordoned(played), "an undo that comes late is not about the fault of now"
        played.give(undoing(again, played.now))
        played.to_the_end()

        assert not cordoned(played)

    def test_a_fault_that_is_none_of_them_takes_nothing_back(self) -> None:
        played = a_cluster()
        played.give(repairing(*CORDON))
        played.to_the_end()

        played.give(undoing(another(2, T0 + MINUTE, played.now), played.now))
        played.to_the_end()

        assert cordoned(played)

    def test_the_words_on_a_node_are_bounded(self) -> None:
        annotations: dict[str, str] = {}
        for n in range(MOST + 3):
            annotations[CORDONED_FOR] = with_fault(annotations, f"f{n}@1")

        assert len(annotations[CORDONED_FOR].split()) == MOST


class TestUndo:
    @pytest.mark.parametrize("how", ["cancelled", "late"])
    def test_a_cordon_that_lost_its_state_is_not_forgotten(self, how: str) -> None:
        """Cordoned, then dead, then told that the alert is over, or back too late: it must be possible to undo."""
        played = a_cluster()
        played.give(repairing())
        played.save()
        played.turn()
        assert cordoned(played)
        played.crash()
        if how == "cancelled":
            played.cancel()
        else:
            played.now = T0 + BEGIN_MS

        result = played.to_the_end()

        assert result.outcome is (Outcome.SUCCEEDED if how == "cancelled" else Outcome.FAILED)
        assert played.evictions() == []

    @pytest.mark.parametrize("lost_turns", range(4))
    def test_what_was_done_is_taken_back_once(self, lost_turns: int) -> None:
        played = a_cluster()
        action = repairing()
        played.give(action)
        played.to_the_end()
        played.give(undoing(action, played.now))
        played.save()
        for _ in range(lost_turns):
            played.turn()
        played.crash()

        result = played.to_the_end()

        assert result.outcome is Outcome.SUCCEEDED
        assert not cordoned(played)
        node = played.cluster.node("n1")
        assert node is not None
        assert not node.annotations
        assert (played.isolations[-1].verb, played.isolations[-1].node) == (Verb.RELEASE, "n1")
        assert len([call for call in played.cluster.calls if call[0] == "change_node"]) == 2

    def test_with_its_state_lost_the_node_is_released_all_the_same(self) -> None:
        played = a_cluster()
        played.give(undoing(repairing(), played.now))

        played.to_the_end()

        assert [(word.verb, word.node) for word in played.isolations] == [(Verb.RELEASE, "n1")]


class TestAnApiServerThatIsAway:
    @pytest.mark.parametrize("error", [Unavailable("503"), Denied("403"), Refused("422")])
    def test_the_endpoints_of_a_dead_node_leave_the_tables_all_the_same(self, error: CallFailed) -> None:
        played = a_cluster()
        for call in ("node", "change_node"):
            played.cluster.fail(call, error, times=10_000)
        played.give(repairing())

        result = played.to_the_end()

        assert result.outcome is Outcome.FAILED
        assert result.detail.startswith("cordon: ")
        assert [step.outcome for step in result.steps] == [StepOutcome.FAILED, StepOutcome.DONE, StepOutcome.SKIPPED]
        assert [(word.verb, word.node) for word in played.isolations] == [(Verb.ISOLATE, "n1")]
        assert played.evictions() == []

    def test_what_was_isolated_so_is_released_by_the_undo(self) -> None:
        played = a_cluster()
        played.cluster.fail("node", Unavailable("503"), times=10_000)
        action = repairing()
        played.give(action)
        played.to_the_end()

        played.give(undoing(action, played.now))
        played.to_the_end()

        assert [word.verb for word in played.isolations] == [Verb.ISOLATE, Verb.RELEASE]

    def test_nobody_knows_whose_it_is_so_nothing_is_released(self) -> None:
        played = a_cluster()
        played.cluster.fail("node", Unavailable("503"), times=10_000)
        forgotten = replace(undoing(repairing(), played.now), steps=(Step.of(Do.UNCORDON), Step.of(Do.RELEASE)))
        played.give(forgotten)

        result = played.to_the_end()

        assert result.outcome is Outcome.FAILED
        assert played.isolations == []

    def test_a_node_that_is_left_to_people_is_not_isolated(self) -> None:
        played = a_cluster()
        played.cluster.opt_out("Node", "", "n1")
        played.give(repairing())

        played.to_the_end()

        assert played.isolations == []


def test_a_node_that_takes_new_pods_is_not_drained() -> None:
    played = a_cluster()
    played.give(repairing(STEPS[2]))

    result = played.to_the_end()

    assert result.outcome is Outcome.FAILED
    assert "cordoned first" in result.detail
    assert played.evictions() == []


def test_budgets_hold_up_their_own_pods_only_and_the_time_ends() -> None:
    played = a_cluster()
    played.cluster.add_budget("shop", {"app": "web"}, 3)
    played.give(repairing())

    result = played.to_the_end()

    assert played.evictions() == ["shop/db-0"]
    assert result.outcome is Outcome.FAILED
    assert "3 pods stay, 1 were evicted" in result.detail
    assert result.at < T0 + 2 * MINUTE
    assert cordoned(played), "a failed node is not given back because it could not be drained"


@pytest.mark.parametrize("call", ["evict", "workload_of"])
@pytest.mark.parametrize("heals", [True, False])
def test_a_pod_that_the_server_fails_at_holds_up_no_other(call: str, heals: bool) -> None:
    played = a_cluster()
    [poison] = played.cluster.pods("shop", {"app": "db"})
    ask = getattr(played.cluster, call)

    def failing(pod: Pod) -> Workload | None:
        if pod.name == poison.name and not (heals and played.now > T0 + MINUTE // 2):
            raise Unavailable("500 more than one PodDisruptionBudget")
        answer: Workload | None = ask(pod)
        return answer

    played.executor = Executor(replace(played.executor.world, cluster=Failing(played.cluster, call, failing)))  # type: ignore[arg-type]
    played.give(repairing())

    result = played.to_the_end()

    assert {about.split("-")[0] for about in played.evictions()} == {"shop/web"} | ({"shop/db"} if heals else set())
    assert there(played) == (set() if heals else {"db-0"})
    assert result.outcome is (Outcome.SUCCEEDED if heals else Outcome.FAILED)
    if not heals:
        assert "1 pods stay, 3 were evicted: shop/db-0" in result.detail
        assert "more than one PodDisruptionBudget" in result.detail


class Failing:
    """A cluster with another way of one call."""

    def __init__(self, cluster: FakeCluster, call: str, instead: Callable[[Pod], Workload | None]) -> None:
        self._cluster = cluster
        setattr(self, call, instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)


def test_a_drain_goes_on_as_budgets_allow() -> None:
    played = a_cluster()
    played.settles = False
    played.cluster.add_budget("shop", {"app": "web"}, 2)
    played.give(repairing())
    while len(played.evictions()) < 2:
        played.turn()
    for _ in range(20):
        played.turn()
    assert len(played.evictions()) == 2

    played.settles = True
    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert there(played) == set()


@pytest.mark.parametrize("call", ["node", "change_node", "pods_on", "evict", "workload_of"])
@pytest.mark.parametrize("after", [False, True])
def test_a_failing_server_is_asked_again(call: str, after: bool) -> None:
    played = a_cluster()
    played.cluster.fail(call, Unavailable("503"), after=after, times=3)
    played.give(repairing())

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert there(played) == set()
    assert len(there(played, "n2")) == 4


def test_a_node_that_is_gone_needs_nothing() -> None:
    played = a_cluster()
    played.give(an_action(*STEPS, node="n9"))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED
    assert played.cluster.calls == []


def test_the_switch_stops_a_drain_between_two_pods() -> None:
    played = a_cluster()
    played.give(repairing())
    while not played.evictions():
        played.turn()
    played.enabled = False
    for _ in range(30):
        played.turn()

    assert len(played.evictions()) == 1
    assert cordoned(played)


class Foreign(FakeCluster):
    """Says no to one call about the pods of the namespace `theirs`."""

    def __init__(self, call: str, error: CallFailed) -> None:
        super().__init__()
        self._call, self._error = call, error

    def workload_of(self, pod: Pod) -> Workload | None:
        self._ask("workload_of", pod)
        return super().workload_of(pod)

    def evict(self, pod: Pod) -> None:
        self._ask("evict", pod)
        super().evict(pod)

    def _ask(self, call: str, pod: Pod) -> None:
        if (call, pod.namespace) == (self._call, "theirs"):
            raise self._error


@pytest.mark.parametrize("call", ["workload_of", "evict"])
@pytest.mark.parametrize(
    ("error", "limit", "took"),
    [(Refused("422"), 60, 0), (Denied("403"), 60, 30), (Denied("403"), 12, 12)],
    ids=["at once", "after half a minute", "when the time is up"],
)
def test_pods_that_we_have_no_right_to_touch_stay_and_are_told(
    call: str, error: CallFailed, limit: int, took: int
) -> None:
    played = a_cluster(Foreign(call, error))
    played.cluster.add_workload(DEPLOYMENT, "theirs", "api", replicas=2, node="n1")
    played.give(repairing(Step.of(Do.CORDON), Step.of(Do.DRAIN, timeout_seconds=limit)))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED, result
    assert {pod.namespace for pod in played.cluster.pods_on("n1")} == {"theirs"}
    assert "2 left because the API server refuses us" in result.steps[1].detail
    assert took * 1000 <= result.at - T0 - DWELL <= (took + 8) * 1000


@pytest.mark.parametrize("call", ["workload_of", "evict"])
def test_pods_are_denied_for_a_while_only(call: str) -> None:
    """Role bindings are read later than those of the cluster: nodes may be read, pods not yet be evicted."""
    played = a_cluster()
    played.cluster.fail(call, Denied("403"), times=10)
    played.give(repairing())

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED, result
    assert there(played) == set()


@pytest.mark.parametrize("call", ["node", "pods_on", "workload_of", "evict"])
def test_a_server_that_has_just_started_may_deny_what_it_allows_later(call: str) -> None:
    played = a_cluster()
    played.give(repairing())
    while not played.evictions():
        played.turn()
    played.cluster.fail(call, Denied("403"))

    result = played.to_the_end()

    assert result.outcome is Outcome.SUCCEEDED, result
    assert there(played) == set()
    assert "refuses us" not in result.steps[2].detail
