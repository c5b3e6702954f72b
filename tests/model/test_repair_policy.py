"""Which policy is about an alert, and when people are at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import T0, a_node_alert, a_policy, an_alert, policies
from waypost.model.repair_policy import DEFAULT_POLICIES, Mode, Scope, Window, matches
from waypost.model.repair_steps import OF_NODES, OF_SERVICES, PARAMETERS, Do, Step, undo

HOUR = 3_600_000
DAY = 24 * HOUR
WEDNESDAY = T0 // DAY * DAY


@pytest.mark.parametrize(
    ("window", "at", "closes"),
    [
        (Window(begin=60, end=120), HOUR, 2 * HOUR),
        (Window(begin=60, end=120), 2 * HOUR, None),
        (Window(begin=60, end=120), HOUR - 1, None),
        (Window(begin=22 * 60, end=6 * 60), 23 * HOUR, 30 * HOUR),
        (Window(begin=22 * 60, end=6 * 60), 5 * HOUR, 6 * HOUR),
        (Window(begin=22 * 60, end=6 * 60, days=frozenset({2})), 5 * HOUR, None),  # Tuesday's did not begin
        (Window(begin=22 * 60, end=6 * 60, days=frozenset({1})), 5 * HOUR, 6 * HOUR),
        (Window(begin=0, end=0), 5 * HOUR, DAY),
        (Window(begin=60, end=60, days=frozenset({2})), 25 * HOUR - 1, 25 * HOUR),
    ],
)
def test_windows_are_of_weekdays_and_may_pass_midnight(window: Window, at: int, closes: int | None) -> None:
    found = window.closes_at(WEDNESDAY + at)

    assert found == (None if closes is None else WEDNESDAY + closes)


@LAW
@given(
    st.builds(Window, begin=st.integers(0, 1439), end=st.integers(0, 1439), days=st.frozensets(st.integers(0, 6))),
    st.integers(0, 14 * DAY),
)
def test_an_open_window_closes_within_a_day(window: Window, later: int) -> None:
    now = T0 + later
    closes = window.closes_at(now)

    assert closes is None or now < closes <= now + DAY
    assert window.days or closes is None


def test_patterns_match_names_and_beginnings_and_never_nothing() -> None:
    assert matches(["shop"], "shop")
    assert not matches(["shop"], "shop-2")
    assert matches(["shop*"], "shop-2")
    assert matches(["*"], "shop")
    assert not matches(["*"], "")
    assert not matches([], "shop")


def test_the_first_policy_that_covers_an_alert_counts() -> None:
    several = policies(a_policy(name="one", labels={"team": "a"}), a_policy(name="two"))

    found = [several.policy_for(an_alert(labels=labels)) for labels in ({"team": "a"}, {})]
    assert [policy.name for policy in found if policy] == ["one", "two"]
    assert several.policy_for(a_node_alert()) is None


def test_the_defaults_do_nothing_but_show() -> None:
    assert {policy.mode for policy in DEFAULT_POLICIES.policies} == {Mode.SHADOW}
    crash, node = (DEFAULT_POLICIES.policy_for(alert) for alert in (an_alert(), a_node_alert()))
    assert crash is not None
    assert node is not None
    assert [step.do for step in crash.steps] == [Do.EVICT_POD]
    assert [step.do for step in node.steps] == [Do.CORDON, Do.ISOLATE, Do.DRAIN]
    for policy in DEFAULT_POLICIES.policies:
        allowed = OF_NODES if policy.scope is Scope.NODE else OF_SERVICES
        assert {step.do for step in policy.steps} <= allowed


def test_steps_know_their_parameters() -> None:
    assert Step.of(Do.SCALE, at_most=5).parameters == {"by": 1, "at_most": 5}
    with pytest.raises(ValueError, match="at_most"):
        Step.of(Do.SCALE)
    with pytest.raises(ValueError, match="no parameter"):
        Step.of(Do.CORDON, hard=1)
    assert set(PARAMETERS) == set(Do)


def test_only_what_was_ours_can_be_taken_back() -> None:
    steps = (Step.of(Do.CORDON), Step.of(Do.ISOLATE), Step.of(Do.DRAIN))

    assert [step.do for step in undo(steps)] == [Do.RELEASE, Do.UNCORDON]
    assert undo((Step.of(Do.EVICT_POD),)) == ()
