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

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from pyflink.common import Configuration, Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
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
from jobs.ticks import row_field, split_heartbeats, tick_rows
from schemas.flink_types import EXPLODED_BEAT, OUTPUT_RECORD, ROUTE_INPUT, SHARD_ROW
from sinks.kafka_records import KafkaRecords
from sinks.redis_routes import RedisRouteStore
from sources.kafka_events import KafkaEvents
from waypost.build import build_id
from waypost.errors import SettingsError, TopicError, WaypostError
from waypost.model.fencing import RouteStore
from waypost.model.health_window import WindowPlan
from waypost.settings import Redis, Settings, brake_rules, damping_rules, kafka_properties
from waypost.topics import DEAD_LETTER, HEARTBEAT, ISOLATION, ROUTE_CHANGES, check_topics, default_topics
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


def configuration(settings: Settings) -> Configuration:
    """Return what the job needs of Flink whatever the cluster's defaults are."""
    conf = Configuration()
    conf.set_string("python.execution-mode", "thread")
    conf.set_string("pipeline.max-parallelism", str(settings.job.max_parallelism))
    conf.set_string("parallelism.default", str(settings.job.parallelism))
    conf.set_string("pipeline.object-reuse", "true")
    # Flink's default of 100 ms would be most of the latency of a change; 2 ms cost nothing at a few rows a second.
    conf.set_string("execution.buffer-timeout.interval", "2 ms")
    conf.set_string("pipeline.auto-watermark-interval", "50 ms")
    conf.set_string("execution.checkpointing.interval", f"{settings.job.checkpoint_ms} ms")
    # Exactly once for state: if the gate's part of a checkpoint were ahead of the lease folds', a lapse or renewal
    # in between could be lost for good. What leaves the job is idempotent and needs no more than at-least-once.
    conf.set_string("execution.checkpointing.mode", "EXACTLY_ONCE")
    conf.set_string("table.exec.uid.generation", "ALWAYS")
    conf.set_string("table.local-time-zone", "UTC")
    return conf


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
        rows.key_by(_everything, Types.INT())
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


def _everything(_row: object) -> int:
    """Key of the gate: one, so that it sees every shard."""
    return 0


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


def _require_topics(settings: Settings) -> None:
    """Refuse to start on topics whose settings would make leases or the rebuild of tables wrong."""
    names = settings.topics
    wanted = default_topics(
        {
            REGISTRY_TOPIC: names.registry,
            HEARTBEAT: names.heartbeat,
            ISOLATION: names.isolation,
            ROUTE_CHANGES: names.route_changes,
            DEAD_LETTER: names.dead_letter,
        }
    )
    roles = (REGISTRY_TOPIC, HEARTBEAT, ISOLATION, ROUTE_CHANGES, DEAD_LETTER)
    readers = dict.fromkeys((names.registry, names.heartbeat), settings.job.source_parallelism)
    problems = check_topics(settings.kafka.bootstrap, [wanted[role] for role in roles], readers=readers)
    if problems:
        raise TopicError("the topics are not as the job needs them:\n" + "\n".join(f"- {p}" for p in problems))


def _require_checkpoint_directory(env: StreamExecutionEnvironment) -> None:
    """Refuse to keep checkpoints in the JobManager's memory, where they end at 5 MB and with it."""
    merged = env._j_stream_execution_environment.getConfiguration().toMap()
    if not any(merged.get(name) for name in ("execution.checkpointing.dir", "state.checkpoints.dir")):
        raise SettingsError(
            "Flink has no directory for checkpoints, so the job would lose its leases with its JobManager: set "
            "execution.checkpointing.dir in Flink's configuration, or flink run -Dexecution.checkpointing.dir=file:///…"
        )


def main(arguments: list[str]) -> None:
    """Read the settings, check the topics, submit the job."""
    parser = argparse.ArgumentParser(
        prog="jobs.route_table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", dest="overrides")
    options = parser.parse_args(arguments)
    settings = Settings.load(options.config, os.environ, options.overrides)
    source = kafka_source(settings)
    if settings.kafka.check_topics:
        _require_topics(settings)

    env = StreamExecutionEnvironment.get_execution_environment(configuration(settings))
    _require_checkpoint_directory(env)
    env.get_config().set_global_job_parameters({"waypost.build": build_id()})
    tables = StreamTableEnvironment.create(env)
    sink = KafkaRecords(bootstrap=source.bootstrap, properties=source.properties)
    build(tables, source, sink, settings)
    env.execute(NAME)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        main(sys.argv[1:])
    except WaypostError as error:
        sys.exit(f"waypost: {error}")
