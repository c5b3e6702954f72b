"""The list of known bugs fits the code and the suite: seconds after a change it is known which mutant has to follow."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.known_bugs import KNOWN_BUGS
from tests.mutants.mutant import Mutant, NoLongerFits
from tests.mutants.trees import ROOT

each_bug = pytest.mark.parametrize("bug", KNOWN_BUGS, ids=lambda bug: bug.name)


@each_bug
def test_a_mutant_fits_its_file_once_and_changes_it(bug: Mutant) -> None:
    source = (ROOT / bug.file).read_text(encoding="utf-8")

    mutated = bug.of(source)

    assert mutated != source
    if bug.file.endswith(".py"):
        assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source)), "only layout or comments differ"


@each_bug
def test_a_bug_is_found_by_tests_of_the_suite(bug: Mutant) -> None:
    assert bug.found_by
    assert not bug.file.startswith("tests/"), "a bug of the product, not of its tests"
    for test in bug.found_by:
        path, *names = test.partition("[")[0].split("::")
        assert not path.startswith("tests/mutants/"), "the suite has to find it, not this directory"
        assert names, f"{test} is a whole file; name the test"
        body: list[ast.stmt] = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        for name in names:
            found = [node for node in body if getattr(node, "name", None) == name]
            assert len(found) == 1, f"there is no {name} in {path}"
            body = found[0].body  # type: ignore[attr-defined]


def test_bugs_have_names_of_their_own() -> None:
    names = [bug.name for bug in KNOWN_BUGS]

    assert len(set(names)) == len(names)
    assert len(names) >= 10


A_BUG = Mutant(name="a-bug", harm="", file="a.py", text="x > 1", instead="x > 2", found_by=())


@pytest.mark.parametrize("source", ["", "y = x > 1 or x > 1\n"])
def test_a_mutant_that_does_not_occur_exactly_once_says_so(source: str) -> None:
    with pytest.raises(NoLongerFits, match=r"'a-bug' no longer fits, adapt it: a\.py"):
        A_BUG.of(source)
