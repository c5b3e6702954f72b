"""The decision about one alert: every reason not to act, and what is done when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import MINUTE, SECOND, T0, a_node_alert, a_node_policy, a_policy, an_alert, observed
from waypost.model.alert import Alert, AlertStatus
from waypost.model.kill_switch import STALE_MS, UNREAD, Control
from waypost.model.refusals import MEANING, WAITS, WHO, Reason
from waypost.model.repair import Observed, Refusal, decide
from waypost.model.repair_action import Outcome, RepairAction, action_id
from waypost.model.repair_policy import Guards, Mode, RepairPolicy, Window
from waypost.model.repair_state import Approval, TargetState, begun, noted, settled
from waypost.model.repair_steps import Do, Step


def knowing(alert: Alert, now: int = T0, state: TargetState | None = None, **facts: Any) -> Observed:
    after = noted(state or TargetState(), alert, now)
    assert after is not None
    return observed(now, after, **facts)


def reason(seen: Observed, alert: Alert, policy: RepairPolicy | None, now: int = T0) -> Reason:
    found = decide(seen, alert, policy, now)
    assert isinstance(found, Refusal)
    return found.reason


def acted(state: TargetState, now: int = T0, outcome: Outcome | None = None) -> TargetState:
    """The state after one attempt at f1 under the usual policy."""
    found = decide(observed(now, state), state.episodes["f1"].alert, a_policy(), now)
    assert isinstance(found, RepairAction)
    state = begun(state, found, now)
    if outcome is not None:
        after = settled(state, found.id, outcome, found.cooldown_ms, now)
        assert after is not None
        return after
    return state


FIRST = knowing(an_alert()).state


def test_a_firing_alert_under_an_acting_policy_is_repaired() -> None:
    found = decide(knowing(an_alert()), an_alert(), a_policy(), T0)

    assert isinstance(found, RepairAction)
    assert found.steps == (Step(Do.EVICT_POD, {"when_unnamed": "restart"}),)
    assert (str(found.target), found.pod, found.attempt) == ("shop/payments", "payments-1", 1)
    assert found.id == action_id(found.target, "f1", T0, 1)
    assert found.begin_by == 0  # not before somebody grants it


def test_a_pod_crash_without_a_pod_restarts_the_workload() -> None:
    alert = an_alert(pod="")
    found = decide(knowing(alert), alert, a_policy(), T0)

    assert isinstance(found, RepairAction)
    assert [step.do for step in found.steps] == [Do.RESTART]


def test_a_failed_node_is_cordoned_isolated_and_drained_in_one_decision() -> None:
    alert = a_node_alert()
    found = decide(knowing(alert), alert, a_node_policy(), T0)

    assert isinstance(found, RepairAction)
    assert [step.do for step in found.steps] == [Do.CORDON, Do.ISOLATE, Do.DRAIN]
    assert found.service is None


OPTED_OUT = {"waypost_repair": "off"}
EVERY_WEEK = Guards(maintenance=(Window(begin=0, end=0),))


@pytest.mark.parametrize(
    ("seen", "alert", "policy", "expected"),
    [
        (replace(knowing(an_alert()), control=UNREAD), an_alert(), a_policy(), Reason.CONFIG_UNKNOWN),
        (replace(knowing(an_alert()), control=Control(False, T0)), an_alert(), a_policy(), Reason.KILL_SWITCH),
        (observed(), an_alert(service=""), a_policy(), Reason.NO_TARGET),
        (knowing(an_alert(namespace="")), an_alert(namespace=""), a_policy(namespaces=("*",)), Reason.NO_NAMESPACE),
        (knowing(an_alert(resolved=True)), an_alert(), a_policy(), Reason.RESOLVED),
        (knowing(an_alert(starts_at=T0 + 1)), an_alert(), a_policy(), Reason.STALE),
        (knowing(an_alert(fingerprint="other")), an_alert(), a_policy(), Reason.TOO_MANY_ALERTS),
        (knowing(an_alert()), an_alert(), None, Reason.NO_POLICY),
        (knowing(an_alert()), an_alert(), a_policy(namespaces=("else",)), Reason.NO_POLICY),
        (knowing(an_alert()), an_alert(), a_policy(namespaces=()), Reason.NO_POLICY),
        (knowing(an_alert()), an_alert(), a_policy(labels={"team": "a"}), Reason.NO_POLICY),
        (
            knowing(an_alert(namespace="kube-system")), an_alert(namespace="kube-system"), a_policy(namespaces=("*",)),
            Reason.PROTECTED_NAMESPACE,
        ),
        (knowing(an_alert(labels=OPTED_OUT)), an_alert(labels=OPTED_OUT), a_policy(), Reason.OPTED_OUT),
        (knowing(an_alert(), labels={"waypost_repair": "?"}), an_alert(), a_policy(), Reason.OPTED_OUT),
        (knowing(an_alert()), an_alert(), a_policy(guards=EVERY_WEEK), Reason.MAINTENANCE),
        (knowing(an_alert(), incident="node-1"), an_alert(), a_policy(), Reason.PART_OF_INCIDENT),
        (observed(T0, acted(FIRST)), an_alert(), a_policy(), Reason.IN_FLIGHT),
        (
            knowing(an_alert(fingerprint="f2"), state=acted(FIRST)), an_alert(fingerprint="f2"), a_policy(),
            Reason.TARGET_BUSY,
        ),
        (observed(T0, acted(FIRST, outcome=Outcome.SUCCEEDED)), an_alert(), a_policy(), Reason.ALREADY_REPAIRED),
        (observed(T0, acted(FIRST, outcome=Outcome.FAILED)), an_alert(), a_policy(), Reason.COOLDOWN),
        (
            observed(T0, acted(FIRST, outcome=Outcome.FAILED)), an_alert(), a_policy(max_attempts=1),
            Reason.HUMAN_NEEDED,
        ),
        (knowing(an_alert()), an_alert(), a_policy(wait_ms=1), Reason.WAITING),
        (
            knowing(an_alert(pod="")), an_alert(pod=""),
            a_policy(steps=(Step.of(Do.EVICT_POD, when_unnamed="refuse"),)), Reason.NO_POD,
        ),
        (knowing(an_alert(pod="")), an_alert(pod=""), a_policy(steps=(Step.of(Do.ISOLATE),)), Reason.NO_POD),
        (knowing(an_alert()), an_alert(), a_policy(mode=Mode.SHADOW), Reason.SHADOW),
        (knowing(an_alert()), an_alert(), a_policy(mode=Mode.APPROVE), Reason.NEEDS_APPROVAL),
    ],
)  # fmt: skip
def test_every_reason(seen: Observed, alert: Alert, policy: RepairPolicy | None, expected: Reason) -> None:
    found = decide(seen, alert, policy, T0)

    assert isinstance(found, Refusal)
    assert found.reason is expected
    assert (found.retry_at is not None) == (expected in WAITS)
    assert found.retry_at is None or found.retry_at > T0


def test_shadow_is_the_default_and_shows_what_it_would_do() -> None:
    plain = RepairPolicy(name="p", types=frozenset({"PodCrash"}), namespaces=("*",), steps=(Step.of(Do.RESTART),))
    seen = knowing(an_alert(), now=T0 - MINUTE)
    found = decide(replace(seen, control=Control(True, T0)), an_alert(), plain, T0)

    assert isinstance(found, Refusal)
    assert found.reason is Reason.SHADOW
    assert found.would is not None
    assert [step.do for step in found.would.steps] == [Do.RESTART]


@pytest.mark.parametrize("age", [STALE_MS + 1, -STALE_MS - 1])
def test_a_reading_that_is_too_old_or_from_the_future_stops_everything(age: int) -> None:
    seen = replace(knowing(an_alert()), control=Control(True, T0 - age))

    assert reason(seen, an_alert(), a_policy()) is Reason.CONFIG_UNKNOWN


def test_an_approval_is_for_one_action_and_expires() -> None:
    policy = a_policy(mode=Mode.APPROVE, approval_ms=MINUTE)
    seen = knowing(an_alert())
    asked = decide(seen, an_alert(), policy, T0)
    assert isinstance(asked, Refusal)
    assert asked.would is not None

    plan = asked.would.plan

    def approved(action: str, at: int, plan: str = plan) -> Observed:
        episode = replace(seen.state.episodes["f1"], asked_at=T0, approval=Approval(action, "ann", at, plan))
        return observed(at, seen.state.with_episode(episode))

    assert isinstance(decide(approved(asked.would.id, T0 + SECOND), an_alert(), policy, T0 + SECOND), RepairAction)
    assert reason(approved("else", T0 + SECOND), an_alert(), policy, T0 + SECOND) is Reason.NEEDS_APPROVAL
    for other in ("", replace(asked.would, steps=(Step.of(Do.RESTART),)).plan, replace(asked.would, pod="other").plan):
        assert reason(approved(asked.would.id, T0, other), an_alert(), policy) is Reason.NEEDS_APPROVAL
    late = replace(approved(asked.would.id, T0), control=Control(True, T0 + MINUTE))
    assert reason(late, an_alert(), policy, T0 + MINUTE) is Reason.APPROVAL_EXPIRED


def test_failures_in_a_row_double_the_cooldown_up_to_eight_times() -> None:
    now, waits, state = T0, [], FIRST
    for _ in range(6):
        state = acted(state, now, Outcome.FAILED)
        waits.append(state.cooldown_until - now)
        now = state.cooldown_until + 6 * 3_600_000
        repeated = noted(state, an_alert(), now)
        assert repeated is not None
        state = repeated

    assert waits == [n * 5 * MINUTE for n in (1, 2, 4, 8, 8, 8)]


def test_after_the_last_attempt_a_human_has_to_come_and_not_for_ever() -> None:
    now, state = T0, FIRST
    for _ in range(3):
        state = acted(state, now, Outcome.FAILED)
        now = state.cooldown_until
    found = decide(observed(now, state), an_alert(), a_policy(), now)

    assert isinstance(found, Refusal)
    assert (found.reason, found.retry_at) == (Reason.HUMAN_NEEDED, T0 + 6 * 3_600_000)
    later = T0 + 6 * 3_600_000
    assert isinstance(decide(observed(later, state), an_alert(), a_policy(), later), RepairAction)


@LAW
@given(
    st.builds(
        Alert,
        type=st.just("PodCrash"),
        status=st.sampled_from(AlertStatus),
        fingerprint=st.just("f"),
        starts_at=st.integers(0, T0),
        service=st.sampled_from(["", "payments"]),
        namespace=st.sampled_from(["", "shop", "node"]),
        node=st.sampled_from(["", "n1"]),
        pod=st.sampled_from(["", "p"]),
    ),
    st.sampled_from([("*",), ("shop",), ("s*",), (), ("",)]),
    st.sampled_from(Mode),
)
def test_nothing_is_done_without_target_and_namespace_nor_in_shadow(
    alert: Alert, namespaces: tuple[str, ...], mode: Mode
) -> None:
    for policy in (a_policy(namespaces=namespaces, mode=mode), a_node_policy(types=frozenset({"PodCrash"}), mode=mode)):
        seen = knowing(alert) if alert.target else observed()
        found = decide(seen, alert, policy, T0)

        assert found == decide(seen, alert, policy, T0)
        if isinstance(found, RepairAction):
            assert mode is Mode.ACT
            assert alert.firing
            assert found.target.namespace
            assert found.target.name
            assert found.target.is_node or (alert.namespace == "shop" and alert.service)


def test_every_reason_is_explained() -> None:
    assert set(MEANING) == set(Reason)
    assert set(WHO) <= set(Reason)
