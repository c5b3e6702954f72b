"""The inputs of the route job as Flink SQL tables over Kafka.

Both are read as raw bytes: what cannot be decoded must reach `dead-letter` as it was, so no format of Flink's may
touch it first. Event time is Kafka's append time, and since the broker's clock is the same for every
producer there is no out-of-orderness to wait for.

A quiet heartbeat topic stops time, which is what leases want. A quiet registry must not: it says that it is idle after
a moment, or no window of the lease folds, which read both, would ever end.

The registry is always read from its beginning when there is no checkpointed position: its retention is
unlimited, and folding a record again changes nothing. So are isolations, by a single reader: they are few, and no
window waits for their time. The registry is read twice: the node index has a reader of its own, which commits no
offsets. Heartbeats go on from the committed position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyflink.table import StreamTableEnvironment

from sources.kafka_raw import create_raw_table

REGISTRY = "registry"
REGISTRY_AGAIN = "registry_again"
HEARTBEATS = "heartbeats"
ISOLATION_RECORDS = "isolation_records"

_REGISTRY_IDLE = {"scan.watermark.idle-timeout": "1s"}
_ONE_READER = {"scan.parallelism": "1"}
_NO_COMMITS = {"properties.commit.offsets.on.checkpoint": "false"}


@dataclass(frozen=True, kw_only=True)
class KafkaEvents:
    """Where the inputs are.

    `parallelism` must not exceed the number of partitions of the registry or the heartbeat topic: a reader without a
    partition never emits a watermark, and no window would ever fire (FLINK-38477).
    """

    bootstrap: str
    group_id: str
    registry: str
    heartbeat: str
    isolation: str
    parallelism: int = 1
    properties: Mapping[str, str] = field(default_factory=dict)

    def create(self, tables: StreamTableEnvironment) -> None:
        """Create the tables REGISTRY, REGISTRY_AGAIN, HEARTBEATS and ISOLATION_RECORDS: k, v (bytes), p (partition),
        o (offset), rt (append time), and in REGISTRY_AGAIN proc (when it was read)."""
        self._table(tables, REGISTRY, self.registry, "earliest-offset", _REGISTRY_IDLE)
        self._table(tables, HEARTBEATS, self.heartbeat, "group-offsets", {})
        self._table(tables, ISOLATION_RECORDS, self.isolation, "earliest-offset", _ONE_READER)
        self._table(tables, REGISTRY_AGAIN, self.registry, "earliest-offset", _ONE_READER | _NO_COMMITS)

    def _table(self, tables: StreamTableEnvironment, name: str, topic: str, start: str, own: Mapping[str, str]) -> None:
        create_raw_table(
            tables, name, topic, start, bootstrap=self.bootstrap, group_id=self.group_id, parallelism=self.parallelism,
            properties=self.properties, own=own,
            more_columns="proc AS PROCTIME()," if name == REGISTRY_AGAIN else "",
        )  # fmt: skip
