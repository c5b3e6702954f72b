"""How many repairs may run: per failure domain, per service, and never on a guess."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import (
    MINUTE,
    PAYMENTS,
    SECOND,
    T0,
    a_node_alert,
    a_node_policy,
    a_policy,
    a_table,
    an_alert,
)
from waypost.model.budget import MAX_WAITING, Budget, BudgetRules, BudgetState, Judged
from waypost.model.impact import Place, Tables, impact
from waypost.model.kill_switch import Control
from waypost.model.names import ServiceKey
from waypost.model.refusals import Reason
from waypost.model.repair_action import QUEUE_MS, RUN_MS, Outcome, RepairAction, planned, undo_id
from waypost.model.repair_policy import Guards, Mode, PolicySet, Window
from waypost.model.repair_steps import Do, Step, undo

PROVEN = BudgetRules().proven_ms


def an_action(n: int = 1, service: str = "payments", now: int = T0, **facts: Any) -> RepairAction:
    """To evict pod `<service>-1` for fault n."""
    alert = an_alert(fingerprint=f"f{n}", service=service, pod=f"{service}-1")
    policy = a_policy()
    assert alert.target
    return replace(planned(alert, alert.target, policy, policy.steps, 1, now), **facts)


def a_cordon(node: str = "n1", now: int = T0, since: int = T0) -> RepairAction:
    alert, policy = a_node_alert(node, starts_at=since), a_node_policy()
    assert alert.target
    return planned(alert, alert.target, policy, policy.steps, 1, now)


def a_budget(**facts: Any) -> Budget:
    return Budget(policies=PolicySet(policies=(a_policy(), a_policy(name="other"), a_node_policy())), **facts)


@dataclass
class Cluster:
    """The budget with its state, and tables that the test writes."""

    tables: Tables = field(default_factory=lambda: a_table(9))
    budget: Budget = field(default_factory=a_budget)
    state: BudgetState = field(default_factory=BudgetState)
    on: bool = True

    def ask(self, action: RepairAction, now: int = T0) -> Judged:
        control = Control(self.on, now)
        self.state, judged = self.budget.ask(self.state, action, impact(action, self.tables), control, now)
        return judged

    def reason(self, action: RepairAction, now: int = T0) -> Reason | None:
        refusal = self.ask(action, now).refusal
        return refusal.reason if refusal is not None else None

    def settle(self, action: RepairAction, outcome: Outcome, now: int) -> None:
        self.state = self.budget.settle(self.state, action.id, outcome, now)

    def retry(self, now: int) -> list[Judged]:
        control = Control(self.on, now)
        self.state, told = self.budget.retry(self.state, lambda a: impact(a, self.tables), control, now)
        return told

    def width(self, now: int, name: str = "policy/pods") -> int:
        return self.budget.width(self.state, name, now)


def test_one_repair_at_a_time_until_success_is_proven() -> None:
    cluster = Cluster()
    granted = cluster.ask(an_action(1)).action
    assert granted.granted_at == T0

    assert cluster.reason(an_action(2)) is Reason.BUDGET
    cluster.settle(granted, Outcome.SUCCEEDED, T0 + MINUTE)
    assert cluster.width(T0 + MINUTE + PROVEN - 1) == 1
    assert cluster.width(T0 + MINUTE + PROVEN) == 2


def test_one_proof_doubles_once_however_many_successes_it_has() -> None:
    cluster, now = Cluster(), T0
    for n in range(4):
        action = an_action(n)
        assert cluster.reason(action, now) is None
        cluster.settle(action, Outcome.SUCCEEDED, now)
        now += SECOND

    assert cluster.width(T0 + 10 * PROVEN) == 2


def test_the_width_grows_to_its_limit_and_a_failure_cuts_it_and_pauses() -> None:
    cluster, now, widths = Cluster(), T0, []
    for n in range(6):
        action = an_action(n, now=now)
        assert cluster.reason(action, now) is None
        cluster.settle(action, Outcome.SUCCEEDED, now)
        now += PROVEN
        widths.append(cluster.width(now))
    assert widths == [2, 4, 8, 16, 16, 16]

    failing = an_action(99, now=now)
    assert cluster.reason(failing, now) is None
    cluster.settle(failing, Outcome.FAILED, now)
    assert cluster.width(now) == 8
    assert cluster.reason(an_action(100, now=now), now + MINUTE - 1) is Reason.BUDGET
    assert [j.refusal for j in cluster.retry(now + MINUTE)] == [None]


def test_a_proof_ends_with_a_failure_meanwhile() -> None:
    cluster = Cluster(budget=a_budget(rules=BudgetRules(max_width=4)))
    first, second = an_action(1), an_action(2)
    cluster.ask(first)
    cluster.settle(first, Outcome.SUCCEEDED, T0)
    cluster.ask(second)
    cluster.settle(second, Outcome.FAILED, T0 + SECOND)

    assert cluster.width(T0 + 2 * PROVEN) == 1


def test_an_action_is_granted_once() -> None:
    cluster = Cluster()
    assert cluster.reason(an_action()) is None

    assert cluster.reason(an_action()) is Reason.ALREADY_GRANTED
    cluster.settle(an_action(), Outcome.SUCCEEDED, T0)
    assert cluster.reason(an_action()) is Reason.ALREADY_GRANTED


def test_a_second_outcome_of_the_same_action_changes_nothing() -> None:
    cluster = Cluster()
    cluster.ask(an_action())
    cluster.settle(an_action(), Outcome.FAILED, T0)
    before = cluster.state

    cluster.settle(an_action(), Outcome.SUCCEEDED, T0)
    assert cluster.state == before


@pytest.mark.parametrize(("healthy", "expected"), [(1, Reason.LAST_REPLICAS), (2, None)])
def test_the_last_healthy_replica_stays(healthy: int, expected: Reason | None) -> None:
    assert Cluster(a_table(healthy)).reason(an_action()) is expected


def test_what_is_under_way_counts_as_gone() -> None:
    cluster = Cluster(a_table(3))
    first = an_action(1, min_healthy=2)
    second = an_action(2, min_healthy=2, policy="other")
    cluster.ask(first)

    assert cluster.reason(second) is Reason.LAST_REPLICAS
    cluster.settle(first, Outcome.SUCCEEDED, T0)  # its pod is back, the table says so
    assert [j.refusal for j in cluster.retry(T0)] == [None]


def test_a_pod_that_left_the_table_costs_nothing() -> None:
    table = {PAYMENTS: {"payments-2": Place("n1", "a")}}

    assert Cluster(table).reason(an_action()) is None


def test_a_pod_that_cannot_be_found_among_addresses_may_be_the_last_one() -> None:
    assert Cluster({PAYMENTS: {"10.0.0.1:80": Place()}}).reason(an_action()) is Reason.LAST_REPLICAS
    assert Cluster({PAYMENTS: {"10.0.0.1:80": Place(pod="payments-2")}}).reason(an_action()) is None


def test_an_unknown_service_is_left_alone() -> None:
    assert Cluster({}).reason(an_action()) is Reason.TABLE_UNKNOWN
    assert Cluster({PAYMENTS: {}}).reason(an_action()) is None  # known, and nothing left to lose


def test_a_node_is_repaired_around_services_that_would_lose_everything() -> None:
    lonely = ServiceKey("shop", "lonely")
    tables = {PAYMENTS: {"p1": Place("n1"), "p2": Place("n2")}, lonely: {"l1": Place("n1")}}

    judged = Cluster(tables).ask(a_cordon())

    assert judged.refusal is None
    assert judged.action.excluded == (lonely,)


def test_only_so_many_nodes_are_out_and_none_for_ever() -> None:
    wide = a_budget(rules=BudgetRules(proven_ms=0), nodes=10)
    cluster, now, out = Cluster({}, wide), T0, []
    for n in range(10):
        cordon = a_cordon(f"n{n}", now)
        if cluster.reason(cordon, now) is None:
            out.append(n)
            cluster.settle(cordon, Outcome.SUCCEEDED, now)
        now += MINUTE

    assert out == [0, 1]
    assert cluster.reason(a_cordon("late", now), now) is Reason.TOO_MANY_NODES
    cluster.state = cluster.budget.release(cluster.state, a_cordon("n0").id)
    assert [j.refusal for j in cluster.retry(now)] == [None]


@pytest.mark.parametrize("outcome", Outcome)
def test_a_node_that_is_out_is_repaired_again_in_its_own_place(outcome: Outcome) -> None:
    cluster = Cluster({}, a_budget(nodes=10))
    first, again = a_cordon(), a_cordon(since=T0 + MINUTE)
    assert cluster.reason(first) is None
    assert cluster.reason(again, T0 + MINUTE) is Reason.BUDGET
    cluster.settle(first, Outcome.SUCCEEDED, T0 + MINUTE)

    assert cluster.reason(a_cordon("n2"), T0 + 2 * MINUTE) is Reason.BUDGET
    assert cluster.reason(again, T0 + 2 * MINUTE) is None
    cluster.settle(again, outcome, T0 + 3 * MINUTE)
    assert [held.node for held in cluster.state.held.values()] == ["n1"]


def test_a_node_whose_outcome_never_comes_is_out_all_the_same() -> None:
    cluster = Cluster({}, a_budget())
    assert cluster.reason(a_cordon()) is None

    assert cluster.reason(a_cordon("n2"), T0 + 2 * RUN_MS) is Reason.TOO_MANY_NODES


def test_three_quarters_of_the_nodes_falsely_failed_for_a_day_cost_a_fifth() -> None:
    cluster, out = Cluster({}, a_budget(nodes=10)), []
    for now in range(T0, T0 + 24 * 60 * MINUTE, 10 * MINUTE):
        for n in range(8):
            cordon = a_cordon(f"n{n}", now)
            if n not in out and cluster.reason(cordon, now) is None:
                out.append(n)
                cluster.settle(cordon, Outcome.SUCCEEDED, now + MINUTE)

    assert len(out) == 2


def test_a_failed_repair_of_a_node_pauses_its_zone_and_leaves_it_free_then() -> None:
    cluster = Cluster(a_table(9), a_budget(nodes=100))
    cordon = a_cordon()
    assert cluster.reason(cordon) is None
    cluster.settle(cordon, Outcome.FAILED, T0 + MINUTE)

    assert cluster.reason(an_action(), T0 + MINUTE) is Reason.BUDGET
    assert cluster.reason(an_action(), T0 + 3 * MINUTE) is None


@pytest.mark.parametrize(
    ("in_force", "expected"),
    [
        (PolicySet(policies=(a_policy(),)), None),
        (PolicySet(policies=(a_policy(mode=Mode.APPROVE),)), None),
        (PolicySet(), Reason.NO_POLICY),
        (PolicySet(policies=(a_policy(mode=Mode.SHADOW),)), Reason.SHADOW),
        (PolicySet(policies=(a_policy(steps=(Step.of(Do.NOTIFY),)),)), Reason.NO_POLICY),
        (PolicySet(policies=(a_policy(mode=Mode.APPROVE, guards=Guards(version="2")),)), Reason.NEEDS_APPROVAL),
        (
            PolicySet(policies=(a_policy(),), guards=Guards(protected_namespaces=frozenset({"shop"}))),
            Reason.PROTECTED_NAMESPACE,
        ),
        (PolicySet(policies=(a_policy(),), guards=Guards(maintenance=(Window(begin=0, end=0),))), Reason.MAINTENANCE),
    ],
)
def test_what_waits_is_granted_by_the_policies_in_force_then(in_force: PolicySet, expected: Reason | None) -> None:
    cluster = Cluster()
    assert cluster.reason(an_action(1)) is None
    assert cluster.reason(an_action(2)) is Reason.BUDGET
    cluster.settle(an_action(1), Outcome.NOT_DONE, T0)
    cluster.budget = Budget(policies=in_force)

    cluster.retry(T0 + SECOND)

    refusal = cluster.ask(an_action(2), T0 + SECOND).refusal
    assert refusal is not None
    assert refusal.reason is (expected or Reason.ALREADY_GRANTED)
    cordon = a_cordon()
    back = replace(cordon, id=undo_id(cordon.id), undoes=cordon.id, steps=undo(cordon.steps))
    assert cluster.reason(back, T0 + SECOND) is None


def test_the_switch_stops_grants_and_what_waits_passes_later() -> None:
    cluster = Cluster(on=False)
    assert cluster.reason(an_action()) is Reason.KILL_SWITCH
    assert cluster.retry(T0 + SECOND) == []

    cluster.on = True
    assert [j.refusal for j in cluster.retry(T0 + MINUTE)] == [None]
    assert not cluster.state.waiting


def test_what_waits_is_cancelled_with_its_alert_or_expires() -> None:
    cluster = Cluster()
    cluster.ask(an_action(1))
    cluster.ask(an_action(2))
    cluster.ask(an_action(3))

    cluster.state, cancelled = cluster.budget.cancel(cluster.state, an_action(2).id)
    assert cancelled is not None
    assert cancelled.refusal is not None
    assert cancelled.refusal.reason is Reason.CANCELLED
    assert cluster.budget.cancel(cluster.state, an_action(2).id)[1] is None
    [expired] = cluster.retry(T0 + QUEUE_MS)
    assert expired.refusal is not None
    assert (expired.action.id, expired.refusal.reason) == (an_action(3).id, Reason.EXPIRED)


def test_the_queue_is_bounded() -> None:
    cluster = Cluster()
    for n in range(MAX_WAITING + 1):
        cluster.ask(an_action(n))

    assert cluster.reason(an_action(-1)) is Reason.QUEUE_FULL


def test_taking_back_needs_no_room_and_does_not_expire() -> None:
    cluster = Cluster({PAYMENTS: {"payments-1": Place("n1")}}, on=False)
    cordon = a_cordon()
    back = replace(cordon, id=undo_id(cordon.id), undoes=cordon.id, steps=undo(cordon.steps))
    assert cluster.reason(back) is Reason.KILL_SWITCH

    cluster.on = True
    assert [j.refusal for j in cluster.retry(T0 + 2 * QUEUE_MS)] == [None]
    assert not cluster.state.held


SERVICES = ["payments", "cart"]
ASKS = st.tuples(st.just("ask"), st.integers(0, 12), st.sampled_from([*SERVICES, "n1", "n2", "n3"]))
OUTCOMES = st.tuples(st.just("outcome"), st.integers(0, 12), st.sampled_from(Outcome))
EVENTS = st.lists(
    st.tuples(st.integers(0, 12 * MINUTE), ASKS | OUTCOMES | st.just(("retry", 0, "")) | st.just(("switch", 0, ""))),
    max_size=60,
)
SIZES = st.fixed_dictionaries({name: st.integers(0, 4) for name in SERVICES})


def tables_of(sizes: dict[str, int]) -> Tables:
    nodes = ("n1", "n2", "n3")
    return {
        ServiceKey("shop", name): {f"{name}-{i}": Place(nodes[i % 3], "a") for i in range(1, size + 1)}
        for name, size in sizes.items()
    }


@LAW
@given(EVENTS, SIZES)
def test_whatever_happens_the_budget_holds(events: list[tuple[int, Any]], sizes: dict[str, int]) -> None:
    cluster = Cluster(tables_of(sizes), a_budget(nodes=3))
    now, granted, ids = T0, list[RepairAction](), list[str]()
    for pause, (what, n, arg) in events:
        now += pause
        before = cluster.budget._aged(cluster.state, now)
        judged: list[Judged] = []
        if what == "ask":
            action = a_cordon(arg, now) if arg.startswith("n") else an_action(n, arg, now)
            judged = [cluster.ask(action, now)]
        elif what == "outcome" and granted:
            cluster.settle(granted[n % len(granted)], arg, now)
        elif what == "retry":
            judged = cluster.retry(now)
        elif what == "switch":
            cluster.on = not cluster.on
        new = [j.action for j in judged if j.refusal is None]
        assert cluster.on or not new
        granted += new
        ids += [action.id for action in new]
        for name, domain in cluster.state.domains.items():
            assert 1 <= domain.width <= cluster.budget.rules.max_width
            used = sum(name in held.domains for held in cluster.state.held.values())
            was = sum(name in held.domains for held in before.held.values())
            assert used <= max(domain.width, was)
        taken = dict[ServiceKey, int]()
        for held in cluster.state.held.values():
            for service, number in held.takes.items() if not held.done_at else ():
                taken[service] = taken.get(service, 0) + number
        assert all(len(cluster.tables[s]) - number >= 1 for s, number in taken.items())

    assert len(ids) == len(set(ids))


@LAW
@given(EVENTS, SIZES)
def test_nothing_stops_the_budget_for_ever(events: list[tuple[int, Any]], sizes: dict[str, int]) -> None:
    cluster = Cluster(tables_of(sizes), a_budget(nodes=3))
    now = T0
    for pause, (what, n, arg) in events:
        now += pause
        if what == "ask":
            cluster.ask(a_cordon(arg, now) if arg.startswith("n") else an_action(n, arg, now), now)
        elif what == "outcome" and cluster.state.granted:
            ids = list(cluster.state.granted)
            cluster.state = cluster.budget.settle(cluster.state, ids[n % len(ids)], arg, now)

    later = now + RUN_MS + BudgetRules().cordoned_ms + BudgetRules().longest_pause_ms
    cluster.tables = a_table(2)
    fresh = an_action(1_000, now=later)

    cluster.state = replace(cluster.state, waiting={})
    assert cluster.reason(fresh, later) is None
