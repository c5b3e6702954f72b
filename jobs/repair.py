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

from collections.abc import Callable
from typing import Protocol

from pyflink.common import Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from jobs.operators.alerts import DECISIONS, TargetFold
from jobs.operators.budget import RESULTS as NOT_BEGUN
from jobs.operators.budget import BudgetStage
from jobs.operators.incidents import IncidentStage
from jobs.operators.outputs import DEAD_LETTERS
from jobs.operators.repair_inputs import AlertDecoder, ChangeReader, ResultDecoder, WordDecoder
from jobs.operators.repairs import ISOLATIONS, RepairExecution
from jobs.operators.repairs import Sink as RepairSink
from jobs.submission import environment, everything, read_settings, require_topics, submit
from jobs.ticks import row_field
from schemas.flink_types import OUTPUT_RECORD
from schemas.repair_types import REPAIR_INPUT
from sinks.kafka_records import KafkaRecords
from sinks.kubernetes_repair import ConfigReader, KubernetesRepairSink
from sources.kafka_repairs import ALERTS, CHANGES, CONFIGS, RESULTS, KafkaRepairs, records_of
from waypost import topics as roles
from waypost.repair.configuration import Configured
from waypost.settings import Settings, kafka_properties

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
        .key_by(everything, Types.INT())
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
        .key_by(everything, Types.INT())
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


def main(arguments: list[str]) -> None:
    """Read the settings, check the topics, submit the job."""
    settings = read_settings("jobs.repair", __doc__, arguments)
    source, names = kafka_source(settings), settings.topics
    repairs = KubernetesRepairSink.of(settings)
    used = {
        roles.ALERTS: names.alerts,
        roles.REPAIR_ACTIONS: names.repair_actions,
        roles.REPAIR_RESULTS: names.repair_results,
        roles.CONFIG: names.config,
        roles.ROUTE_CHANGES: names.route_changes,
        roles.ISOLATION: names.isolation,
        roles.DEAD_LETTER: names.dead_letter,
    }
    require_topics(settings, used)
    env = environment(settings)
    records = KafkaRecords(bootstrap=source.bootstrap, properties=source.properties)
    build(StreamTableEnvironment.create(env), source, records, settings, repairs, ConfigReader.of(settings))
    env.execute(NAME)


if __name__ == "__main__":
    submit(main)
