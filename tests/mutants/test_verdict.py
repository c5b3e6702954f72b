"""Only a test that fails by its own assertion has found a bug."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.findings import Finding, refutes
from tests.mutants.trees import WAIT_S, copy_tree, run_tests
from tests.mutants.verdict import SuiteRun, why_not_found, why_not_intact

TEST = "tests/a.py::test_a"
PASSED = Finding(f"{TEST}[1]", "passed", False, "")
REFUTED = Finding(f"{TEST}[2]", "failed", True, "AssertionError: assert 1 == 2")
BROKEN = Finding(f"{TEST}[2]", "failed", False, "NameError: name 'x' is not defined")
NO_FIXTURE = Finding(TEST, "failed in setup", False, "ImportError: no module")


def a_run(status: int, *findings: Finding) -> SuiteRun:
    return SuiteRun(status=status, findings=findings, output="")


def test_a_bug_is_found_when_one_example_of_each_test_fails() -> None:
    other = Finding("tests/b.py::test_b", "failed", True, "AssertionError: assert not 1")

    assert why_not_found(a_run(1, PASSED, REFUTED), [TEST]) == ""
    assert why_not_found(a_run(1, PASSED, REFUTED, other), [TEST, "tests/b.py::test_b"]) == ""


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (a_run(0, PASSED), "pytest ended with status 0 instead of 1"),
        (a_run(2), "pytest ended with status 2 instead of 1"),
        (a_run(4), "pytest ended with status 4 instead of 1"),
        (a_run(-9, REFUTED), "pytest ended with status -9 instead of 1"),
        (a_run(1, PASSED, BROKEN), f"{TEST} did not find it: failed NameError: name 'x' is not defined, passed"),
        (a_run(1, NO_FIXTURE), f"{TEST} did not find it: failed in setup ImportError: no module"),
        (a_run(1, Finding("tests/a.py::test_ab", "failed", True, "")), f"{TEST} did not find it: did not run"),
    ],
)
def test_whatever_else_went_wrong_found_nothing(run: SuiteRun, why: str) -> None:
    assert why_not_found(run, [TEST]) == why


def test_every_test_that_is_named_has_to_find_it() -> None:
    assert "tests/b.py::test_b did not find it" in why_not_found(a_run(1, REFUTED), [TEST, "tests/b.py::test_b"])


def test_an_intact_tree_is_one_in_which_every_test_passed() -> None:
    skipped = Finding("tests/b.py::test_b", "skipped", False, "Skipped: no server")

    assert why_not_intact(a_run(0, PASSED), [TEST]) == ""
    assert why_not_intact(a_run(1, PASSED, REFUTED), [TEST]) == "pytest ended with status 1"
    assert why_not_intact(a_run(0, PASSED, skipped), [TEST, "tests/b.py::test_b"]) == "tests/b.py::test_b did not pass"


def test_an_assertion_in_the_code_under_test_refutes_nothing() -> None:
    code: dict[str, object] = {}
    exec(compile("def f():\n    assert False\n", "/somewhere/waypost/model/x.py", "exec"), code)

    with pytest.raises(AssertionError) as caught:
        code["f"]()  # type: ignore[operator]

    assert not refutes(caught.value)


SUITE = """
import pytest
from hypothesis import given, strategies as st

def test_passes(): pass
def test_fails(): assert 1 == 2
@given(st.integers())
def test_is_falsified(n): assert n < 100
@given(st.integers())
def test_is_falsified_twice(n):
    assert n < 100
    assert n > -100
def test_raises(): raise KeyError("x")
def test_cannot_begin(nothing_of_this_name): pass
def test_is_skipped(): pytest.skip("no server")
"""


@pytest.mark.mutants
@pytest.mark.timeout(WAIT_S)
def test_a_real_run_is_read_as_it_ended(tmp_path: Path) -> None:
    """In a tree with this directory's plugin, as `run_tests` expects it."""
    tree = tmp_path / "tree"
    copy_tree(tree)
    (tree / "tests" / "test_invented.py").write_text(SUITE)

    run = run_tests(tree, ["tests/test_invented.py"], tmp_path / "run")

    assert run.status == 1, run.output
    assert {f.test.partition("::")[2].removeprefix("test_"): (f.outcome, f.refuted) for f in run.findings} == {
        "passes": ("passed", False),
        "fails": ("failed", True),
        "is_falsified": ("failed", True),
        "is_falsified_twice": ("failed", True),
        "raises": ("failed", False),
        "cannot_begin": ("failed in setup", False),
        "is_skipped": ("skipped", False),
    }
