"""The documents under test and the pieces that are checked: fences, commands, links, headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

_FENCE = re.compile(r"^( *)```(\S*) ?([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Fence:
    """One code block: language, what follows it on the opening line, and the text without indentation."""

    page: Path
    language: str
    tag: str
    text: str


def fences(page: Path) -> list[Fence]:
    found = []
    for indent, language, tag, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        found.append(Fence(page, language, tag.strip(), "\n".join(lines)))
    return found


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[tuple[int, str]]:
    return [(len(marks), text) for marks, text in _HEADING.findall(prose(page))]


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def anchor(heading: str) -> str:
    """The name GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def shell_lines(page: Path) -> Iterator[str]:
    """The commands of a page's shell blocks, with continued lines joined and without comments."""
    for fence in fences(page):
        if fence.language == "bash":
            joined = fence.text.replace("\\\n", " ")
            yield from (line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#"))


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Every `waypost …` a page shows, as words: in shell blocks, and between backticks of the prose."""
    texts = [*shell_lines(page), *re.findall(r"`((?:\.venv/bin/)?waypost [a-z][^`]*)`", prose(page))]
    for text in texts:
        for found in re.finditer(r"(?:^|\$\(|[\s/])waypost ((?:[a-z-]).*?)(?=\)|\||;|$)", text):
            yield shlex.split(found.group(1), comments=True)
