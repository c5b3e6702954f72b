"""The part of isolations that runs on the JVM, as SQL: the records as they are, and who is on which node.

service-isolation ─► raw records ──► IsolationDecoder (Python)
registrations ─────► TUMBLE per shard of the node ─► NodeIndexer (Python)
"""

from __future__ import annotations

from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs.operators.isolations import NODE_SHARDS
from jobs.sql import APPEND_MS, interval, named, shard_of
from sources.kafka_events import ISOLATION_RECORDS, REGISTRY_AGAIN
from waypost.model.names import DEFAULT_NAMESPACE, INSTANCE_PATTERN, NAMESPACE_PATTERN, SERVICE_PATTERN

NODE_GATHER_MS = 100
"""How long nodes are gathered for the index. Halved, a storm of registrations costs Python twice as many rows."""


def isolation_records(tables: StreamTableEnvironment) -> DataStream:
    """Return the records of the isolation topic as `schemas.flink_types.RAW_RECORD` rows, one by one: few are
    written, and each has to be seen at once."""
    return tables.to_data_stream(
        tables.sql_query(
            f"SELECT k AS `key`, v AS `value`, p AS `partition`, o AS `offset`, {APPEND_MS} AS `at` "
            f"FROM {ISOLATION_RECORDS}"
        )
    )


def node_rows(tables: StreamTableEnvironment) -> DataStream:
    """Return rows (shard, pairs): a column (`waypost.wire.node_index`) of the nodes that registrations name, each with
    the service it is about.

    Nobody waits for these rows, not even the thread that reads changes: the registry is read a second time, from its
    beginning as long as there is no state of this reader, so that a job restored from a savepoint of before the index
    learns who is where as well. The first instance that a service registers on an isolated node is in its table until
    the index has heard of it: `NODE_GATHER_MS` and what a busy machine takes. A service that was on the node before has
    heard of the isolation long ago.

    Whether a record is any good is not asked: a pair too many means a word that does not matter to its service.
    """
    tables.create_temporary_view(
        "registrations_on_nodes",
        tables.sql_query(
            f"""
            SELECT {shard_of("node", NODE_SHARDS)} AS shard, CONCAT(node, ' ', namespace, '/', service) AS pair, proc
            FROM (
                SELECT JSON_VALUE(text, '$.node') AS node,
                       JSON_VALUE(text, '$.service') AS service,
                       COALESCE(JSON_VALUE(text, '$.namespace'), '{DEFAULT_NAMESPACE}') AS namespace,
                       proc
                FROM (SELECT DECODE(v, 'UTF-8') AS text, proc FROM {REGISTRY_AGAIN})
                WHERE POSITION('"node"' IN text) > 0 OR POSITION('\\' IN text) > 0
            )
            WHERE {named("node", INSTANCE_PATTERN)} AND {named("service", SERVICE_PATTERN)}
                AND {named("namespace", NAMESPACE_PATTERN)}
            """
        ),
    )
    return tables.to_data_stream(
        tables.sql_query(
            f"""
            SELECT shard, LISTAGG(pair, U&'\\000A') AS pairs
            FROM TABLE(TUMBLE(TABLE registrations_on_nodes, DESCRIPTOR(proc), {interval(NODE_GATHER_MS)}))
            GROUP BY shard, window_start, window_end
            """
        )
    )
