"""The part of the lease path that runs on the JVM, as SQL: beats in, one row per shard and tick out.

    heartbeats ─┬─ plain ────────────────────────────────┐
                └─ odd ──► HeartbeatExploder (Python) ───┴──► TUMBLE(tick) per shard ──► one row per shard

A record is *odd* when it takes more than its key and its text to know which instances beat: a node batch, a record
without key or value, bytes that are not UTF-8, control characters; or when it is late: its tick is over already, and
SQL would drop it. Few are; each costs one Python call. All others cost Python nothing one by one: SQL glues them
together (format: `waypost.wire.tick`) without looking into them, and the lease fold reads the whole glued column in
one call.

A witness (`{}` under `_witness/<shard>`) counts as a row's presence and contributes no beat: it makes every shard
have a row in every tick in which the log lives.
"""

from __future__ import annotations

from pyflink.common import Row
from pyflink.datastream import DataStream
from pyflink.table import DataTypes, Schema, StreamTableEnvironment, Table

from jobs.sql import APPEND_MS, ENTRY, IN_THE_WAY, glued, interval, shard_of
from sources.kafka_events import HEARTBEATS

_IS_ODD = (
    "id IS NULL OR id = '' OR text IS NULL OR CHAR_LENGTH(text) > 65536 "
    "OR POSITION('\"beats\"' IN text) > 0 "
    f"OR REGEXP(CONCAT(id, text), {IN_THE_WAY})"
)

_WATERMARK_MS = (
    "(1000 * CAST(EXTRACT(EPOCH FROM CURRENT_WATERMARK(rt)) AS BIGINT) "
    "+ MOD(CAST(EXTRACT(MILLISECOND FROM CURRENT_WATERMARK(rt)) AS BIGINT), 1000))"
)

_WITNESS_SHARD = "TRY_CAST(SUBSTRING(id, 10) AS INT)"


def split_heartbeats(tables: StreamTableEnvironment, shards: int, tick_ms: int) -> DataStream:
    """Create the view `beats_once`; return the odd ones as `schemas.flink_types.RAW_RECORD` rows."""
    is_late = f"rt <= CURRENT_WATERMARK(rt) AND {APPEND_MS} / {tick_ms} * {tick_ms} + {tick_ms} <= {_WATERMARK_MS} + 1"
    # Each conversion to a stream is planned for itself. Both branches start from one converted stream, or the topic
    # would be read twice; and what costs something is before it, or it would be done twice.
    once = tables.to_data_stream(
        tables.sql_query(
            f"""
            SELECT k, v, p, o, rt, {APPEND_MS} AS `at`,
                   CASE WHEN ({_IS_ODD}) IS NOT FALSE THEN CAST(NULL AS INT)
                        WHEN witness THEN CASE WHEN {_WITNESS_SHARD} BETWEEN 0 AND {shards - 1}
                                               THEN {_WITNESS_SHARD} END
                        WHEN ({is_late}) IS TRUE THEN CAST(NULL AS INT)
                        ELSE {shard_of("id", shards)} END AS shard,
                   witness IS TRUE AS witness
            FROM (
                SELECT *, id LIKE '!_witness/%' ESCAPE '!' AS witness
                FROM (SELECT *, DECODE(k, 'UTF-8') AS id, DECODE(v, 'UTF-8') AS text FROM {HEARTBEATS})
            )
            """
        )
    )
    tables.create_temporary_view(
        "beats_once",
        tables.from_data_stream(
            once,
            Schema.new_builder()
            .column("k", DataTypes.BYTES())
            .column("v", DataTypes.BYTES())
            .column("p", DataTypes.INT())
            .column("o", DataTypes.BIGINT())
            .column("rt", DataTypes.TIMESTAMP_LTZ(3))
            .column("at", DataTypes.BIGINT())
            .column("shard", DataTypes.INT())
            .column("witness", DataTypes.BOOLEAN())
            .watermark("rt", "SOURCE_WATERMARK()")
            .build(),
        ),
    )
    return raw_records(tables, "beats_once", "shard IS NULL")


def raw_records(tables: StreamTableEnvironment, table: str, where: str) -> DataStream:
    """Return records (k, v, p, o, at) of a view as a stream of `schemas.flink_types.RAW_RECORD` rows."""
    return tables.to_data_stream(
        tables.sql_query(
            f"SELECT k AS `key`, v AS `value`, p AS `partition`, o AS `offset`, `at` FROM {table} WHERE {where}"
        )
    )


def tick_rows(tables: StreamTableEnvironment, exploded: DataStream, shards: int, tick_ms: int) -> DataStream:
    """Return one row (shard, end, beats) per shard and tick. `exploded` is a stream of EXPLODED_BEAT rows.

    `end` is the end of the tick in epoch ms, `beats` a column of `waypost.wire.tick`, NULL when nobody beat. Among
    them are the rows of the view `leased_registrations`, whose `end` is 0.
    """
    again: Table = tables.from_data_stream(
        exploded,
        Schema.new_builder()
        .column("shard", DataTypes.INT())
        .column("at", DataTypes.BIGINT())
        .column("entry", DataTypes.STRING())
        .column_by_expression("rt", "TO_TIMESTAMP_LTZ(`at`, 3)")
        .watermark("rt", "SOURCE_WATERMARK()")
        .build(),
    )
    tables.create_temporary_view("exploded_beats", again)
    return tables.to_data_stream(
        tables.sql_query(
            f"""
            WITH beats AS (
                SELECT shard, rt, CASE WHEN NOT witness THEN {ENTRY} END AS entry
                FROM beats_once WHERE shard IS NOT NULL
                UNION ALL
                SELECT shard, rt, entry FROM exploded_beats
            )
            SELECT
                shard,
                1000 * CAST(EXTRACT(EPOCH FROM window_time) AS BIGINT)
                    + MOD(CAST(EXTRACT(MILLISECOND FROM window_time) AS BIGINT), 1000) + 1 AS `end`,
                {glued("entry")} AS entries
            FROM TABLE(TUMBLE(TABLE beats, DESCRIPTOR(rt), {interval(tick_ms)}))
            GROUP BY shard, window_start, window_end, window_time
            UNION ALL
            SELECT shard, CAST(0 AS BIGINT), entries FROM leased_registrations
            """
        )
    )


def row_field(index: int):  # type: ignore[no-untyped-def]
    """Return a key selector for one field of a row."""

    def select(row: Row) -> object:
        return row[index]

    return select
