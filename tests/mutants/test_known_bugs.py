"""The suite proves itself: known bugs are switched on one at a time, and each is found.

Each run takes some seconds, nearly all of it for starting pytest; hence the mark. That the list itself is right is told
by the fast tests beside this file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.known_bugs import KNOWN_BUGS
from tests.mutants.mutant import Mutant
from tests.mutants.trees import WAIT_S, copy_tree, link_tree, run_tests
from tests.mutants.verdict import why_not_found, why_not_intact

pytestmark = [pytest.mark.mutants, pytest.mark.timeout(WAIT_S)]


@pytest.fixture(scope="module")
def intact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, in which the tests of all bugs of this session pass: else it would prove nothing that they
    fail with a bug."""
    base = tmp_path_factory.mktemp("intact")
    tree = base / "tree"
    copy_tree(tree)
    bugs = [item.callspec.params["bug"] for item in request.session.items if _is_about_a_bug(item)]
    tests = list(dict.fromkeys(test for bug in bugs for test in bug.found_by))
    run = run_tests(tree, tests, base / "run")
    why = why_not_intact(run, tests)
    assert not why, f"without any bug: {why}\n{run.output[-4000:]}"
    return tree


def _is_about_a_bug(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.function is test_a_known_bug_is_found


@pytest.mark.parametrize("bug", KNOWN_BUGS, ids=lambda bug: bug.name)
def test_a_known_bug_is_found(bug: Mutant, intact: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    link_tree(intact, tree)
    bug.apply(tree)

    run = run_tests(tree, bug.found_by, tmp_path / "run")

    why = why_not_found(run, bug.found_by)
    assert not why, f"{bug.name} ({bug.harm}) is not found: {why}\n{run.output[-4000:]}"
