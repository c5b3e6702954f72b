"""Notifications as Alertmanager sends them, version 4."""

from __future__ import annotations

from typing import Any

CRASH = {"alertname": "KubePodCrashLooping", "namespace": "shop", "service": "payments", "pod": "payments-1"}
NOT_READY = {"alertname": "KubeNodeNotReady", "node": "n1", "service": "kube-state-metrics", "namespace": "monitoring"}


def an_entry(labels: Any = None, **facts: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": CRASH if labels is None else labels,
        "annotations": {"summary": "it\nfell"},
        "startsAt": "2026-11-22T09:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph?g0.expr=1",
        "fingerprint": "c2f1a9d04e7b6538",
    } | facts


def a_notification(*entries: Any, **facts: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": '{}:{alertname="KubePodCrashLooping"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "waypost",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(entries),
    } | facts
