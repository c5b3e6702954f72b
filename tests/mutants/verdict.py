"""What a run of some tests says about the tree it ran on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.mutants.findings import Finding


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """One run of pytest: its exit status, how each test ended, and what it printed."""

    status: int
    findings: Sequence[Finding]
    output: str


def why_not_found(run: SuiteRun, found_by: Sequence[str]) -> str:
    """Return why a run on a mutant does not count as having found the bug; "" when it does.

    Everyone who is said to find it must have failed by an assertion of its own. A module that cannot be imported, or a
    fixture that breaks, is a bug that anybody finds: it proves nothing about the tests.
    """
    if run.status != pytest.ExitCode.TESTS_FAILED:
        return f"pytest ended with status {run.status} instead of {int(pytest.ExitCode.TESTS_FAILED)}"
    for test in found_by:
        of_test = [finding for finding in run.findings if _belongs(finding.test, test)]
        if not any(finding.refuted for finding in of_test):
            ended = ", ".join(sorted({f"{f.outcome} {f.error}".strip() for f in of_test})) or "did not run"
            return f"{test} did not find it: {ended}"
    return ""


def why_not_intact(run: SuiteRun, tests: Sequence[str]) -> str:
    """Return why a run on the copied tree as it is does not show that these tests pass there; "" when it does."""
    if run.status != pytest.ExitCode.OK:
        return f"pytest ended with status {run.status}"
    for test in tests:
        if not any(finding.outcome == "passed" for finding in run.findings if _belongs(finding.test, test)):
            return f"{test} did not pass"
    return ""


def _belongs(node: str, test: str) -> bool:
    return node == test or node.startswith(test + "[")
