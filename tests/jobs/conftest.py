"""What all tests of the route fold share."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from zlib import crc32

import pytest

from jobs.operators import collector, routes
from tests.jobs.world import World


@pytest.fixture(autouse=True)
def same_spread_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's hash of a text, over which audits are spread, differs from run to run; so does chance."""
    monkeypatch.setattr(routes, "random", random.Random(1))
    monkeypatch.setattr(routes, "hash", lambda text: crc32(text.encode()), raising=False)


@pytest.fixture(autouse=True)
def collected_as_before() -> Iterator[None]:
    """A fold spares what stays from the garbage collector (`spare_what_stays`), for good: its process has no other use.
    Here it would spare all that tests leave behind, and what hypothesis wants to see collected."""
    yield
    if collector._freeze in gc.callbacks:
        gc.callbacks.remove(collector._freeze)
    gc.unfreeze()


@pytest.fixture
def world() -> World:
    return World()
