"""The part of the registration path that runs on the JVM, as SQL: whom a record is about, and how it travels.

    registry ─┬─ odd ────► RegistryDecoder (Python) ─► dead letters, mostly
              ├─ fresh ─── a row each ─────────────┬─► by service: route fold
              ├─ behind ── TUMBLE per service ─────┘
              └─ about an instance ── TUMBLE per shard ─► lease fold

A record read soon after it was appended goes to its service's fold at once, alone. One that the job is behind with (a
storm of registrations, a replay) is gathered with others of its service for a moment first: the fold then takes
hundreds in one call, with a few accesses to state and one write. Both kinds may overtake each other; the folds order
by stamp.

SQL looks only for the names a record is sent by. Whether it is any good is for the folds to say, which decode it. A
record is *odd* when SQL cannot tell those names, or could not glue it (format: `waypost.wire.glue`). So is what may be
an op without an instance (`unprotect`): the lease fold has to hear of it too.
"""

from __future__ import annotations

from pyflink.datastream import DataStream
from pyflink.table import DataTypes, Schema, StreamTableEnvironment

from jobs.sql import APPEND_MS, ENTRY, IN_THE_WAY, glued, interval, named, shard_of
from jobs.ticks import raw_records
from sources.kafka_events import REGISTRY
from waypost.model.names import DEFAULT_NAMESPACE, INSTANCE_PATTERN, NAMESPACE_PATTERN, SERVICE_PATTERN

MAX_GATHERED = 4_096
"""Characters of a record that is gathered. A set of thousands of endpoints has nothing to gain, and many of them would
make a row of many MB."""

_HAS_NO_OP = "(POSITION('\"op\"' IN text) = 0 AND POSITION('\\' IN text) = 0)"
"""Sure not to name an op. A name may be written with escapes; a set has no use for them, and one that has any costs a
call of Python, no more."""


def split_registrations(tables: StreamTableEnvironment, behind_ms: int) -> DataStream:
    """Create the view `registrations_once`; return the odd records as `schemas.flink_types.RAW_RECORD` rows.

    A record that is older than `behind_ms` when it is read is gathered with others.
    """
    # As `split_heartbeats`: one conversion that all branches start from, after what costs something.
    once = tables.to_data_stream(
        tables.sql_query(
            f"""
            SELECT k, v, p, o, rt, `at`, instance, CONCAT(namespace, '/', service) AS name,
                   rt < CURRENT_TIMESTAMP - {interval(behind_ms)} AND CHAR_LENGTH(text) <= {MAX_GATHERED} AS gather,
                   ({named("service", SERVICE_PATTERN)} AND {named("namespace", NAMESPACE_PATTERN)}
                    AND (instance IS NULL AND {_HAS_NO_OP} OR {named("instance", INSTANCE_PATTERN)})
                    AND CHAR_LENGTH(id) <= {MAX_GATHERED}
                    AND NOT REGEXP(CONCAT(id, text), {IN_THE_WAY})) IS TRUE AS plain
            FROM (
                SELECT k, v, p, o, rt, {APPEND_MS} AS `at`, COALESCE(DECODE(k, 'UTF-8'), '') AS id, text,
                       COALESCE(JSON_VALUE(text, '$.namespace'), '{DEFAULT_NAMESPACE}') AS namespace,
                       JSON_VALUE(text, '$.service') AS service,
                       JSON_VALUE(text, '$.instance') AS instance
                FROM (SELECT *, DECODE(v, 'UTF-8') AS text FROM {REGISTRY})
            )
            """
        )
    )
    tables.create_temporary_view(
        "registrations_once",
        tables.from_data_stream(
            once,
            Schema.new_builder()
            .column("k", DataTypes.BYTES())
            .column("v", DataTypes.BYTES())
            .column("p", DataTypes.INT())
            .column("o", DataTypes.BIGINT())
            .column("rt", DataTypes.TIMESTAMP_LTZ(3))
            .column("at", DataTypes.BIGINT())
            .column("instance", DataTypes.STRING())
            .column("name", DataTypes.STRING())
            .column("gather", DataTypes.BOOLEAN())
            .column("plain", DataTypes.BOOLEAN())
            .column_by_expression("proc", "PROCTIME()")
            .watermark("rt", "SOURCE_WATERMARK()")
            .build(),
        ),
    )
    return raw_records(tables, "registrations_once", "NOT plain")


def service_rows(tables: StreamTableEnvironment, gather_ms: int) -> DataStream:
    """Return rows (service, entries): a column of records of a service, one when it is fresh, or several.

    Text and not bytes: thread mode hands over bytes one by one.
    """
    tables.create_temporary_view(
        "gathered_registrations", tables.sql_query("SELECT * FROM registrations_once WHERE plain AND gather")
    )
    return tables.to_data_stream(
        tables.sql_query(
            f"""
            SELECT name AS service, {ENTRY} AS entries FROM registrations_once WHERE plain AND NOT gather
            UNION ALL
            SELECT name, {glued(ENTRY)}
            FROM TABLE(TUMBLE(TABLE gathered_registrations, DESCRIPTOR(proc), {interval(gather_ms)}))
            GROUP BY name, window_start, window_end
            """
        )
    )


def create_leased_registrations(tables: StreamTableEnvironment, shards: int, gather_ms: int) -> None:
    """Create the view `leased_registrations` (shard, entries): what the lease fold is told of registrations."""
    tables.create_temporary_view(
        "entries_of_registrations",
        tables.sql_query(
            f"""
            SELECT {shard_of("instance", shards)} AS shard, {ENTRY} AS entry, proc
            FROM registrations_once WHERE plain AND instance IS NOT NULL
            """
        ),
    )
    tables.create_temporary_view(
        "leased_registrations",
        tables.sql_query(
            f"""
            SELECT shard, {glued("entry")} AS entries
            FROM TABLE(TUMBLE(TABLE entries_of_registrations, DESCRIPTOR(proc), {interval(gather_ms)}))
            GROUP BY shard, window_start, window_end
            """
        ),
    )
