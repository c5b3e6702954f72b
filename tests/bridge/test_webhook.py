"""What a notification becomes: alerts by the mapping, and what cannot become one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bridge.notifications import CRASH, NOT_READY, a_notification, an_entry
from tests.model.events import LAW
from waypost.bridge.mapping import DEFAULT_MAPPING, LabelMapping, Names, Rule, decode_mapping
from waypost.bridge.webhook import MAX_ALERTS, MAX_BYTES, Notification, epoch_ms, read_notification
from waypost.errors import DecodeError, SettingsError
from waypost.model.alert import AlertStatus
from waypost.wire.alerts import decode_alert, encode_alert


def read(*entries: Any, mapping: LabelMapping = DEFAULT_MAPPING, **facts: Any) -> Notification:
    return read_notification(orjson.dumps(a_notification(*entries, **facts)), mapping)


def test_a_known_rule_gives_the_type_and_labels_give_the_names() -> None:
    [alert] = read(an_entry()).alerts

    assert (alert.type, str(alert.target), alert.pod) == ("PodCrash", "shop/payments", "payments-1")
    assert (alert.status, alert.fingerprint, alert.starts_at) == (
        AlertStatus.FIRING, "c2f1a9d04e7b6538", 1_795_338_000_123,
    )  # fmt: skip
    assert alert.labels == CRASH
    assert alert.annotations == {"summary": "it fell"}


def test_a_node_alert_is_about_its_node_and_not_about_the_exporter() -> None:
    [alert] = read(an_entry(NOT_READY, status="resolved")).alerts

    assert (alert.type, str(alert.target)) == ("NodeFailure", "node/n1")
    assert (alert.service, alert.namespace, alert.pod) == ("", "", "")
    assert alert.status is AlertStatus.RESOLVED


def test_an_unknown_rule_keeps_its_name_unless_a_label_says_more() -> None:
    plain, typed = {"alertname": "Mine"}, {"alertname": "Mine", "waypost_type": "PodCrash"}

    assert [a.type for a in read(an_entry(plain), an_entry(typed)).alerts] == ["Mine", "PodCrash"]


def test_nothing_is_made_up_for_an_alert_that_names_nothing() -> None:
    [alert] = read(an_entry({"alertname": "Mine", "service": "payments", "node": ""})).alerts

    assert (alert.namespace, alert.node, alert.pod) == ("", "", "")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (an_entry(CRASH | {"service": "../payments"}), "bad-service"),
        (an_entry(CRASH | {"namespace": "*"}), "bad-namespace"),
        (an_entry(CRASH | {"pod": "a;rm -rf"}), "bad-pod"),
        (an_entry(CRASH | {"node": "{{ .Values }}"}), "bad-node"),
        (an_entry({"alertname": "päy"}), "bad-type"),
        (an_entry({}), "type-missing"),
        (an_entry(fingerprint=None), "fingerprint-missing"),
        (an_entry(startsAt=None), "starts-at-missing"),
        (an_entry(startsAt="yesterday"), "bad-time"),
        (an_entry(startsAt="2026-02-30T00:00:00Z"), "bad-time"),
        (an_entry(startsAt="0001-01-01T00:00:00Z"), "number-out-of-range"),
        (an_entry(startsAt=7), "bad-time"),
        (an_entry(status="pending"), "unknown-status"),
        (an_entry(CRASH | {"x": "y" * 5_000}), "text-too-long"),
        (an_entry(CRASH | {str(n): "" for n in range(99)}), "too-many-labels"),
        (an_entry(CRASH | {str(n): "y" * 4_000 for n in range(40)}), "oversize"),
        (an_entry(CRASH | {"service": 1}), "wrong-type"),
        ("alert", "wrong-type"),
    ],
)
def test_a_bad_alert_is_set_aside_and_its_neighbour_passes(entry: Any, reason: str) -> None:
    found = read(entry, an_entry())

    assert [one.reason for one in found.refused] == [reason]
    assert orjson.loads(found.refused[0].value) == entry
    assert [str(alert.target) for alert in found.alerts] == ["shop/payments"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad-json"),
        (b"[]", "not-an-object"),
        (b"\xff", "bad-utf8"),
        (b"[" * 5_000, "bad-json"),
        (b" " * (MAX_BYTES + 1), "oversize"),
        (orjson.dumps(a_notification(version="3")), "unknown-version"),
        (orjson.dumps(a_notification(alerts=None)), "alerts-missing"),
        (orjson.dumps(a_notification(alerts={})), "wrong-type"),
        (orjson.dumps(a_notification(alerts=[1] * (MAX_ALERTS + 1))), "too-many-alerts"),
    ],
)
def test_what_is_no_notification_is_refused_whole(body: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read_notification(body, DEFAULT_MAPPING)
    assert caught.value.reason == reason


def test_long_annotations_are_cut_because_they_are_for_people() -> None:
    [alert] = read(an_entry(annotations={str(n): "x" * 9_000 for n in range(2)})).alerts

    assert {len(text) for text in alert.annotations.values()} == {4_096}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.9999Z", 999),
        ("1970-01-01T01:00:00.5+01:00", 500),
        ("2026-11-22T09:00:00-02:30", 1_795_347_000_000),
    ],
)
def test_times_are_read_as_go_writes_them(text: str, ms: int) -> None:
    assert epoch_ms("startsAt", text) == ms


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda more: st.lists(more, max_size=3) | st.dictionaries(st.text(max_size=9), more, max_size=3),
    max_leaves=10,
)


@LAW
@given(st.sampled_from(["labels", "annotations", "startsAt", "fingerprint", "status"]), JSON)
def test_whatever_stands_in_an_alert_it_becomes_a_record_or_a_reason(field: str, value: Any) -> None:
    found = read(an_entry(**{field: value}))

    assert len(found.alerts) + len(found.refused) == 1
    assert all(decode_alert(encode_alert(alert)) == alert for alert in found.alerts)


def test_a_mapping_is_data() -> None:
    found = decode_mapping(
        "rules:\n- {labels: {alertname: DiskGone, tier: db}, type: NodeFailure, about_node: true}\n"
        "names: {service: [app], node: [kubernetes_node, node]}\n"
    )

    assert found == LabelMapping(
        rules=(Rule(labels={"alertname": "DiskGone", "tier": "db"}, type="NodeFailure", about_node=True),),
        names=Names(service=("app",), node=("kubernetes_node", "node")),
    )
    [alert] = read(an_entry({"alertname": "DiskGone", "tier": "db", "node": "n9", "app": "x"}), mapping=found).alerts
    assert str(alert.target) == "node/n9"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("rules: [{labels: {}, type: A}]", "rules[0].labels"),
        ("rules: [{labels: {a: b}}]", "rules[0].type"),
        ("rules: [{labels: {a: b}, type: A, node: true}]", "rules[0].node"),
        ("names: {service: []}", "names.service"),
        ("names: {svc: [a]}", "names.svc"),
        ("rule: []", "rule"),
        ("- 1", "must be an object"),
        ("a: [", "neither YAML nor JSON"),
    ],
)
def test_a_bad_mapping_names_the_place(document: str, path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        decode_mapping(document)
    assert path in str(caught.value)
