"""Each fault once, on the real servers, while a canary lives, dies and is called through a gateway."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from random import Random

import pytest

from tests.e2e.chaos.arena import Arena
from tests.e2e.chaos.faults import SHORT, Fault
from waypost.local.state import Stack

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    # kafka-python forgets to close the sockets of attempts to reach a broker that is away. They are collected here, so
    # that no later test is blamed for them.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def arena(stack: Stack) -> Iterator[Arena]:
    with Arena(stack.state_dir, Random(20261122)) as arena:
        yield arena
    gc.collect()


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.__name__)
def test_nobody_is_told_anything_wrong_and_every_table_ends_as_the_log_means(arena: Arena, fault: Fault) -> None:
    outcome = arena.strike(fault)

    assert outcome.calls > 0
    print(outcome)
    gc.collect()
