"""The two inputs of the route job as Flink SQL tables over Kafka.

Both are read as raw bytes: what cannot be decoded must reach `dead-letter` as it was, so no format of Flink's may
touch it first. Event time is Kafka's append time, and since the broker's clock is the same for every
producer there is no out-of-orderness to wait for.

A quiet heartbeat topic stops time, which is what leases want. A quiet registry must not: it says that it is idle after
a moment, or no window of the lease folds, which read both, would ever end.

The registry is always read from its beginning when there is no checkpointed position: its retention is
unlimited, and folding a record again changes nothing. Heartbeats go on from the committed position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyflink.table import StreamTableEnvironment

REGISTRY = "registry"
HEARTBEATS = "heartbeats"

_REGISTRY_IDLE = {"scan.watermark.idle-timeout": "1s"}


@dataclass(frozen=True, kw_only=True)
class KafkaEvents:
    """Where the inputs are.

    `parallelism` must not exceed the number of partitions of either topic: a reader without a partition never
    emits a watermark, and no window would ever fire (FLINK-38477).
    """

    bootstrap: str
    group_id: str
    registry: str
    heartbeat: str
    parallelism: int = 1
    properties: Mapping[str, str] = field(default_factory=dict)

    def create(self, tables: StreamTableEnvironment) -> None:
        """Create the tables REGISTRY and HEARTBEATS: k, v (bytes), p (partition), o (offset), rt (append time)."""
        self._table(tables, REGISTRY, self.registry, "earliest-offset", _REGISTRY_IDLE)
        self._table(tables, HEARTBEATS, self.heartbeat, "group-offsets", {})

    def _table(self, tables: StreamTableEnvironment, name: str, topic: str, start: str, own: Mapping[str, str]) -> None:
        options = {
            "connector": "kafka",
            "topic": topic,
            "key.format": "raw",
            "key.fields": "k",
            "value.format": "raw",
            "value.fields-include": "EXCEPT_KEY",
            "scan.startup.mode": start,
            "scan.parallelism": str(self.parallelism),
            "scan.topic-partition-discovery.interval": "10s",
            **{f"properties.{key}": value for key, value in self.properties.items()},
            "properties.bootstrap.servers": self.bootstrap,
            "properties.group.id": self.group_id,
            "properties.auto.offset.reset": "earliest",
            **own,
        }
        listed = ", ".join(f"{_quote(key)} = {_quote(value)}" for key, value in options.items())
        tables.execute_sql(
            f"""
            CREATE TEMPORARY TABLE {name} (
                k BYTES,
                v BYTES,
                p INT METADATA FROM 'partition' VIRTUAL,
                o BIGINT METADATA FROM 'offset' VIRTUAL,
                rt TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
                -- Records of one batch share a millisecond: what has the newest time so far is not late.
                WATERMARK FOR rt AS rt - INTERVAL '0.001' SECOND
            ) WITH ({listed})
            """
        )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
