"""How long a local lookup takes while the registry changes: the table, and the table with a choice from it.

    .venv/bin/python -m bench.local_lookup [lookups] [instances]

One service, its table replaced all the time by another thread; percentiles over single calls, timer included.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from waypost.client.balancers import (
    Balancer,
    ConsistentHash,
    LeastConnection,
    PowerOfTwo,
    Random,
    RoundRobin,
    SmoothWeighted,
    ZoneAware,
)
from waypost.client.cache import ServiceCache
from waypost.client.registry.instance import Instance
from waypost.client.registry.memory import MemoryRegistry

CHANGES_PER_S = 100


def measure(call: Callable[[], object], times: int) -> list[float]:
    """Return the duration of each call in microseconds, shortest first."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begun) / 1_000)
    return sorted(taken)


def main(lookups: int = 200_000, instances: int = 100) -> None:
    registry = MemoryRegistry()
    one = Instance(id="i", name="svc", address="10.0.0.1", port=80, zone="a")
    for number in range(instances):
        registry.register(replace(one, id=f"i{number}", zone="abc"[number % 3]))
    cache = ServiceCache(registry)
    cache.follow("svc", wait=timedelta(seconds=10))
    done = threading.Event()

    def change() -> None:
        weight = 100
        while not done.wait(1 / CHANGES_PER_S):
            weight = 201 - weight
            registry.update("svc", "i0", weight=weight)

    changing = threading.Thread(target=change)
    changing.start()
    balancers: dict[str, Balancer] = {
        "random": Random(), "round robin": RoundRobin(), "smooth weighted": SmoothWeighted(),
        "least connection": LeastConnection(), "power of two": PowerOfTwo(), "consistent hash": ConsistentHash(),
        "zone aware, random": ZoneAware("a"),
    }  # fmt: skip
    calls: dict[str, Callable[[], object]] = {"lookup": lambda: cache.lookup("svc")}
    for name, balancer in balancers.items():
        calls[f"lookup, {name}"] = lambda b=balancer: b.pick(cache.lookup("svc").instances, key="k")  # type: ignore[misc]
    print(f"{lookups} calls each, {instances} instances, {CHANGES_PER_S} changes/s; microseconds")
    for name, call in calls.items():
        taken = measure(call, lookups)
        p50, p99, p999 = (taken[int(len(taken) * part)] for part in (0.5, 0.99, 0.999))
        print(f"{name:28} P50 {p50:8.2f}  P99 {p99:8.2f}  P99.9 {p999:8.2f}  max {taken[-1]:10.1f}")
    done.set()
    changing.join()
    cache.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
