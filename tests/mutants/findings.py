"""A pytest plugin that writes down how each test ended, and what is read of it.

Loaded into the runs on mutants by `-p tests.mutants.findings --findings <file>`. JUnit's XML would not do: it does not
tell a failed assertion of a test from an exception in the code under test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finding:
    """How one test ended. `refuted`: an assertion of the suite did not hold, alone or for an example of hypothesis."""

    test: str
    outcome: str
    refuted: bool
    error: str


def refutes(error: BaseException) -> bool:
    """Tell whether a test's own assertion failed, and not an import, a fixture, a time-out or the code under test.

    Hypothesis raises a group when it has found several examples. Its complaint about a test that is flaky is a group
    as well, of a class of its own, and refutes nothing.
    """
    if type(error).__name__ == "ExceptionGroup":
        return all(map(refutes, error.exceptions))  # type: ignore[attr-defined]
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (
        isinstance(error, AssertionError)
        and trace is not None
        and Path(trace.tb_frame.f_code.co_filename).is_relative_to(TESTS)
    )


def read_findings(path: Path) -> list[Finding]:
    """Return what the plugin wrote; nothing when pytest did not come so far."""
    return [Finding(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--findings", type=Path, help="where to write one JSON object per test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report: pytest.TestReport = yield
    path: Path | None = item.config.getoption("findings")
    if path is not None and (call.when == "call" or not report.passed):
        error = None if call.excinfo is None else call.excinfo.value
        refuted = call.when == "call" and report.failed and error is not None and refutes(error)
        outcome = report.outcome if call.when == "call" else f"{report.outcome} in {call.when}"
        text = "" if error is None else f"{type(error).__name__}: {error}".partition("\n")[0]
        with path.open("a") as file:
            file.write(json.dumps(asdict(Finding(item.nodeid, outcome, refuted, text))) + "\n")
    return report
