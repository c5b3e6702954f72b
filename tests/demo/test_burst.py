"""A burst changes something with every event and leaves nobody out at its end."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.demo.burst import ROUND, plan_burst
from waypost.model.events import DEFAULT_WEIGHT, MAX_WEIGHT

TARGETS = [(service, f"{service}-{i}") for service in ("orders", "payments", "users") for i in range(3)]


@given(st.integers(0, 250), st.integers())
def test_every_change_changes_something(count: int, seed: int) -> None:
    weights: dict[str, int] = {}
    out: set[str] = set()

    changes = plan_burst(TARGETS, count, random.Random(seed))

    assert len(changes) == count
    for change in changes:
        assert (change.service, change.instance) in TARGETS
        if change.op == "drain":
            assert change.instance not in out
            out.add(change.instance)
        elif change.op == "register":
            assert change.instance in out
            out.remove(change.instance)
        else:
            assert change.instance not in out
            assert change.weight != weights.get(change.instance, DEFAULT_WEIGHT)
            assert 0 < change.weight <= MAX_WEIGHT
            weights[change.instance] = change.weight
    assert not out


def test_the_services_take_turns() -> None:
    changes = plan_burst(TARGETS, 6 * ROUND, random.Random(0))

    assert Counter(c.service for c in changes if c.op == "drain") == {"orders": 2, "payments": 2, "users": 2}


def test_the_same_seed_gives_the_same_burst() -> None:
    assert plan_burst(TARGETS, 50, random.Random(7)) == plan_burst(TARGETS, 50, random.Random(7))


def test_a_service_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="two targets"):
        plan_burst([*TARGETS, ("lonely", "lonely-1")], 10, random.Random(0))
