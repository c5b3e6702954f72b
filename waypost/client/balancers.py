"""Which instance gets the next request.

    Random             by weight; the default: needs no state, and a thousand callers do not fall into step
    RoundRobin         in turn, weights ignored
    SmoothWeighted     in turn by weight, spread evenly (nginx's algorithm)
    LeastConnection    the one with the fewest calls under way per weight
    PowerOfTwo         the better of two at random: nearly as good as LeastConnection, and no herd on a newcomer
    ConsistentHash     the same instance for the same key, while it is there
    ZoneAware          any of these, the own zone first

Weight 0 asks for no new requests, so such an instance is picked only where nothing else is left; see
`waypost.client.pick`. Balancers of one service are shared by threads; what they are given is a tuple that is replaced
and never modified, so what can be computed once per table is kept for that very tuple.
"""

from __future__ import annotations

import bisect
import itertools
import random
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from hashlib import blake2b
from typing import Generic, TypeVar

from waypost.client.registry.instance import Instance

T = TypeVar("T")
NOBODY: Set[str] = frozenset()

POINTS = 100
"""Points on the ring for an instance of weight 100: shares of ten instances are then within some 20 % of each other."""


class Balancer(ABC):
    """See the module."""

    def __init__(self) -> None:
        self._weighty: PerTable[tuple[Instance, ...]] = PerTable(_some_weigh)

    def pick(
        self, instances: tuple[Instance, ...], *, without: Set[str] = NOBODY, key: str | None = None
    ) -> Instance | None:
        """Return an instance that is not in `without`; None when there is none. `key` matters to ConsistentHash."""
        left = tuple(each for each in instances if each.id not in without) if without else instances
        candidates = self._weighty.of(left)
        if len(candidates) <= 1:
            return candidates[0] if candidates else None
        return self._choose(candidates, key)

    @contextmanager
    def under_way(self, instance: Instance) -> Iterator[None]:
        """Tell that a call of the instance is under way, for balancers that count them."""
        yield

    @abstractmethod
    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        """Return one of two or more candidates."""


class Random(Balancer):
    """See the module."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__()
        self._chance = chance or random.Random()
        self._sums: PerTable[list[int]] = PerTable(lambda them: list(itertools.accumulate(map(_share, them))))

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        sums = self._sums.of(candidates)
        return candidates[bisect.bisect(sums, self._chance.random() * sums[-1], 0, len(sums) - 1)]


class RoundRobin(Balancer):
    """See the module. Begins anywhere, or all callers would begin with the same one."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__()
        self._turns = itertools.count((chance or random.Random()).randrange(1 << 16))

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        return candidates[next(self._turns) % len(candidates)]


