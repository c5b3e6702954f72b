"""Alerts, decisions, results and state come back as they were, and nothing else is read."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from tests.model.repairs import T0, a_node_alert, a_node_policy, a_policy, a_table, an_alert, observed, policies
from tests.wire.repairs import ACTIONS, ALERTS, FINGERPRINTS, IDS, LABELS, TARGETS, TEXTS, TIMES, TYPES
from waypost.errors import DecodeError, StateVersionError
from waypost.model.alert import Alert, Target
from waypost.model.alert_processor import AlertProcessor
from waypost.model.budget import Budget, BudgetState, Domain, Held
from waypost.model.impact import impact
from waypost.model.kill_switch import Control
from waypost.model.names import ServiceKey
from waypost.model.refusals import Reason
from waypost.model.repair import Refusal
from waypost.model.repair_action import Outcome, RepairAction
from waypost.model.repair_state import Approval, Episode, Phase, TargetState
from waypost.model.repair_steps import Do
from waypost.wire.alerts import MAX_BYTES, NO_KEY, alert_fields, alert_key, decode_alert, encode_alert
from waypost.wire.repair_action import action_fields
from waypost.wire.repair_decisions import (
    DecisionKind,
    DecisionRecord,
    action_record,
    cancel_record,
    decision_record,
    decode_decision,
    encode_decision,
)
from waypost.wire.repair_results import RepairResult, StepOutcome, StepResult, decode_result, encode_result
from waypost.wire.repair_state import decode_budget, decode_target, encode_budget, encode_target


@LAW
@given(ALERTS)
def test_alerts_come_back(alert: Alert) -> None:
    assert decode_alert(encode_alert(alert)) == alert


@LAW
@given(st.builds(
    DecisionRecord, kind=st.sampled_from(sorted(set(DecisionKind) - {DecisionKind.REFUSE})), at=TIMES,
    target=TARGETS.map(str), type=TYPES, fingerprint=FINGERPRINTS, starts_at=TIMES, detail=TEXTS,
    retry_at=st.none() | TIMES, action=ACTIONS,
) | st.builds(
    DecisionRecord, kind=st.just(DecisionKind.REFUSE), at=TIMES, target=st.just("") | TARGETS.map(str), type=TYPES,
    fingerprint=FINGERPRINTS, starts_at=TIMES, reason=st.sampled_from(Reason), detail=TEXTS,
    retry_at=st.none() | TIMES, action=st.none() | ACTIONS,
))  # fmt: skip
def test_decisions_come_back(record: DecisionRecord) -> None:
    assert decode_decision(encode_decision(record)) == record


@LAW
@given(st.builds(
    RepairResult, id=IDS, target=TARGETS, outcome=st.sampled_from(Outcome), at=TIMES, began_at=TIMES, detail=TEXTS,
    steps=st.lists(
        st.builds(StepResult, do=st.sampled_from(Do), outcome=st.sampled_from(StepOutcome), detail=TEXTS), max_size=3
    ).map(tuple),
))  # fmt: skip
def test_results_come_back(result: RepairResult) -> None:
    assert decode_result(encode_result(result)) == result


ANY_TEXT = st.text(st.characters(codec=None), max_size=1_100)
"""Whatever JSON can hold, half of a surrogate pair too."""


@LAW
@given(ANY_TEXT, ANY_TEXT)
def test_a_result_can_be_read_whatever_an_api_server_said(detail: str, said: str) -> None:
    step = StepResult(do=Do.RESTART, outcome=StepOutcome.FAILED, detail=said)
    target = Target("shop", "payments")
    result = RepairResult(id="a" * 32, target=target, outcome=Outcome.FAILED, at=T0, detail=detail, steps=(step,) * 8)

    read = decode_result(encode_result(result))

    assert (read.outcome, len(read.steps)) == (Outcome.FAILED, 8)
    assert len(read.detail) == min(len(detail), 1_000)


EPISODES = st.builds(
    Episode,
    alert=ALERTS,
    first_seen=TIMES,
    phase=st.sampled_from(Phase),
    attempts=st.integers(0, 9),
    action=st.none() | ACTIONS,
    asked_at=TIMES,
    approval=st.none() | st.builds(Approval, IDS, TEXTS, TIMES, st.just("") | IDS),
    said=st.just("") | st.sampled_from([r.value for r in Reason]),
    incident=st.just("") | FINGERPRINTS,
    heard_at=TIMES,
    owed=st.none() | ACTIONS,
    undo_since=TIMES,
    undo_at=TIMES,
    undo_tries=st.integers(0, 9),
)


@LAW
@given(
    st.builds(
        TargetState,
        episodes=st.lists(EPISODES, max_size=3).map(lambda es: {e.alert.fingerprint: e for e in es}),
        begun=st.lists(TIMES, max_size=3).map(tuple),
        cooldown_until=TIMES,
        failures=st.integers(0, 9),
        floor=st.integers(-1, T0),
    )
)
def test_state_of_a_target_comes_back_in_order(state: TargetState) -> None:
    found = decode_target(encode_target(state))

    assert found == state
    assert list(found.episodes) == list(state.episodes)


KEYS = st.builds(ServiceKey, LABELS, LABELS)
TAKES = st.dictionaries(KEYS, st.integers(1, 9), max_size=2)


@LAW
@given(
    st.builds(
        BudgetState,
        domains=st.dictionaries(
            TEXTS,
            st.builds(
                Domain,
                width=st.integers(1, 16),
                proof_from=TIMES,
                changed_at=TIMES,
                failures=st.integers(0, 9),
                closed_until=TIMES,
            ),
        ),
        held=st.dictionaries(
            IDS,
            st.builds(
                Held,
                domains=st.lists(TEXTS, max_size=2).map(tuple),
                takes=TAKES,
                node=LABELS,
                granted_at=TIMES,
                until=TIMES,
                done_at=TIMES,
            ),
        ),
        granted=st.dictionaries(IDS, TIMES),
        waiting=st.lists(ACTIONS, max_size=2).map(lambda actions: {a.id: a for a in actions}),
    )
)
def test_state_of_the_budget_comes_back_in_order(state: BudgetState) -> None:
    found = decode_budget(encode_budget(state))

    assert found == state
    assert list(found.waiting) == list(state.waiting)


def test_state_of_another_version_is_refused() -> None:
    for encode, decode in (
        (encode_target(TargetState()), decode_target),
        (encode_budget(BudgetState()), decode_budget),
    ):
        with pytest.raises(StateVersionError, match="version 9"):
            decode(orjson.dumps([9, *orjson.loads(encode)[1:]]))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("undone", [False, True])
def test_state_of_an_older_build_is_read(version: int, undone: bool) -> None:
    """What was done and not taken back is owed since."""
    processor = AlertProcessor(policies(a_node_policy()))
    [told] = processor.on_alert(observed(), a_node_alert(), T0).told
    action = action_fields(told.decision)  # type: ignore[union-attr,arg-type]
    episode = [alert_fields(a_node_alert()), T0, "succeeded", 1, action, 0, None, "", undone]
    if version == 2:
        episode.append("node-1")

    state = decode_target(orjson.dumps([version, [episode], [T0], T0, 0, -1]))

    [found] = state.episodes.values()
    assert (found.incident, found.heard_at) == ("node-1" if version == 2 else "", T0)
    assert found.owed == (None if undone else told.decision)  # type: ignore[union-attr]


def test_real_state_survives_a_checkpoint_in_the_middle() -> None:
    """What the rules themselves wrote, not what a strategy made up."""
    processor = AlertProcessor(policies(a_policy()))
    processed = processor.on_alert(observed(), an_alert(), T0)
    [told] = processed.told
    action = told.decision  # type: ignore[union-attr]
    assert isinstance(action, RepairAction)
    budget, control, of = Budget(policies=policies(a_policy())), Control(True, T0), impact(action, a_table(3))
    asked, _ = budget.ask(BudgetState(), action, of, control, T0)

    state = decode_target(encode_target(processed.state))
    restored = decode_budget(encode_budget(asked))

    assert processor.on_alert(observed(T0, state), an_alert(), T0).told[0].decision.reason is Reason.IN_FLIGHT  # type: ignore[union-attr]
    _, again = budget.ask(restored, action, of, control, T0)
    assert again.refusal == Refusal(reason=Reason.ALREADY_GRANTED)


HOSTILE = [
    "../payments", "..", "*", "a;rm", "{{ .x }}", "${x}", "a b", "a/b", "A", "päy", "a\n", "-a", "", "x" * 254, 1, [],
    {}, True,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["service", "namespace", "node", "pod"])
def test_a_name_that_could_be_anything_else_is_refused(field: str, name: object) -> None:
    doc = orjson.loads(encode_alert(an_alert())) | {field: name}

    with pytest.raises(DecodeError):
        decode_alert(orjson.dumps(doc))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": None}, "type-missing"),
        ({"type": "Pod/Crash"}, "bad-type"),
        ({"fingerprint": None}, "fingerprint-missing"),
        ({"fingerprint": "a b"}, "bad-fingerprint"),
        ({"startsAt": None}, "starts-at-missing"),
        ({"startsAt": "2026-11-22T00:00:00Z"}, "wrong-type"),
        ({"startsAt": -1}, "number-out-of-range"),
        ({"status": "pending"}, "unknown-status"),
        ({"status": None}, "status-missing"),
        ({"pod": "a/b"}, "bad-pod"),
        ({"labels": {"a": 1}}, "wrong-type"),
        ({"labels": {"a": "b\u2028c"}}, "control-character"),
        ({"labels": {str(n): "" for n in range(65)}}, "too-many-labels"),
        ({"labels": {"a": "x" * 4_097}}, "text-too-long"),
        ({"annotations": {"a": "x" * MAX_BYTES}}, "oversize"),
    ],
)
def test_a_bad_alert_says_what_is_wrong(change: dict[str, object], reason: str) -> None:
    doc = orjson.loads(encode_alert(an_alert())) | change

    with pytest.raises(DecodeError) as caught:
        decode_alert(orjson.dumps(doc))
    assert caught.value.reason == reason


def test_the_key_is_what_an_alert_is_about() -> None:
    assert alert_key(an_alert()) == b"shop/payments"
    assert alert_key(an_alert(service="", node="n1")) == b"node/n1"
    assert alert_key(an_alert(namespace="")) == b"/payments"
    assert alert_key(an_alert(service="")) == NO_KEY


@pytest.mark.parametrize("name", ["tombstone", "no-action", "no-reason", "unknown-parameter", "bad-parameter"])
def test_a_bad_decision_is_refused(name: str) -> None:
    processed = AlertProcessor(policies(a_policy())).on_alert(observed(), an_alert(), T0)
    action = processed.told[0].decision  # type: ignore[union-attr]
    assert isinstance(action, RepairAction)
    doc = orjson.loads(encode_decision(action_record(action, T0)))
    if name == "no-action":
        doc["action"] = None
    elif name == "no-reason":
        doc["decision"] = "refuse"
    elif name == "unknown-parameter":
        doc["action"]["steps"][0]["force"] = 1
    elif name == "bad-parameter":
        doc["action"]["steps"][0]["when_unnamed"] = "all"

    with pytest.raises(DecodeError):
        decode_decision(None if name == "tombstone" else orjson.dumps(doc))


@LAW
@given(ACTIONS.map(lambda a: replace(a, granted_at=0, undoes="")))
def test_records_say_what_became_of_an_action(action: RepairAction) -> None:
    refusal = Refusal(reason=Reason.BUDGET, detail="policy/a: 1 of 1 under way", retry_at=T0)

    assert decision_record(an_alert(), action, T0).kind is DecisionKind.ASK
    assert action_record(action, T0, refusal).kind is DecisionKind.REFUSE
    assert cancel_record(action, T0).kind is DecisionKind.CANCEL
    refused = decision_record(an_alert(service=""), Refusal(reason=Reason.NO_TARGET), T0)
    assert (refused.kind, refused.target, refused.reason) == (DecisionKind.REFUSE, "", Reason.NO_TARGET)
