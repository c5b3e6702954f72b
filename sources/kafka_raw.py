"""A topic as a Flink SQL table of raw bytes, with partition, offset and append time."""

from __future__ import annotations

from collections.abc import Mapping

from pyflink.table import StreamTableEnvironment


def create_raw_table(
    tables: StreamTableEnvironment,
    name: str,
    topic: str,
    start: str,
    *,
    bootstrap: str,
    group_id: str,
    parallelism: int,
    properties: Mapping[str, str],
    own: Mapping[str, str] | None = None,
    more_columns: str = "",
) -> None:
    """Create the table `name`: k, v (bytes), p (partition), o (offset), rt (append time). `own`: more options;
    `more_columns`: more of them in SQL, each with a comma behind it."""
    options = {
        "connector": "kafka",
        "topic": topic,
        "key.format": "raw",
        "key.fields": "k",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "scan.startup.mode": start,
        "scan.parallelism": str(parallelism),
        "scan.topic-partition-discovery.interval": "10s",
        **{f"properties.{key}": value for key, value in properties.items()},
        "properties.bootstrap.servers": bootstrap,
        "properties.group.id": group_id,
        "properties.auto.offset.reset": "earliest",
        **(own or {}),
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
            {more_columns}
            -- Records of one batch share a millisecond: what has the newest time so far is not late.
            WATERMARK FOR rt AS rt - INTERVAL '0.001' SECOND
        ) WITH ({listed})
        """
    )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
