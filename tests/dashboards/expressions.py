"""Every expression of `dashboards/`, with the place it stands in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.docs.pages import ROOT

DASHBOARDS = ROOT / "dashboards"
RULES = DASHBOARDS / "prometheus" / "rules.yml"
GRAFANA = DASHBOARDS / "grafana" / "waypost.json"

_METRIC = re.compile(r"\b(?:flink_|waypost_|waypost:)[A-Za-z0-9_:]+|\bup\b")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return dict(json.loads(GRAFANA.read_text(encoding="utf-8")))


def expressions() -> Iterator[tuple[str, str]]:
    """Yield (where, expression)."""
    for rule in rules():
        yield rule.get("record") or rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]


def names_in(expression: str) -> set[str]:
    """Return the metrics an expression reads. Strings are cut out first: a label's value is no name."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))
