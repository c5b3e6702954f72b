"""The demo's own changes: sent through Kafka, found again in `changes` by their request ids, timed by the reader.

    sent                         answered in `changes`            reader's copy has that revision
─────┼───────── Kafka, Flink ──────────┼──────────── XREAD ────────────────┼─────►
     └───────────────────────── what is measured ──────────────────────────┘
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from waypost.client.answers import open_answers
from waypost.client.event_sink import KafkaSink
from waypost.client.registrar import Registrar
from waypost.client.routes import RouteReader
from waypost.demo.instance import MARK, SOURCE
from waypost.demo.observed import Observed
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey

_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What became of the changes: ms from before the send to the reader, and what went wrong."""

    milliseconds: list[float] = field(default_factory=list)
    unanswered: int = 0
    refused: list[str] = field(default_factory=list)
    unseen: int = 0


class Ledger:
    """Sends through `registrar` and remembers when. Not thread-safe."""

    def __init__(self, bootstrap: str, redis_url: str) -> None:
        self._answers = open_answers(redis_url)
        self._reader = RouteReader(redis_url)
        self._sent: dict[str, float] = {}
        self.registrar = Registrar(KafkaSink(bootstrap, client_id="waypost-demo"), source=SOURCE, new_id=self._new_id)

    def clear(self, services: Iterable[str]) -> int:
        """Deregister what a demo that was killed left in these tables; returns how many there were.

        With nobody beating, their leases would not end until somebody does: silence changes nothing.
        """
        requests = []
        for service in services:
            view = self._reader.read(ServiceKey(DEFAULT_NAMESPACE, service))
            left = [name for name, endpoint in view.endpoints.items() if endpoint.metadata == MARK]
            requests += [self.registrar.deregister(service, name) for name in left]
        for request_id in requests:
            self._answers.wait(request_id, _ANSWER_S)
        self._sent.clear()
        return len(requests)

    def warm_up(self, service: str, instance: str) -> None:
        """Connect the producer, which happens once, by a change that changes nothing; it is not measured."""
        self.registrar.update(service, instance, weight=100)
        self._sent.clear()

    def settle(self, observed: Observed, timeout_s: float) -> Timings:
        """Return the timings of everything sent since the last time, waiting for what is under way."""
        deadline = time.monotonic() + timeout_s
        timings = Timings(milliseconds=[])
        unanswered = unseen = 0
        for request_id, sent in self._sent.items():
            answer = self._answers.wait(request_id, max(0.0, deadline - time.monotonic()))
            if answer is None:
                unanswered += 1
                continue
            if not answer.applied:
                timings.refused.append(answer.reason)
                continue
            service, revision = answer.service.service, answer.revision
            reached = lambda s=service, r=revision: observed.seen_at(s, r) is not None  # noqa: E731
            observed.wait(reached, max(0.0, deadline - time.monotonic()))
            seen = observed.seen_at(service, revision)
            if seen is None:
                unseen += 1
            else:
                timings.milliseconds.append((seen - sent) * 1000)
        self._sent.clear()
        return Timings(milliseconds=timings.milliseconds, unanswered=unanswered, refused=timings.refused, unseen=unseen)

    def close(self) -> None:
        self.registrar.close()
        self._answers.close()
        self._reader.close()

    def _new_id(self) -> str:
        # The registrar asks for an id just before it encodes and sends: the stopwatch starts here.
        request_id = str(uuid.uuid4())
        self._sent[request_id] = time.monotonic()
        return request_id
