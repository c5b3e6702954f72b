"""Records to Kafka, at least once, by Flink's own connector: Python hands over bytes, the JVM batches and retries.

Not exactly once: a transactional sink is visible only at checkpoints, and readers of the audit log drop duplicates
by (service, revision) anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyflink.common.serialization import RowFieldExtractorSchema
from pyflink.datastream import DataStream
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import KafkaRecordSerializationSchema, KafkaSink


@dataclass(frozen=True, kw_only=True)
class KafkaRecords:
    """Writes OUTPUT_RECORD rows (key, value) to topics of one cluster."""

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def write(self, records: DataStream, topic: str, uid: str) -> None:
        """Send every row of `records` to `topic`."""
        serializer = (
            KafkaRecordSerializationSchema.builder()
            .set_topic(topic)
            .set_key_serialization_schema(RowFieldExtractorSchema(0))
            .set_value_serialization_schema(RowFieldExtractorSchema(1))
            .build()
        )
        builder = (
            KafkaSink.builder()
            .set_bootstrap_servers(self.bootstrap)
            .set_record_serializer(serializer)
            .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        )
        for name, value in self.properties.items():
            builder = builder.set_property(name, value)
        records.sink_to(builder.build()).name(f"to {topic}").uid(uid)
