"""Which tests run beside each other in `make test`, where pytest-xdist has two processes.

One process has everything with a JVM: two such clusters at once would starve each other on two cores. The other has
the tests of Kubernetes, which mostly wait, the mutants, and all that is fast. Servers of a session are started once in
each process, because what shares them stays together: a lane is run by one process, in order. The containers of
tests/compose have the machine for themselves, before.
"""

from __future__ import annotations

from typing import Any

import pytest

LANES = {
    # A stack of its own, which has to be over before that of the others is up.
    "tests/kubernetes/test_repair_stack.py": "clusters",
    "tests/e2e/": "clusters",
    "tests/flink/": "clusters",
    "tests/kubernetes/": "kubernetes",
}
"""Beginnings of files whose tests share a lane, in the order in which they run; the first that fits counts. Any other
file is a lane of its own."""


def lane(nodeid: str) -> str:
    return [*LANES.values(), nodeid.partition("::")[0]][_turn(nodeid)]


def _turn(nodeid: str) -> int:
    return next((turn for turn, beginning in enumerate(LANES) if nodeid.startswith(beginning)), len(LANES))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByLane(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid)

    return ByLane(config, log)
