"""What all tests of the route fold share."""

from __future__ import annotations

import random
from zlib import crc32

import pytest

from jobs.operators import routes
from tests.jobs.world import World


@pytest.fixture(autouse=True)
def same_spread_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's hash of a text, over which audits are spread, differs from run to run; so does chance."""
    monkeypatch.setattr(routes, "random", random.Random(1))
    monkeypatch.setattr(routes, "hash", lambda text: crc32(text.encode()), raising=False)


@pytest.fixture
def world() -> World:
    return World()
