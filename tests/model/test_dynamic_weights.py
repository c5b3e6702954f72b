"""Weights by load: bounded, quiet, and at rest in the end, in a loop where load follows the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW
from waypost.model.dynamic_weights import FORGET_AFTER, IDLE_MILLI, LEAST, WHOLE, LoadWeight, adjust, follows_load
from waypost.model.stamp import Stamp

G = Stamp(1)
LOADS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 10**12), max_size=5)


def fleet(n: int) -> dict[str, LoadWeight]:
    return {f"i-{k}": LoadWeight(G) for k in range(n)}


@dataclass
class Loop:
    """A service under load: requests are shared by the weights that readers have, and cpu is what they cost an
    instance of its capacity. What is measured in a window is the work of `delay` windows before."""

    capacity: list[float]
    delay: int = 1
    noise: float = 0.0
    demand: float = 0.5
    random: Random = field(default_factory=lambda: Random(1))
    weights: dict[str, LoadWeight] = field(default_factory=dict)
    shown: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights = fleet(len(self.capacity))
        self.work = self.demand * sum(self.capacity)

    def cpu(self, weights: dict[str, int]) -> dict[str, float]:
        total = sum(weights.values())
        return {i: self.work * weights[i] / total / c for i, c in zip(weights, self.capacity, strict=True)}

    def run(self, windows: int) -> None:
        for _ in range(windows):
            self.shown.append({i: w.weigh(100) for i, w in self.weights.items()})
            cpu = self.cpu(self.shown[max(0, len(self.shown) - 1 - self.delay)])
            measured = {i: int(1000 * c * (1 + self.random.uniform(-self.noise, self.noise))) for i, c in cpu.items()}
            self.weights.update(adjust(self.weights, measured, len(self.shown)))

    def changes(self, last: int) -> int:
        """In how many of the last windows readers saw any weight change."""
        pairs = zip(self.shown[-last - 1 :], self.shown[-last:], strict=False)
        return sum(before != after for before, after in pairs)

    @property
    def hottest(self) -> float:
        """The highest load against the mean, of those whose share could still be cut."""
        cpu = self.cpu(self.shown[-1])
        mean = sum(cpu.values()) / len(cpu)
        return max((c / mean for i, c in cpu.items() if self.shown[-1][i] > LEAST // 10), default=1.0)


CAPACITIES = st.lists(st.floats(0.3, 1.0), min_size=2, max_size=20)


@LAW
@given(CAPACITIES, st.integers(0, 2))
def test_weights_come_to_rest_and_load_is_shared(capacity: list[float], delay: int) -> None:
    loop = Loop(capacity, delay)

    loop.run(90)

    assert loop.changes(last=30) == 0
    assert loop.hottest <= 1.3


@LAW
@given(CAPACITIES, st.integers(0, 2), st.integers(0, 99))
def test_noise_seldom_moves_a_settled_weight_and_never_to_and_fro(capacity: list[float], delay: int, seed: int) -> None:
    """With its cpu a fifteenth up and down, a weight changes in a tenth of the windows at most, and does not swing:
    what noise sets off is one way to a new rest."""
    loop = Loop(capacity, delay, noise=0.07, random=Random(seed))
    loop.run(60)
    settled = len(loop.shown)

    loop.run(60)

    later = loop.shown[settled - 1 :]
    steps = {i: [b[i] - a[i] for a, b in pairwise(later) if b[i] != a[i]] for i in later[0]}
    assert sum(map(len, steps.values())) <= 6 * len(capacity)
    assert all(sum(a * b < 0 for a, b in pairwise(taken)) <= 1 for taken in steps.values())
    assert loop.hottest <= 1.35


@LAW
@given(st.integers(2, 12), st.integers(0, 2), st.floats(0.2, 0.9))
def test_an_instance_that_becomes_slower_gets_less_and_gets_it_back(n: int, delay: int, factor: float) -> None:
    loop = Loop([1.0] * n, delay)
    loop.run(10)
    assert loop.shown[-1] == dict.fromkeys(loop.weights, 100)

    loop.capacity[0] = factor
    loop.run(80)
    slow = loop.shown[-1]["i-0"]
    assert loop.changes(last=20) == 0
    assert loop.hottest <= 1.3

    loop.capacity[0] = 1.0
    loop.run(120)
    assert loop.shown[-1]["i-0"] >= slow
    assert loop.changes(last=20) == 0
    assert loop.hottest <= 1.3


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_equal_instances_keep_their_weights_whatever_the_load(delay: int) -> None:
    loop = Loop([1.0] * 5, delay, noise=0.1)

    for work in (0.1, 3.0, 0.5, 4.9):
        loop.work = work
        loop.run(30)

    assert loop.changes(last=120) == 0


@LAW
@given(st.lists(LOADS, max_size=30), st.integers(0, 65_535))
def test_whatever_is_measured_a_weight_stays_within_its_bounds(loads: list[dict[str, int]], declared: int) -> None:
    weights = {i: LoadWeight(G) for i in "abcde"}

    for window, cpu in enumerate(loads, start=1):
        weights.update(adjust(weights, cpu, window))

        for weight in weights.values():
            assert LEAST <= weight.share <= WHOLE
            assert LEAST <= weight.published <= WHOLE
            effective = weight.weigh(declared)
            assert (effective == 0) == (declared == 0)
            assert effective <= declared
            assert effective >= declared * LEAST // WHOLE


def test_one_absurd_reading_moves_no_weight_by_more_than_a_fifth() -> None:
    after = adjust(fleet(3), {"i-0": 10**12, "i-1": 100, "i-2": 100}, 1)

    assert min(weight.share for weight in after.values()) >= WHOLE * 4 // 5


def test_an_instance_that_says_no_cpu_keeps_its_declared_weight() -> None:
    weights = fleet(3)

    for window in range(1, 30):
        weights.update(adjust(weights, {"i-0": 900, "i-1": 100}, window))

    assert weights["i-0"].weigh(100) < 100
    assert weights["i-2"].weigh(100) == 100


def test_an_instance_that_stops_saying_its_cpu_has_its_declared_weight_again_after_a_while() -> None:
    weights = fleet(3)
    for window in range(1, 30):
        weights.update(adjust(weights, {"i-0": 900, "i-1": 100, "i-2": 100}, window))
    low = weights["i-0"].weigh(100)

    seen = []
    for window in range(30, 30 + FORGET_AFTER):
        weights.update(adjust(weights, {"i-1": 100, "i-2": 100}, window))
        seen.append(weights["i-0"].weigh(100))

    assert seen == [low] * (FORGET_AFTER - 1) + [100]


@pytest.mark.parametrize(
    "cpu", [{}, {"i-0": 900}, {"i-0": IDLE_MILLI - 1, "i-1": 0, "i-2": 1}], ids=["none", "one", "idle"]
)
def test_nothing_to_compare_moves_nothing(cpu: dict[str, int]) -> None:
    weights = fleet(3)

    for window in range(1, 10):
        weights.update(adjust(weights, cpu, window))

    assert [weight.weigh(100) for weight in weights.values()] == [100, 100, 100]


@LAW
@given(LOADS)
def test_a_window_that_is_told_again_changes_nothing(cpu: dict[str, int]) -> None:
    weights = {i: LoadWeight(G) for i in "abcde"}
    weights.update(adjust(weights, cpu, 7))

    assert adjust(weights, cpu, 7) == {}
    assert adjust(weights, cpu, 6) == {}


@LAW
@given(LOADS, st.permutations("abcde"))
def test_the_order_of_instances_does_not_show(cpu: dict[str, int], order: list[str]) -> None:
    def at_end(names: Callable[[], list[str]]) -> dict[str, LoadWeight]:
        return adjust({i: LoadWeight(G) for i in names()}, cpu, 1)

    assert at_end(lambda: list("abcde")) == at_end(lambda: list(order))


def test_only_who_asked_is_weighed() -> None:
    assert follows_load({"waypost.io/weight": "load"})
    assert not follows_load({"waypost.io/weight": "fixed"})
    assert not follows_load({})
