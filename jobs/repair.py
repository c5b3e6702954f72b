"""The repair job: alerts in, careful repairs at the Kubernetes API out.

    flink run -pym jobs.repair -pyfs waypost-job.zip --set kafka.bootstrap=… --set repair.kubeconfig=…

    alerts ──────────► one key: INCIDENTS ─┐
       route-changes ────┘                 │
    repair-results,                        ▼
    service-config ──► by target: TARGET FOLD ──► one key: BUDGET ──► by target: EXECUTION ──► Kubernetes API
                                   │               ▲    │                            │
    route-changes ─────────────────┼───────────────┘    │                            ├──► repair-results
                                   └─► repair-actions ◄─┘                            └──► service-isolation

Only wiring here. What a step does is in `jobs.operators`, by which rule in `waypost.model` and `waypost.repair`. What
became of a repair comes back through Kafka.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pyflink.common import Types
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

from jobs import route_table
from jobs.operators.alerts import DECISIONS, TargetFold
from jobs.operators.budget import RESULTS as NOT_BEGUN
from jobs.operators.budget import BudgetStage
from jobs.operators.incidents import IncidentStage
from jobs.operators.outputs import DEAD_LETTERS
from jobs.operators.repair_inputs import AlertDecoder, ChangeReader, ResultDecoder, WordDecoder
from jobs.operators.repairs import ISOLATIONS, RepairExecution
from jobs.operators.repairs import Sink as RepairSink
from jobs.ticks import row_field
from schemas.flink_types import OUTPUT_RECORD
from schemas.repair_types import REPAIR_INPUT
from sinks.kafka_records import KafkaRecords
from sinks.kubernetes_repair import ConfigReader, KubernetesRepairSink
from sources.kafka_repairs import ALERTS, CHANGES, CONFIGS, RESULTS, KafkaRepairs, records_of
from waypost import topics as roles
from waypost.build import build_id
from waypost.errors import TopicError, WaypostError
from waypost.repair.configuration import Configured
from waypost.settings import Settings, kafka_properties
from waypost.topics import check_topics, default_topics

NAME = "waypost-repair"


class Source(Protocol):
    """Creates the tables that `sources.kafka_repairs` names."""

    def create(self, tables: StreamTableEnvironment) -> None: ...


class Records(Protocol):
    """Takes OUTPUT_RECORD rows."""

    def write(self, records: DataStream, topic: str, uid: str) -> None: ...


def build(
    tables: StreamTableEnvironment,
    source: Source,
    records: Records,
    settings: Settings,
    repairs: RepairSink,
    configured: Callable[[], Configured],
) -> None:
    """Wire the job up on `tables`. Starts nothing."""
    topics = settings.topics
    source.create(tables)
    by_target = row_field(0)

    alerts = records_of(tables, ALERTS).process(AlertDecoder(topics.alerts), REPAIR_INPUT).name("alerts").uid("alerts")
    results = (
        records_of(tables, RESULTS)
        .process(ResultDecoder(topics.repair_results), REPAIR_INPUT)
        .name("results")
        .uid("results")
    )
    words = records_of(tables, CONFIGS).process(WordDecoder(topics.config), REPAIR_INPUT).name("words").uid("words")
    changes = (
        records_of(tables, CHANGES)
        .process(ChangeReader(topics.route_changes), REPAIR_INPUT)
        .name("changes of tables")
        .uid("changes-of-tables")
    )
    folded = (
        alerts.union(changes)
        .key_by(_everything, Types.INT())
        .process(IncidentStage(), REPAIR_INPUT)
        .name("incident fold")
        .uid("incident-fold")
    )
    decided = (
        folded.union(results, words)
        .key_by(by_target, Types.STRING())
        .process(TargetFold(configured), REPAIR_INPUT)
        .name("target fold")
        .uid("target-fold")
    )
    granted = (
        decided.union(results, changes)
        .key_by(_everything, Types.INT())
        .process(BudgetStage(configured), REPAIR_INPUT)
        .name("budget")
        .uid("budget")
    )
    outcomes = (
        granted.key_by(by_target, Types.STRING())
        .process(RepairExecution(repairs), OUTPUT_RECORD)
        .name("execution")
        .uid("execution")
    )
    decisions = decided.get_side_output(DECISIONS).union(granted.get_side_output(DECISIONS))
    refused = [stream.get_side_output(DEAD_LETTERS) for stream in (alerts, results, words, changes)]
    records.write(decisions, topics.repair_actions, "repair-actions")
    records.write(outcomes.union(granted.get_side_output(NOT_BEGUN)), topics.repair_results, "repair-results")
    records.write(outcomes.get_side_output(ISOLATIONS), topics.isolation, "isolations")
    records.write(refused[0].union(*refused[1:]), topics.dead_letter, "dead-letters")


def _everything(_row: object) -> int:
    """Key of incidents and of the budget: one, so that they see everything."""
    return 0


def kafka_source(settings: Settings) -> KafkaRepairs:
    """Return the inputs these settings name."""
    return KafkaRepairs(
        bootstrap=settings.kafka.bootstrap,
        group_id=settings.repair.group_id,
        alerts=settings.topics.alerts,
        results=settings.topics.repair_results,
        configs=settings.topics.config,
        changes=settings.topics.route_changes,
        properties=kafka_properties(settings),
    )


def _require_topics(settings: Settings) -> None:
    """Refuse to start on topics whose settings would lose what repairs are decided on."""
    names = settings.topics
    used = {
        roles.ALERTS: names.alerts,
        roles.REPAIR_ACTIONS: names.repair_actions,
        roles.REPAIR_RESULTS: names.repair_results,
        roles.CONFIG: names.config,
        roles.ROUTE_CHANGES: names.route_changes,
        roles.ISOLATION: names.isolation,
        roles.DEAD_LETTER: names.dead_letter,
    }
    wanted = default_topics(used)
    problems = check_topics(settings.kafka.bootstrap, [wanted[role] for role in used])
    if problems:
        raise TopicError("the topics are not as the job needs them:\n" + "\n".join(f"- {p}" for p in problems))


def main(arguments: list[str]) -> None:
    """Read the settings, check the topics, submit the job."""
    parser = argparse.ArgumentParser(
        prog="jobs.repair", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", dest="overrides")
    options = parser.parse_args(arguments)
    settings = Settings.load(options.config, os.environ, options.overrides)
    source = kafka_source(settings)
    repairs = KubernetesRepairSink.of(settings)
    if settings.kafka.check_topics:
        _require_topics(settings)

    env = StreamExecutionEnvironment.get_execution_environment(route_table.configuration(settings))
    route_table._require_checkpoint_directory(env)
    env.get_config().set_global_job_parameters({"waypost.build": build_id()})
    tables = StreamTableEnvironment.create(env)
    records = KafkaRecords(bootstrap=source.bootstrap, properties=source.properties)
    build(tables, source, records, settings, repairs, ConfigReader.of(settings))
    env.execute(NAME)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        main(sys.argv[1:])
    except WaypostError as error:
        sys.exit(f"waypost: {error}")
