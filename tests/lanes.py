"""Which tests one process runs together, when `make test` has several processes (pytest-xdist).

Tests that share expensive servers are a lane: one process runs all of them, in their order. The long lanes begin first,
so that the short ones fill the rest evenly. Nothing else may depend on which process runs a test.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

SERVERS = ("stack", "compose", "flink", "kubernetes")
"""Lanes with servers of their own, in the order in which they begin: a fixture, a marker or a folder of this name."""
SLOW = ("e2e", "mutants")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    if not hasattr(config, "workerinput"):  # one process runs everything
        return (yield)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_lane(item)))
    result = yield
    items.sort(key=_turn)
    return result


def _lane(item: pytest.Item) -> str:
    known = {*getattr(item, "fixturenames", ()), *(mark.name for mark in item.iter_markers()), *_folders(item.path)}
    return next((name for name in SERVERS if name in known), item.nodeid.partition("::")[0])


def _folders(path: Path) -> tuple[str, ...]:
    return path.relative_to(Path(__file__).parent).parts[:-1]


def _turn(item: pytest.Item) -> int:
    [lane] = (mark.args[0] for mark in item.iter_markers("xdist_group"))
    if lane in SERVERS:
        return SERVERS.index(lane)
    return len(SERVERS) + (not any(item.get_closest_marker(marker) for marker in SLOW))
