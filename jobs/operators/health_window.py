"""The tumbling windows on Flink: partials of the lease folds in, one row per service and window out.

Not one row per beat, and not one per shard and service either: a call into Python costs more than what it would add up.
A partial is one shard's knowledge of a whole bucket of services, and is handed over once, with the tick that ends the
bucket's window.

What PyFlink 2.3 does in thread mode, and what follows from it here:

- a record of a side output has no timestamp: the assigner looks at the row's own tick end instead;
- the window's state is taken out of the JVM and put back with every row: the accumulator is the encoded partials one
  after the other, and is added up once, when the window ends;
- the state's type must be one that is not pickled: `BYTES`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pyflink.common import Row
from pyflink.datastream import AggregateFunction, DataStream, ProcessWindowFunction
from pyflink.datastream.window import TimeWindow, TumblingEventTimeWindows, WindowAssigner

from jobs.operators.keyed_state import BYTES
from schemas.flink_types import ROUTE_INPUT, WINDOW
from waypost.model.health_window import HealthyEndpointAggregator, Partial, WindowPlan
from waypost.wire.health_window import NO_PARTIALS, decode_partials, encode_window, join_partials


class BucketWindows(TumblingEventTimeWindows):
    """Tumbling windows that end at another moment for each bucket. Elements are PARTIAL rows."""

    def __init__(self, plan: WindowPlan) -> None:
        super().__init__(plan.size_ms, 0)
        self._plan = plan

    def assign_windows(
        self, element: Row, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        start = self._plan.start(element[0], element[1])
        return [TimeWindow(start, start + self._plan.size_ms)]


class HealthyEndpoints(AggregateFunction):
    """`HealthyEndpointAggregator` over encoded partials: gathers them, and merges when asked for the result."""

    _model = HealthyEndpointAggregator()

    def create_accumulator(self) -> bytes:
        return NO_PARTIALS

    def add(self, value: Row, accumulator: bytes) -> bytes:
        return join_partials(bytes(accumulator), bytes(value[2]))

    def merge(self, acc_a: bytes, acc_b: bytes) -> bytes:
        return join_partials(bytes(acc_a), bytes(acc_b))

    def get_result(self, accumulator: bytes) -> Partial:
        return self._model.merge_all(decode_partials(bytes(accumulator)))


class ByService(ProcessWindowFunction):
    """Hands the services of a finished window on, one at a time: each is a call of its own."""

    _model = HealthyEndpointAggregator()

    def process(self, key: int, context: ProcessWindowFunction.Context, elements: Iterable[Partial]) -> Iterator[Row]:
        span = context.window()
        for merged in elements:
            for service, window in self._model.result(merged, span.start, span.end):
                yield Row(service, WINDOW, encode_window(window))

    def clear(self, context: ProcessWindowFunction.Context) -> None:
        pass


def service_windows(partials: DataStream, plan: WindowPlan) -> DataStream:
    """Return the windows of all services as ROUTE_INPUT rows. `partials` are PARTIAL rows keyed by bucket."""
    return partials.window(BucketWindows(plan)).aggregate(  # type: ignore[attr-defined]
        HealthyEndpoints(), ByService(), accumulator_type=BYTES, output_type=ROUTE_INPUT
    )
