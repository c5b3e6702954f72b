"""What Flink takes for one partial: CPU time of the window task, its Java and its Python, in thread mode.

    python -m bench.window_operator --rows 60000 --instances 25

Partials of 128 shards pass the job's own window operator as fast as it takes them, in a cluster inside this process.
The first windows warm the JVM up and are not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from pyflink.common import Configuration, Row, Types
from pyflink.datastream import KeyedProcessFunction, StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from jobs.operators import health_window
from jobs.operators.outputs import PARTIALS
from schemas.flink_types import OUTPUT_RECORD
from waypost.model.health_window import Tally, WindowPlan
from waypost.wire.health_window import encode_partial

SHARDS, T0 = 128, 1_800_000_000_000
PLAN = WindowPlan(size_ms=16_000, buckets=16, tick_ms=1000)
"""With 8 rows per bucket and tick: 128 rows per window, as in the job."""


class Shards(KeyedProcessFunction):
    """Hands a partial over for each row."""

    def __init__(self, instances: int) -> None:
        self._partial = {f"default/s-{n // 10}": {} for n in range(instances)}
        for n in range(instances):
            self._partial[f"default/s-{n // 10}"][f"service-7f9c{n:06d}-x2"] = Tally(2, 0, 2, 800, 500, 0, 0)

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        yield PARTIALS, Row(value[0] % PLAN.buckets, value[1], encode_partial(self._partial))


class TimedEndpoints(health_window.HealthyEndpoints):
    """Prints how much CPU its thread took per partial."""

    def __init__(self, rows: int) -> None:
        self._rows, self._seen, self._began = rows, 0, 0.0

    def add(self, value: Row, accumulator: bytes) -> bytes:
        self._seen += 1
        if self._seen == self._rows // 4:
            self._began = time.thread_time()
        if self._seen == self._rows:
            took = (time.thread_time() - self._began) / (self._rows - self._rows // 4)
            print(f"{took * 1e6:.0f} µs of CPU per partial", flush=True)
        return super().add(value, accumulator)


class Nothing(KeyedProcessFunction):
    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        return iter(())


def first(row: Row) -> Any:
    return row[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--instances", type=int, default=25, help="in one partial")
    options = parser.parse_args()
    conf = Configuration()
    for name, value in {
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "parallelism.default": "1",
        "pipeline.object-reuse": "true",
    }.items():
        conf.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(conf)
    tables = StreamTableEnvironment.create(env)
    end = f"(n / {SHARDS}) * {PLAN.tick_ms} + {T0}"
    tables.execute_sql(
        f"""
        CREATE TEMPORARY TABLE ticks (
            n BIGINT, shard AS CAST(MOD(n, {SHARDS}) AS INT), e AS {end}, rt AS TO_TIMESTAMP_LTZ({end} - 1, 3),
            WATERMARK FOR rt AS rt - INTERVAL '0.001' SECOND
        ) WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0',
                'fields.n.end' = '{options.rows - 1}')
        """
    )
    rows = tables.to_data_stream(tables.sql_query("SELECT shard, e, rt FROM ticks"))
    shards = rows.key_by(first, Types.INT()).process(Shards(options.instances), OUTPUT_RECORD)
    timed = TimedEndpoints(options.rows)
    health_window.HealthyEndpoints = lambda: timed  # type: ignore[assignment, misc]
    windows = health_window.service_windows(shards.get_side_output(PARTIALS).key_by(first, Types.INT()), PLAN)
    windows.key_by(first, Types.STRING()).process(Nothing(), OUTPUT_RECORD).print()
    env.execute("bench")


if __name__ == "__main__":
    main()
