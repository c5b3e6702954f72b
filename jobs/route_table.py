"""The route job: registrations and beats in, route tables in Redis out.

    flink run -pym jobs.route_table -pyfs waypost-job.zip --set kafka.bootstrap=… --set redis.url=…

    service-registry ── decode ──┬──────────────────────────────── by service ──► ROUTE FOLD ──► Redis, route-changes
                                 └── by shard ─► LEASE FOLD ─► GATE ──────────────┤
    service-heartbeat ── SQL: TUMBLE(tick) ─────────┘ └─ partials ─► WINDOW ──────┤
    service-isolation ── decode ──┬── about an instance ──────────────────────────┤
                                  └── about a node ─► by node ─► NODE INDEX ──────┘

The node index learns which services are on which node from the registry, which it reads by itself: no change waits.

Only wiring here. What a step does is in `jobs.operators`, by which rule in `waypost.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from pyflink.common import Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs.isolations import isolation_records, node_rows
from jobs.operators.decode import HeartbeatExploder, RegistryDecoder
from jobs.operators.gate import LapseGate
from jobs.operators.health_window import service_windows
from jobs.operators.isolations import IsolationDecoder, NodeIndexer
from jobs.operators.leases import LeaseFold
from jobs.operators.outputs import DEAD_LETTERS, LEASE_EVENTS, NODE_WORDS, PARTIALS
from jobs.operators.routes import RouteFold
from jobs.registrations import create_leased_registrations, service_rows, split_registrations
from jobs.submission import environment, everything, read_settings, require_topics, submit
from jobs.ticks import row_field, split_heartbeats, tick_rows
from schemas.flink_types import EXPLODED_BEAT, OUTPUT_RECORD, ROUTE_INPUT, SHARD_ROW
from sinks.kafka_records import KafkaRecords
from sinks.redis_routes import RedisRouteStore
from sources.kafka_events import KafkaEvents
from waypost.model.fencing import RouteStore
from waypost.model.health_window import WindowPlan
from waypost.settings import Redis, Settings, brake_rules, damping_rules, kafka_properties
from waypost.topics import DEAD_LETTER, HEARTBEAT, ISOLATION, ROUTE_CHANGES
from waypost.topics import REGISTRY as REGISTRY_TOPIC

NAME = "waypost-route-table"


class Source(Protocol):
    """Creates the tables that `sources.kafka_events` names."""

    def create(self, tables: StreamTableEnvironment) -> None: ...


class Sink(Protocol):
    """Takes OUTPUT_RECORD rows."""

    def write(self, records: DataStream, topic: str, uid: str) -> None: ...


@dataclass(frozen=True)
class RedisConnector:
    """Makes the store where the fold runs; travels there by value, without a connection."""

    settings: Redis

    def __call__(self) -> RouteStore:
        return RedisRouteStore(
            self.settings.url,
            prefix=self.settings.prefix,
            changes_maxlen=self.settings.changes_maxlen,
            log_maxlen=self.settings.log_maxlen,
            timeout=timedelta(milliseconds=self.settings.timeout_ms),
        )


def build(tables: StreamTableEnvironment, source: Source, sink: Sink, settings: Settings) -> None:
    """Wire the job up on `tables`. Starts nothing."""
    topics, lease = settings.topics, settings.lease
    plan = WindowPlan(settings.window.size_ms, settings.window.buckets, lease.tick_ms)
    source.create(tables)

    odd_registrations = (
        split_registrations(tables, settings.job.behind_ms)
        .process(RegistryDecoder(topics.registry, lease.shards), ROUTE_INPUT)
        .name("odd registrations")
        .uid("odd-registrations")
    )
    create_leased_registrations(tables, lease.shards, lease.tick_ms)
    exploded = (
        split_heartbeats(tables, lease.shards, lease.tick_ms)
        .process(HeartbeatExploder(topics.heartbeat, lease.shards), EXPLODED_BEAT)
        .name("explode node batches")
        .uid("explode-node-batches")
    )
    by_shard = by_service = row_field(0)
    rows = (
        tick_rows(tables, exploded, lease.shards, lease.tick_ms)
        .key_by(by_shard, Types.INT())
        .connect(odd_registrations.get_side_output(LEASE_EVENTS).key_by(by_shard, Types.INT()))
        .process(LeaseFold(topics.heartbeat, lease.shards, plan), SHARD_ROW)
        .name("lease fold")
        .uid("lease-fold")
    )
    transitions = (
        rows.key_by(everything, Types.INT())
        .process(
            LapseGate(lease, brake_rules(settings), damping_rules(settings), settings.routes.catch_up_ms), ROUTE_INPUT
        )
        .name("gate")
        .uid("gate")
    )
    windows = (
        service_windows(rows.get_side_output(PARTIALS).key_by(row_field(0), Types.INT()), plan)
        .name("service windows")
        .uid("service-windows")
    )
    registrations = service_rows(tables, settings.job.gather_ms)
    isolations = (
        isolation_records(tables)
        .process(IsolationDecoder(topics.isolation), ROUTE_INPUT)
        .name("decode isolations")
        .uid("decode-isolations")
    )
    of_nodes = (
        node_rows(tables)
        .key_by(by_shard, Types.INT())
        .connect(isolations.get_side_output(NODE_WORDS).key_by(by_shard, Types.INT()))
        .process(NodeIndexer(), ROUTE_INPUT)
        .name("node index")
        .uid("node-index")
    )
    changes = (
        registrations.key_by(by_service, Types.STRING())
        .connect(odd_registrations.union(transitions, windows, isolations, of_nodes).key_by(by_service, Types.STRING()))
        .process(
            RouteFold(
                topics.registry,
                topics.heartbeat,
                topics.isolation,
                settings.routes,
                RedisConnector(settings.redis),
            ),
            OUTPUT_RECORD,
        )
        .name("route fold")
        .uid("route-fold")
    )
    refused = odd_registrations.get_side_output(DEAD_LETTERS).union(
        exploded.get_side_output(DEAD_LETTERS),
        isolations.get_side_output(DEAD_LETTERS),
        rows.get_side_output(DEAD_LETTERS),
        changes.get_side_output(DEAD_LETTERS),
    )
    sink.write(changes, topics.route_changes, "route-changes")
    sink.write(refused, topics.dead_letter, "dead-letters")


def kafka_source(settings: Settings) -> KafkaEvents:
    """Return the inputs these settings name."""
    return KafkaEvents(
        bootstrap=settings.kafka.bootstrap,
        group_id=settings.kafka.group_id,
        registry=settings.topics.registry,
        heartbeat=settings.topics.heartbeat,
        isolation=settings.topics.isolation,
        parallelism=settings.job.source_parallelism,
        properties=kafka_properties(settings),
    )


def main(arguments: list[str]) -> None:
    """Read the settings, check the topics, submit the job."""
    settings = read_settings("jobs.route_table", __doc__, arguments)
    source, names = kafka_source(settings), settings.topics
    used = {
        REGISTRY_TOPIC: names.registry,
        HEARTBEAT: names.heartbeat,
        ISOLATION: names.isolation,
        ROUTE_CHANGES: names.route_changes,
        DEAD_LETTER: names.dead_letter,
    }
    require_topics(settings, used, dict.fromkeys((names.registry, names.heartbeat), settings.job.source_parallelism))
    env = environment(settings)
    sink = KafkaRecords(bootstrap=source.bootstrap, properties=source.properties)
    build(StreamTableEnvironment.create(env), source, sink, settings)
    env.execute(NAME)


if __name__ == "__main__":
    submit(main)