class SmoothWeighted(Balancer):
    """See the module: each turn everybody earns his weight, the richest is chosen and pays the sum of all."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._earned: dict[str, int] = {}

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        with self._lock:
            earned = {each.id: self._earned.get(each.id, 0) + _share(each) for each in candidates}
            chosen = max(candidates, key=lambda each: earned[each.id])
            earned[chosen.id] -= sum(map(_share, candidates))
            self._earned = earned
        return chosen


class _Counting(Balancer):
    """Counts calls under way."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__()
        self._chance = chance or random.Random()
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()

    @contextmanager
    def under_way(self, instance: Instance) -> Iterator[None]:
        with self._lock:
            self._calls[instance.id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[instance.id] -= 1
                if not self._calls[instance.id]:
                    del self._calls[instance.id]

    def _load(self, instance: Instance) -> float:
        return (self._calls[instance.id] + 1) / _share(instance)


class LeastConnection(_Counting):
    """See the module; chance decides between equals."""

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        with self._lock:
            least = min(map(self._load, candidates))
            return self._chance.choice([each for each in candidates if self._load(each) == least])


class PowerOfTwo(_Counting):
    """See the module."""

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        first, second = self._chance.sample(candidates, 2)
        with self._lock:
            return first if self._load(first) <= self._load(second) else second


class ConsistentHash(Balancer):
    """See the module. When an instance goes, only its keys move. Without a key it is chance."""

    def __init__(self, chance: random.Random | None = None) -> None:
        super().__init__()
        self._chance = chance or random.Random()
        self._rings: PerTable[list[tuple[int, int]]] = PerTable(_ring)

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        if key is None:
            return self._chance.choice(candidates)
        ring = self._rings.of(candidates)
        place = bisect.bisect(ring, (_hash(key), -1)) % len(ring)
        return candidates[ring[place][1]]


class ZoneAware(Balancer):
    """Another balancer among the instances of one's own zone, as far as they can carry it.

    With z zones, a zone that has less than 1/z of all weight keeps only that part of its callers' requests: the rest
    goes to the other zones, or a zone that has lost most of its instances would drown the ones left.
    """

    def __init__(self, zone: str, inner: Balancer | None = None, chance: random.Random | None = None) -> None:
        super().__init__()
        self._zone = zone
        self._inner = inner or Random()
        self._chance = chance or random.Random()
        self._parts: PerTable[tuple[tuple[Instance, ...], tuple[Instance, ...], float]] = PerTable(self._split)

    @contextmanager
    def under_way(self, instance: Instance) -> Iterator[None]:
        with self._inner.under_way(instance):
            yield

    def pick(
        self, instances: tuple[Instance, ...], *, without: Set[str] = NOBODY, key: str | None = None
    ) -> Instance | None:
        """As `Balancer.pick`. How much a zone can carry is reckoned from all of its instances: one that has just failed
        a call does not send the repeat far away."""
        for those in (self._weighty.of(instances), instances):
            near, far, part = self._parts.of(those)
            first, then = (near, far) if self._chance.random() < part else (far, near)
            chosen = self._inner.pick(first, without=without, key=key) or self._inner.pick(
                then, without=without, key=key
            )
            if chosen is not None:
                return chosen
        return None

    def _choose(self, candidates: tuple[Instance, ...], key: str | None) -> Instance:
        raise AssertionError("pick decides")

    def _split(self, instances: tuple[Instance, ...]) -> tuple[tuple[Instance, ...], tuple[Instance, ...], float]:
        near = tuple(each for each in instances if each.zone == self._zone)
        far = tuple(each for each in instances if each.zone != self._zone)
        if not near or not far:
            return near, far, 1.0
        fair = sum(map(_share, instances)) / len({each.zone for each in instances})
        return near, far, min(1.0, sum(map(_share, near)) / fair)


class PerTable(Generic[T]):
    """Something computed from a tuple of instances, kept for as long as it is asked about that very tuple."""

    def __init__(self, compute: Callable[[tuple[Instance, ...]], T]) -> None:
        self._compute = compute
        self._kept: tuple[tuple[Instance, ...], T] | None = None

    def of(self, instances: tuple[Instance, ...]) -> T:
        """Return it. One that is kept costs a comparison of identities."""
        kept = self._kept
        if kept is None or kept[0] is not instances:
            kept = self._kept = instances, self._compute(instances)
        return kept[1]


def _some_weigh(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """Return those with a weight, or all when none has one; the same tuple when these are all."""
    weighty = tuple(each for each in instances if each.weight)
    return instances if not weighty or len(weighty) == len(instances) else weighty


def _share(instance: Instance) -> int:
    # Among instances that all have weight 0, everybody counts alike.
    return instance.weight or 1


def _ring(instances: Sequence[Instance]) -> list[tuple[int, int]]:
    """Return (place on the ring, index), in order: as many points per instance as its weight buys."""
    return sorted(
        (_hash(f"{instance.id}#{point}"), index)
        for index, instance in enumerate(instances)
        for point in range(max(1, _share(instance) * POINTS // 100))
    )


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
