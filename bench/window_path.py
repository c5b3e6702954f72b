"""What the window path costs Python, step by step, without Flink around it.

    python -m bench.window_path --instances 100000

Beats of a whole fleet pass the lease folds of all shards for one window, then the windows end bucket by bucket. Printed
per step: how often it is called per window, the longest call, and all calls together as a share of one core, in CPU
time, so that other work on the machine does not count. The same ticks are measured without counting: the difference is
what a beat costs more. What Flink's own calls around these cost is not in it, nor is Python's garbage collector.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

from jobs.operators.health_window import HealthyEndpoints
from waypost.model.events import Attributes, InstanceEvent, Op
from waypost.model.health_window import HealthyEndpointAggregator, ShardTallies, WindowPlan
from waypost.model.leases import LeaseShard
from waypost.model.lifecycle import Declared
from waypost.model.names import ServiceKey
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.fold_state import encode_last_beats, encode_tallies
from waypost.wire.health_window import NO_PARTIALS, encode_partial, encode_window, join_partials
from waypost.wire.tick import ENTRY, TickReader, encode_entry

SHARDS, TICK_MS, T0 = 128, 1000, 1_800_000_000_000


class Step:
    """Times one kind of call."""

    def __init__(self, name: str) -> None:
        self.name, self.calls, self.total, self.longest = name, 0, 0.0, 0.0

    def __call__(self, work: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = work()
        took = time.thread_time() - began
        self.calls, self.total, self.longest = self.calls + 1, self.total + took, max(self.longest, took)
        return result

    def show(self, window_s: float) -> None:
        print(
            f"{self.name:36} {self.calls:7} calls  longest {self.longest * 1e3:7.2f} ms  "
            f"all {self.total:7.3f} s = {100 * self.total / window_s:5.2f} % of a core"
        )


class Uncounted(ShardTallies):
    """Tallies that count nothing: the lease fold as it was before."""

    def count(self, *_: Any) -> None:
        pass


def fleet(instances: int, services: int, tallies: type[ShardTallies]) -> list[LeaseShard]:
    shards = [LeaseShard(tallies=tallies()) for _ in range(SHARDS)]
    for n in range(instances):
        event = InstanceEvent(
            op=Op.REGISTER,
            service=ServiceKey("default", f"service-{n % services}"),
            instance=name(n),
            stamp=Stamp(T0 - 90_000, 0, n),
            attributes=Attributes(address="10.0.0.1", port=80),
            declared=Declared.UP,
        )
        shards[shard_of(event.instance, SHARDS)].register(event)
    return shards


def name(n: int) -> str:
    return f"service-7f9c{n:06d}-x2"


def columns(instances: int, window_s: int, beat_s: int) -> list[dict[int, str]]:
    """Return for each second of the window the glued beats of each shard."""
    of_second: list[dict[int, list[str]]] = [{} for _ in range(window_s)]
    for n in range(instances):
        shard = shard_of(name(n), SHARDS)
        for at in range(n % beat_s, window_s, beat_s):
            entry = encode_entry(
                name(n), Stamp(T0 + 1000 * at + n % 1000, 0, n), f'{{"cpu":{(n + at) % 997 / 997:.3f}}}'
            )
            of_second[at].setdefault(shard, []).append(entry)
    return [{shard: ENTRY.join(entries) for shard, entries in second.items()} for second in of_second]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--per-service", type=int, default=10)
    parser.add_argument("--window", type=int, default=60, help="seconds")
    parser.add_argument("--beat", type=int, default=30, help="seconds between two beats of an instance")
    parser.add_argument("--buckets", type=int, default=32)
    options = parser.parse_args()
    plan = WindowPlan(options.window * 1000, options.buckets, TICK_MS)
    beats = columns(options.instances, options.window, options.beat)
    services = max(1, options.instances // options.per_service)
    total = sum(column.count(ENTRY) + 1 for second in beats for column in second.values())
    print(f"{options.instances} instances of {services} services, {total} beats in {options.window} s, {plan}")

    gc.disable()
    partials: dict[int, bytes] = {}
    bare, counted = Step("ticks as before"), Step("ticks, counting")
    save_before, save_now = Step("save last beats"), Step("save tallies besides")
    ended, added = Step("end a bucket's window in a shard"), Step("add a partial")
    for tallies, tick in ((Uncounted, bare), (ShardTallies, counted)):
        shards, reader = fleet(options.instances, services, tallies), TickReader()
        gc.collect()
        for second in range(options.window):
            end = T0 + (second + 1) * TICK_MS
            due = plan.due(end)
            for shard, leases in enumerate(shards):
                column = beats[second].get(shard)
                tick(lambda: leases.tick(end, reader.read(column, []) if column else ()))  # noqa: B023
                if tick is counted:
                    save_before(lambda: encode_last_beats(leases))  # noqa: B023
                    save_now(lambda: encode_tallies(leases))  # noqa: B023
                    if due:
                        for bucket, part in ended(
                            lambda: [(b, encode_partial(p)) for b, p in leases.end_windows(due, plan, end).items()]  # noqa: B023
                        ):
                            gathered = partials.get(bucket, NO_PARTIALS)
                            partials[bucket] = added(lambda: join_partials(gathered, part))  # noqa: B023
    merged, told = Step("merge a bucket's window"), Step("tell one service's window")
    for joined in partials.values():
        result = merged(lambda: HealthyEndpoints().get_result(joined))  # noqa: B023
        for _, window in HealthyEndpointAggregator().result(result, 0, 1):
            told(lambda: encode_window(window))  # noqa: B023
    for step in (bare, counted, save_before, save_now, ended, added, merged, told):
        step.show(options.window)
    print(
        f"a beat costs {(counted.total - bare.total) / total * 1e6:.2f} µs more than {bare.total / total * 1e6:.2f} µs"
    )


if __name__ == "__main__":
    main()
