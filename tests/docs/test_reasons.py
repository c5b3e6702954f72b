"""The table of dead-letter reasons is complete, and has none that no code gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

# What can refuse a record of an input topic.
SOURCES = [
    *(ROOT / "waypost" / "wire" / f"{name}.py" for name in (
        "addresses", "alerts", "attributes", "beats", "config", "fields", "isolation", "names", "registry",
        "repair_action", "repair_config", "repair_results", "tick",
    )),
    *(ROOT / "waypost" / "model" / f"{name}.py" for name in ("leases", "service")),
    ROOT / "waypost" / "bridge" / "webhook.py",
    *sorted((ROOT / "jobs" / "operators").glob("*.py")),
]  # fmt: skip

_SLUG = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*\Z")


def _texts(nodes: list[ast.expr]) -> list[str]:
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _reasons(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name == "DecodeError":
            yield from _texts(node.args[:1])
        elif name == "bounded":
            yield from _texts(node.args[-1:])
        elif name == "required":
            yield from (f"{field.replace('_', '-')}-missing" for field in _texts(node.args[1:]))
        elif name == "read_word":
            for field in _texts(node.args[2:]):
                yield from (f"{field}-missing", f"unknown-{field}")
        elif name == "Reject" or (name == "Verdict" and any(k.arg == "dead" for k in node.keywords)):
            yield from _texts(node.args[1:])
        elif name == "_kubernetes_name":
            yield from _texts(node.args[2:])
        elif name == "dead_letter":
            yield from _texts(node.args[3:4])


def test_the_reasons_on_the_topics_page_are_those_of_the_code() -> None:
    given = {reason for source in SOURCES for reason in _reasons(source)}
    assert all(_SLUG.match(reason) for reason in given)

    page = (ROOT / "docs" / "topics.md").read_text(encoding="utf-8")
    tables = page[page.index("### Reasons") :]
    rows = re.findall(r"^\| (`[^|]*) \|", tables, re.MULTILINE)
    listed = {reason for row in rows for reason in re.findall(r"`([a-z0-9-]+)`", row)}

    assert listed == given
