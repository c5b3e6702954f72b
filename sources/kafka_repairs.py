"""The inputs of the repair job: alerts, what became of repairs, what people say, and the tables as they change.

Nothing here has a window: append times are carried along, and what waits is woken by the machine's clock. The tables
and what people said are read from the beginning when there is no checkpointed position; alerts and results go on from
the committed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from sources.kafka_raw import create_raw_table

ALERTS = "alerts"
RESULTS = "repair_results"
CONFIGS = "configs"
CHANGES = "route_changes"

# Configurations are written in transactions, and what was never committed was never said.
_COMMITTED = {"properties.isolation.level": "read_committed"}

_APPEND_MS = "(1000 * CAST(EXTRACT(EPOCH FROM rt) AS BIGINT) + MOD(CAST(EXTRACT(MILLISECOND FROM rt) AS BIGINT), 1000))"


@dataclass(frozen=True, kw_only=True)
class KafkaRepairs:
    """Where the inputs are: topics by the names of the tables."""

    bootstrap: str
    group_id: str
    alerts: str
    results: str
    configs: str
    changes: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def create(self, tables: StreamTableEnvironment) -> None:
        """Create the tables ALERTS, RESULTS, CONFIGS and CHANGES."""
        for name, topic, start in (
            (ALERTS, self.alerts, "group-offsets"),
            (RESULTS, self.results, "group-offsets"),
            (CONFIGS, self.configs, "earliest-offset"),
            (CHANGES, self.changes, "earliest-offset"),
        ):
            create_raw_table(
                tables, name, topic, start, bootstrap=self.bootstrap, group_id=self.group_id, parallelism=1,
                properties=self.properties, own=_COMMITTED if name == CONFIGS else None,
            )  # fmt: skip


def records_of(tables: StreamTableEnvironment, name: str) -> DataStream:
    """Return a table as a stream of `schemas.repair_types.RAW_TEXT` rows.

    Key and value travel as Latin-1 text, which has a sign for each byte: thread mode hands over bytes one by one.
    """
    return tables.to_data_stream(
        tables.sql_query(
            f"""
            SELECT DECODE(k, 'ISO-8859-1') AS `key`, DECODE(v, 'ISO-8859-1') AS `value`,
                   p AS `partition`, o AS `offset`, {_APPEND_MS} AS `at`
            FROM {name}
            """
        )
    )
