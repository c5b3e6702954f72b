"""Links of the documents lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, READMES, ROOT, anchor, fences, headings, links


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        if fragment:
            assert fragment in {anchor(text) for _, text in headings(target)}, f"{link} names no heading"


def test_every_document_is_reachable_from_the_readme() -> None:
    reached = {READMES[0]}
    waiting = [READMES[0]]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if "://" not in link and target.suffix == ".md" and target not in reached:
                reached.add(target)
                waiting.append(target)

    # A changelog and the like are found by their names.
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= reached


def test_both_readmes_have_the_same_structure() -> None:
    english, chinese = READMES

    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert [f.language for f in fences(english)] == [f.language for f in fences(chinese)]
    assert chinese.name in links(english)
    assert english.name in links(chinese)


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = (
        [(f.language, _without_comments(f.text)) for f in fences(page) if f.language != "text"] for page in READMES
    )

    assert english == chinese


def test_both_readmes_leave_room_for_measured_figures() -> None:
    for page in READMES:
        text = page.read_text(encoding="utf-8")
        assert text.index("<!-- demo-output -->") < text.index("<!-- /demo-output -->")


def _without_comments(text: str) -> list[str]:
    return [line.partition("  #")[0].rstrip() for line in text.splitlines() if not line.lstrip().startswith("#")]
