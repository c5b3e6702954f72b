"""docs/self-healing.md says what the rules say: every reason, every step, and documents that are accepted."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, fences
from waypost.bridge.mapping import DEFAULT_MAPPING, decode_mapping
from waypost.model.refusals import MEANING, WAITS, WHO, Reason
from waypost.model.repair_policy import RepairPolicy
from waypost.model.repair_steps import OF_NODES, OF_SERVICES, PARAMETERS
from waypost.wire.policies import COUNTS, SECONDS, decode_policies

PAGE = ROOT / "docs" / "self-healing.md"
TEXT = PAGE.read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without their heads."""
    part = TEXT[TEXT.index(f"\n## {heading}\n") + 1 :]
    part = part[: part.find("\n## ", 1)] if "\n## " in part[1:] else part
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return [cells for cells in found if cells[0].startswith("`")]


def test_every_refusal_is_explained_as_the_code_explains_it() -> None:
    wanted = [
        [f"`{reason.value}`", MEANING[reason], "yes" if reason in WAITS else "no", WHO.get(reason, "nobody has to")]
        for reason in Reason
    ]

    assert rows("Why nothing was done") == wanted


def test_every_step_and_field_of_a_policy_is_listed() -> None:
    told = rows("Policies")
    names = {name for cells in told for name in re.findall(r"`([a-z_-]+)`", cells[0])}

    assert {do.value for do in OF_SERVICES | OF_NODES} <= names
    assert set(SECONDS) | set(COUNTS) | {"mode", "undo"} <= names
    steps = {cells[0].strip("`"): cells[2] for cells in told if len(cells) == 3}
    for do in OF_SERVICES | OF_NODES:
        assert re.findall(r"`([a-z_]+)`", steps[do.value]) == list(PARAMETERS[do])
    plain = RepairPolicy(name="", types=frozenset(), steps=())
    defaults = {name: value for cells in told for name, value in _defaults(cells)}
    for told_as, (field, _, _) in SECONDS.items():
        assert defaults[told_as] == str(getattr(plain, field) // 1_000)
    assert {name: defaults[name] for name in COUNTS} == {name: str(getattr(plain, name)) for name in COUNTS}


def _defaults(cells: list[str]) -> list[tuple[str, str]]:
    names = re.findall(r"`([a-z_]+)`", cells[0])
    return list(zip(names, cells[1].split(", "), strict=False))


def test_the_documents_shown_are_accepted() -> None:
    shown = [fence.text for fence in fences(PAGE) if fence.language == "yaml"]
    [policies] = [text for text in shown if text.startswith("version:")]
    [mapping] = [text for text in shown if text.startswith("rules:")]

    assert [policy.name for policy in decode_policies(policies).policies] == ["pod-crash", "node-failure"]
    assert decode_mapping(mapping) == DEFAULT_MAPPING
