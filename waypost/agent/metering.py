"""The agent's numbers, brought up to date when somebody asks for them."""

from __future__ import annotations

import threading

from waypost.agent.prober import Prober
from waypost.agent.teller import Teller
from waypost.metrics import (
    AGENT_BEATS,
    AGENT_FAILURES,
    AGENT_INSTANCES,
    AGENT_LAST,
    AGENT_LOOKS,
    AGENT_PROXIED,
    AGENT_RECORDS,
    AGENT_UNTOLD,
    AGENT_WORDS,
    Metric,
)
from waypost.metrics_server import ProcessMetrics


class Meters:
    """See the module. Safe to share between threads."""

    def __init__(self, metrics: ProcessMetrics, teller: Teller, prober: Prober) -> None:
        self._metrics = metrics
        self._teller = teller
        self._prober = prober
        self._lock = threading.Lock()
        self._counted: dict[tuple[Metric, tuple[str, ...]], int] = {}

    def proxied(self, outcome: str) -> None:
        """Count a request of the proxy."""
        self._metrics.count(AGENT_PROXIED, outcome)

    def text(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        with self._lock:
            written = self._teller.written
            self._up_to(AGENT_WORDS, written.words)
            self._up_to(AGENT_BEATS, written.beats)
            self._up_to(AGENT_RECORDS, written.records)
            self._up_to(AGENT_FAILURES, written.failures)
            self._up_to(AGENT_LOOKS, self._prober.passed, "passed")
            self._up_to(AGENT_LOOKS, self._prober.failed, "failed")
            standings = self._teller.read(list)
            for stage in AGENT_INSTANCES.values:
                self._metrics.set(AGENT_INSTANCES, sum(each.stage.value == stage for each in standings), stage)
            self._metrics.set(AGENT_UNTOLD, sum(not each.is_told for each in standings))
            if written.last is not None:
                self._metrics.set(AGENT_LAST, written.last)
            return self._metrics.text()

    def _up_to(self, metric: Metric, value: int, *labels: str) -> None:
        key = metric, labels
        self._metrics.count(metric, *labels, times=value - self._counted.get(key, 0))
        self._counted[key] = value
