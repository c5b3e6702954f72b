"""Picking an endpoint: shares follow the weights, and a failover goes elsewhere or nowhere."""

from __future__ import annotations

import random
from collections import Counter

from waypost.client.pick import pick
from waypost.wire.endpoint import Endpoint


def endpoints(**weights: int) -> dict[str, Endpoint]:
    return {name: Endpoint(address="127.0.0.1", port=1, weight=weight) for name, weight in weights.items()}


def test_shares_follow_the_weights() -> None:
    chance = random.Random(0)

    picked = Counter(pick(endpoints(a=300, b=100), chance) for _ in range(4_000))

    assert picked.keys() == {"a", "b"}
    assert 2_800 < picked["a"] < 3_200


def test_an_instance_of_weight_zero_is_not_picked_while_there_are_others() -> None:
    chance = random.Random(0)

    assert {pick(endpoints(a=0, b=1, c=5), chance) for _ in range(200)} == {"b", "c"}


def test_weights_of_zero_only_are_taken_as_equal() -> None:
    chance = random.Random(0)

    assert {pick(endpoints(a=0, b=0), chance) for _ in range(50)} == {"a", "b"}


def test_a_failover_goes_elsewhere_or_nowhere() -> None:
    chance = random.Random(0)

    assert {pick(endpoints(a=1, b=1), chance, without={"a"}) for _ in range(50)} == {"b"}
    assert pick(endpoints(a=1, b=1), chance, without={"a", "b"}) is None
    assert pick({}, chance) is None


def test_a_failover_rather_takes_an_endpoint_of_weight_zero_than_none() -> None:
    assert pick(endpoints(a=100, b=0), random.Random(0), without={"a"}) == "b"


def test_the_order_of_a_table_does_not_decide() -> None:
    forward, backward = endpoints(a=1, b=2, c=3), endpoints(c=3, b=2, a=1)

    assert [pick(forward, random.Random(seed)) for seed in range(50)] == [
        pick(backward, random.Random(seed)) for seed in range(50)
    ]
