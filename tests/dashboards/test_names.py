"""Dashboards and alerts speak of metrics that exist, and the page of the metrics is current."""

from __future__ import annotations

import re
import runpy
from collections import Counter

import pytest

from tests.dashboards.expressions import dashboard, expressions, names_in, rules
from tests.docs.pages import ROOT
from waypost.metrics import Kind, Origin, register

EXPORTED = {name for metric in register() for name in metric.exported}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_name_is_in_the_register(where: str, expression: str) -> None:
    names = names_in(expression)

    assert names, where
    assert names <= EXPORTED | RECORDED


def test_what_the_jobs_count_is_shown_somewhere() -> None:
    shown = set().union(*(names_in(expression) for _, expression in expressions()))

    unused = [m.name for m in register() if m.by_an_operator and not shown & set(m.exported)]
    assert unused == []


def test_names_are_unique_and_as_prometheus_wants_them() -> None:
    names = [name for metric in register() for name in metric.exported]

    assert Counter(names).most_common(1)[0][1] == 1
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in names)
    for metric in register():
        assert metric.help
        assert metric.unit
        if metric.origin is not Origin.FLINK:
            assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        if metric.by_an_operator:
            assert metric.where
            assert len(metric.labels) <= 1, "jobs.operators.meters counts under one label"
        assert list(metric.buckets) == sorted(metric.buckets)


def test_every_alert_says_how_bad_it_is_and_what_it_means() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]


def test_the_dashboards_panels_are_apart_and_choose_their_source() -> None:
    panels = dashboard()["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


def test_the_metrics_page_is_current() -> None:
    render = runpy.run_path(str(ROOT / "scripts" / "metrics_doc.py"))["render"]

    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == render(), "run scripts/metrics_doc.py"
