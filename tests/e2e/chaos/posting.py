"""Records written without waiting: whoever writes goes on whatever becomes of the broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer

from tests.e2e.log_writer import HEARTBEAT, REGISTRY

PATIENCE_MS = 7_200_000
"""How long a record waits for a broker that is away: longer than any fault."""


class Posting:
    """An idempotent producer: each record is on the log once, in order, whenever the broker comes back."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            delivery_timeout_ms=PATIENCE_MS,
            request_timeout_ms=10_000,
            max_block_ms=PATIENCE_MS,
        )

    def event(self, service: str, *, logged: Callable[[int], None] | None = None, **fields: Any) -> None:
        """Post one registration event. `logged` is called with the append time, epoch ms, by a thread of Kafka's."""
        self._post(REGISTRY, f"default/{service}", {"service": service, **fields}, logged)

    def beat(self, instance: str, *, logged: Callable[[int], None] | None = None) -> None:
        self._post(HEARTBEAT, instance, {"cpu": 0.4}, logged)

    def flush(self, timeout_s: float) -> None:
        self._producer.flush(timeout_s)

    def close(self) -> None:
        self._producer.close(10)

    def _post(self, topic: str, key: str, value: dict[str, Any], logged: Callable[[int], None] | None) -> None:
        future = self._producer.send(topic, key=key.encode(), value=json.dumps(value).encode())
        if logged is not None:
            future.add_callback(lambda meta: logged(meta.timestamp))
