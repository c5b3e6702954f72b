"""Counting inside an operator, by the register in `waypost.metrics`.

In thread mode PyFlink 2.3 has counters that live in the JVM: 1 to 4 µs a call, an observation in a histogram 40 µs
(once per publication; two busy cores). A Python gauge would be called by the reporter's thread and wait for the
interpreter; the *distribution* is, in thread mode, a number in the JVM that is set from here, so that is what a gauge
is. There is no histogram: one is kept as a counter per bucket with the label `le`, which is all that
`histogram_quantile` wants to see.
"""

from __future__ import annotations

from pyflink.datastream import RuntimeContext
from pyflink.metrics import Counter, Distribution

from waypost.metrics import Kind, Metric


class Meters:
    """What one subtask of one operator counts. `metrics` exist from the start, so that an increase can be seen."""

    def __init__(self, context: RuntimeContext, *metrics: Metric) -> None:
        self._group = context.get_metrics_group().add_group("waypost")
        self._counters: dict[tuple[Metric, str], Counter] = {}
        self._gauges: dict[Metric, tuple[Distribution, int | None]] = {}
        for metric in metrics:
            if metric.kind is Kind.HISTOGRAM:
                self.observe(metric, None)
            elif metric.kind is Kind.GAUGE:
                self.set(metric, 0)
            else:
                for label in metric.values if metric.labels else ("",):
                    self.count(metric, label, 0)

    def count(self, metric: Metric, label: str = "", n: int = 1) -> None:
        """Add `n` under the value of the metric's only label."""
        counter = self._counters.get((metric, label))
        if counter is None:
            group = self._group.add_group(metric.labels[0], label) if metric.labels else self._group
            counter = self._counters[metric, label] = group.counter(metric.name)
        if n:
            counter.inc(n)

    def set(self, metric: Metric, value: int) -> None:
        """Set a gauge."""
        gauge, before = self._gauges.get(metric, (None, None))
        if gauge is None:
            gauge = self._group.distribution(metric.name)
        if value != before:
            gauge.update(value)
            self._gauges[metric] = gauge, value

    def observe(self, metric: Metric, value: int | None) -> None:
        """Add one observation to a histogram; None only makes it known."""
        bounds = [*map(str, metric.buckets), "+Inf"]
        for bound in bounds:
            key = metric, bound
            if key not in self._counters:
                self._counters[key] = self._group.add_group("le", bound).counter(f"{metric.name}_bucket")
            if value is not None and value <= float(bound):
                self._counters[key].inc()
        for part, n in (("sum", value or 0), ("count", int(value is not None))):
            key = metric, part
            if key not in self._counters:
                self._counters[key] = self._group.counter(f"{metric.name}_{part}")
            if n:
                self._counters[key].inc(n)
