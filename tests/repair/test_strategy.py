"""What a strategy says, in the API's words and with its defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.repair.objects import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, WORKLOADS
from waypost.repair.strategy import at_once


def rolling(**told: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": told}


@pytest.mark.parametrize(
    ("kind", "strategy", "replicas", "expected"),
    [
        (DEPLOYMENT, None, 3, 0),
        (DEPLOYMENT, None, 8, 2),
        (DEPLOYMENT, {"type": "Recreate"}, 3, 3),
        (DEPLOYMENT, rolling(maxUnavailable="50%", maxSurge=1), 5, 2),
        (DEPLOYMENT, rolling(maxUnavailable="100%", maxSurge=0), 5, 5),
        (DEPLOYMENT, rolling(maxUnavailable=0, maxSurge=0), 5, 1),
        (DEPLOYMENT, rolling(maxUnavailable="10%", maxSurge="0%"), 5, 1),
        (DEPLOYMENT, rolling(maxUnavailable=9, maxSurge=0), 5, 5),
        (DEPLOYMENT, rolling(maxUnavailable="many"), 5, 5),
        (DEPLOYMENT, {"type": "Sideways"}, 5, 5),
        (STATEFUL_SET, None, 3, 1),
        (STATEFUL_SET, rolling(partition=0), 3, 1),
        (STATEFUL_SET, rolling(maxUnavailable="50%"), 3, 2),
        (STATEFUL_SET, {"type": "OnDelete"}, 3, 0),
        (DAEMON_SET, None, 3, 1),
        (DAEMON_SET, rolling(maxUnavailable="10%", maxSurge=0), 25, 3),
        (DAEMON_SET, rolling(maxUnavailable=0, maxSurge=1), 25, 0),
        (DAEMON_SET, {"type": "OnDelete"}, 3, 0),
        (DEPLOYMENT, None, 0, 0),
    ],
)
def test_how_many_go_at_once(kind: str, strategy: Any, replicas: int, expected: int) -> None:
    spec = {"strategy" if kind == DEPLOYMENT else "updateStrategy": strategy}

    assert at_once(kind, spec, replicas) == expected


NUMBERS = st.one_of(st.none(), st.integers(-5, 300), st.integers(-5, 300).map("{}%".format), st.text(max_size=3))


@given(st.sampled_from(WORKLOADS), NUMBERS, NUMBERS, st.integers(0, 200))
def test_it_is_a_number_of_its_pods_whatever_is_written(kind: str, most: Any, surge: Any, replicas: int) -> None:
    strategy = rolling(maxUnavailable=most, maxSurge=surge)

    assert 0 <= at_once(kind, {"strategy": strategy, "updateStrategy": strategy}, replicas) <= replicas
