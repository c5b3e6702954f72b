"""A pod that is an endpoint of several services is taken from all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.repairs import PAYMENTS, T0, a_policy, policies
from tests.repair.played import an_action
from waypost.model.budget import Budget, BudgetState
from waypost.model.impact import Place, Tables, impact
from waypost.model.kill_switch import Control
from waypost.model.names import ServiceKey
from waypost.model.refusals import Reason
from waypost.model.repair_steps import Do, Step

METRICS = ServiceKey("shop", "metrics")
EVICT, RESTART, ISOLATE = Step.of(Do.EVICT_POD), Step.of(Do.RESTART), Step.of(Do.ISOLATE)


def two_ports(*, pod: bool, address: bool) -> Tables:
    """Three pods serve payments, and the first of them metrics as well; what they say of themselves differs."""

    def place(n: int) -> Place:
        return Place("n1", "a", f"payments-{n}" if pod else "", "", f"10.0.0.{n}" if address else "")

    return {PAYMENTS: {f"payments-{n}": place(n) for n in (1, 2, 3)}, METRICS: {"m:9100": place(1)}}


@pytest.mark.parametrize("step", [EVICT, RESTART])
@pytest.mark.parametrize(("pod", "address"), [(True, False), (False, True), (True, True)])
def test_the_only_endpoint_of_another_service_stays(step: Step, pod: bool, address: bool) -> None:
    tables = two_ports(pod=pod, address=address)
    action = an_action(step, pod="payments-1" if step is EVICT else "")

    budget = Budget(policies=policies(a_policy(name=action.policy, steps=(step,))))
    _, judged = budget.ask(BudgetState(), action, impact(action, tables), Control(True, T0), T0)

    assert judged.refusal is not None
    assert judged.refusal.reason is Reason.LAST_REPLICAS
    assert "shop/metrics has 1" in judged.refusal.detail


def test_another_pod_may_go() -> None:
    action = an_action(EVICT, pod="payments-2")

    assert impact(action, two_ports(pod=True, address=True)).takes == {PAYMENTS: 1}


def test_an_isolation_is_about_one_service() -> None:
    assert impact(an_action(ISOLATE), two_ports(pod=True, address=True)).takes == {PAYMENTS: 1}


def test_pods_of_one_address_that_say_which_they_are_are_several() -> None:
    at_home = {name: replace(p, address="10.0.0.9") for name, p in two_ports(pod=True, address=True)[PAYMENTS].items()}
    tables = {PAYMENTS: at_home, METRICS: {"m": Place("n1", "a", "agent-1", "", "10.0.0.9")}}

    assert impact(an_action(EVICT), tables).takes == {PAYMENTS: 1}


def test_a_pod_that_has_left_its_own_table_may_be_the_last_of_another() -> None:
    tables = two_ports(pod=True, address=True)
    gone = {PAYMENTS: {n: p for n, p in tables[PAYMENTS].items() if n != "payments-1"}, METRICS: tables[METRICS]}

    assert impact(an_action(EVICT), gone).takes == {METRICS: 1}


PLACES = st.builds(
    Place, st.just("n1"), st.just(""), st.sampled_from(["", "payments-1", "payments-2"]), st.just(""),
    st.sampled_from(["", "10.0.0.1", "10.0.0.2"]),
)  # fmt: skip
TABLE = st.dictionaries(st.sampled_from(["payments-1", "payments-2", "10.0.0.1:80"]), PLACES, max_size=3)


@given(TABLE, TABLE)
def test_no_service_with_an_endpoint_of_the_pod_s_name_is_forgotten(
    own: dict[str, Place], other: dict[str, Place]
) -> None:
    takes = impact(an_action(EVICT), {PAYMENTS: own, METRICS: other}).takes

    said = sum((place.pod or name) == "payments-1" for name, place in other.items())
    assert takes.get(METRICS, 0) >= min(said, 1)
    assert all(0 < n <= len(own if service == PAYMENTS else other) for service, n in takes.items())
