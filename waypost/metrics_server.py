"""`/metrics` of a process of ours: values by the register, served by prometheus_client from a thread of its own."""

from __future__ import annotations

from typing import Any

from waypost.errors import StackError
from waypost.metrics import Kind, Metric, Origin, register


class ProcessMetrics:
    """The metrics of one kind of process. Thread-safe."""

    def __init__(self, origin: Origin) -> None:
        # Imported here: the job reads the register, and needs no exporter of ours.
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self._registry = CollectorRegistry()
        self._metrics: dict[Metric, Any] = {}
        for metric in register():
            if metric.origin is origin:
                make = Counter if metric.kind is Kind.COUNTER else Gauge
                self._metrics[metric] = made = make(metric.name, metric.help, metric.labels, registry=self._registry)
                for value in metric.values:
                    made.labels(value)

    def count(self, metric: Metric, *labels: str, times: int = 1) -> None:
        """Add one, or as many."""
        self._of(metric, labels).inc(times)

    def now(self, metric: Metric) -> None:
        """Set to the present time."""
        self._of(metric, ()).set_to_current_time()

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._of(metric, labels).set(value)

    def text(self) -> bytes:
        """Return everything as Prometheus reads it, for a process that serves it itself."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> None:
        """Answer scrapes until the process ends. Raises StackError when the address cannot be listened on."""
        from prometheus_client import start_http_server

        try:
            start_http_server(port, addr=host, registry=self._registry)
        except OSError as error:
            raise StackError(f"cannot serve metrics at {host}:{port}: {error}") from error

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        return self._metrics[metric].labels(*labels) if labels else self._metrics[metric]
