"""`waypost policy`: what is wrong with a document, and what it would have done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.model.repairs import MINUTE, SECOND, T0, a_node_alert, an_alert
from waypost.cli import main
from waypost.model.alert import Alert
from waypost.wire.alerts import encode_alert

ACTING = """\
version: "1"
policies:
  - name: crashes
    match: {types: [PodCrash], namespaces: [shop]}
    steps: [{do: evict-pod}]
    mode: act
    wait_seconds: 5
  - name: nodes
    match: {types: [NodeFailure], scope: node, nodes: ["*"]}
    steps: [{do: cordon}, {do: isolate}]
    undo: true
"""


def waypost(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments])


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(ACTING)
    return file


def recorded(directory: Path, *alerts: tuple[int, Alert]) -> str:
    file = directory / "alerts.jsonl"
    file.write_bytes(b"".join(b"%d\t%b\n" % (at, encode_alert(alert)) for at, alert in alerts))
    return str(file)


def test_a_good_document_is_summed_up(policies: Path) -> None:
    result = waypost("validate", str(policies))

    assert result.exit_code == 0
    assert result.output == f"{policies}: version 1, 2 policies (1 act, 1 shadow)\n"


def test_a_bad_document_is_refused_with_every_place(policies: Path) -> None:
    policies.write_text(ACTING.replace("mode: act", "mode: yes").replace("[shop]", "[]"))
    result = waypost("validate", str(policies))

    assert result.exit_code == 1
    assert "  policies[0].match.namespaces: must have 1 to 256 entries\n" in result.output
    assert "  policies[0].mode: mode is one of shadow, approve, act\n" in result.output


def told(policies: Path, alerts: str, *more: str) -> list[tuple[int, str, str]]:
    result = waypost("test", str(policies), "--alerts", alerts, "-o", "json", *more)
    assert result.exit_code == 0, result.output
    return [(one["at"] - T0, one["decision"], one["reason"]) for one in json.loads(result.output)]


def test_it_shows_what_would_have_been_done_and_why_not(policies: Path, tmp_path: Path) -> None:
    alerts = recorded(
        tmp_path,
        (T0, an_alert()),
        (T0, an_alert()),
        (T0 + 10 * MINUTE, an_alert(resolved=True)),
        (T0 + 10 * MINUTE, a_node_alert()),
        (T0 + 11 * MINUTE, an_alert(namespace="")),
    )

    assert told(policies, alerts) == [
        (0, "refuse", "waiting"),
        (0, "refuse", "waiting"),
        (5 * SECOND, "act", ""),
        (10 * MINUTE, "refuse", "resolved"),
        (10 * MINUTE, "refuse", "waiting"),
        (10 * MINUTE + 5 * SECOND, "refuse", "shadow"),
        (11 * MINUTE, "refuse", "no-namespace"),
    ]


def test_as_acting_shows_the_repairs_of_shadow_policies_and_what_takes_them_back(
    policies: Path, tmp_path: Path
) -> None:
    alerts = recorded(tmp_path, (T0, a_node_alert()), (T0 + HOUR, a_node_alert(resolved=True)))

    assert told(policies, alerts, "--as-acting") == [
        (0, "refuse", "waiting"),
        (5 * SECOND, "act", ""),
        (HOUR, "refuse", "resolved"),
        (HOUR, "undo", ""),
    ]


HOUR = 60 * MINUTE


def test_an_alert_that_ends_in_time_is_not_repaired(policies: Path, tmp_path: Path) -> None:
    alerts = recorded(tmp_path, (T0, an_alert()), (T0 + 4 * SECOND, an_alert(resolved=True)))

    assert "act" not in [decision for _, decision, _ in told(policies, alerts)]


def test_people_get_a_table(policies: Path, tmp_path: Path) -> None:
    result = waypost("test", str(policies), "--alerts", recorded(tmp_path, (T0, an_alert())))

    assert result.output.splitlines()[0].split() == ["AT", "ALERT", "TARGET", "POLICY", "DECISION", "WHY"]
    assert "act evict-pod" in result.output
    assert result.output.endswith("2 decisions, 1 repairs\n")


def test_the_defaults_can_be_tried(tmp_path: Path) -> None:
    found = told(Path("default"), recorded(tmp_path, (T0, an_alert())))

    assert found[-1][1:] == ("refuse", "shadow")


@pytest.mark.parametrize("line", [b"{}", b"x\t{}", b"[]"])
def test_a_line_that_is_no_alert_is_named(policies: Path, tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "alerts.jsonl"
    file.write_bytes(encode_alert(an_alert()) + b"\n" + line)
    result = waypost("test", str(policies), "--alerts", str(file))

    assert result.exit_code == 1
    assert "line 2" in result.output


def test_a_file_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    result = waypost("validate", str(tmp_path / "none.yaml"))

    assert (result.exit_code, result.output.count("\n")) == (1, 1)
