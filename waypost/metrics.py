"""The register of metrics: everything that is exported, and what of others the dashboards and alerts rely on.

Plain data. The job's operators count with `jobs.operators.meters`, processes of our own with `waypost.metrics_server`;
`dashboards/` may use no name that is not here, and a test compares. `docs/metrics.md` is generated from it.

Nothing is counted per heartbeat: the job counts per tick row, per registration and per publication.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

JOB_PREFIX = "flink_taskmanager_job_task_operator_waypost_"
"""How Flink's Prometheus reporter names what an operator counts in the group `waypost`."""


class Kind(str, Enum):
    """How values behave. Flink's reporter calls all of them gauges; rates and quantiles work all the same."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(str, Enum):
    """Which process exports it."""

    ROUTE_JOB = "TaskManager, counted by the route job"
    REPAIR_JOB = "TaskManager, counted by the repair job"
    FLINK = "Flink itself"
    WITNESS = "witness"
    KEEPER = "run-job"
    BRIDGE = "bridge"
    AGENT = "agent"
    MIRROR = "mirror"
    CONFIG_SYNC = "config-sync"
    CONTROLLER = "controller"
    PROMETHEUS = "Prometheus"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. `labels` are ours; Flink adds job_name, operator_name, subtask_index, tm_id and others.

    `values` lists what the only label can be, so that each exists from the start: an alert on an increase does not see
    a series that begins with 1. `buckets` are upper bounds of a histogram in its unit.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    origin: Origin
    where: str = ""
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    buckets: tuple[int, ...] = ()

    @property
    def by_an_operator(self) -> bool:
        """Whether an operator of one of our jobs counts it, so that Flink's reporter names it."""
        return self.origin in (Origin.ROUTE_JOB, Origin.REPAIR_JOB)

    @property
    def exported(self) -> tuple[str, ...]:
        """Return the names under which Prometheus sees it."""
        if not self.by_an_operator:
            return (self.name,)
        # A label is a group of its own in Flink, and groups are part of the name.
        path = JOB_PREFIX + "".join(f"{label}_" for label in self.labels)
        if self.kind is Kind.HISTOGRAM:
            return (f"{path}le_{self.name}_bucket", f"{path}{self.name}_sum", f"{path}{self.name}_count")
        return (f"{path}{self.name}",)


_More = tuple[str, ...] | tuple[int, ...]


def _job(
    name: str, kind: Kind, unit: str, where: str, text: str, *, origin: Origin = Origin.ROUTE_JOB, **more: _More
) -> Metric:
    return Metric(name=name, kind=kind, unit=unit, help=text, origin=origin, where=where, **more)  # type: ignore[arg-type]


_repair = partial(_job, origin=Origin.REPAIR_JOB)


def _flink(name: str, kind: Kind, unit: str, text: str) -> Metric:
    return Metric(name=name, kind=kind, unit=unit, help=text, origin=Origin.FLINK)


# -- heartbeats and leases -------------------------------------------------------------------------------------

BEATS = _job("beats_total", Kind.COUNTER, "beats", "lease fold", "beats that renewed a lease")
UNKNOWN_BEATS = _job("unknown_beats_total", Kind.COUNTER, "beats", "lease fold", "beats of ids nothing registered")
LATE_BEATS = _job("late_beats_total", Kind.COUNTER, "beats", "lease fold", "beats of ids deregistered before")
LEASES = _job("leases", Kind.GAUGE, "instances", "lease fold", "instances with a lease, live or lapsed")
LAPSES = _job(
    "lapses_total",
    Kind.COUNTER,
    "lapses",
    "gate",
    "lapses decided: passed; deferred because no beat could have arrived (again for each time it is deferred); held by "
    "the brake, and how such a hold ended: passed, timed out, or released by an operator",
    labels=("decision",),
    values=("passed", "deferred", "held", "timed-out", "released"),
)
HELD = _job("held_instances", Kind.GAUGE, "instances", "gate", "instances the brake holds although their lease lapsed")
DAMPINGS = _job(
    "dampings_total", Kind.COUNTER, "waits", "gate", "times an instance that flaps was told to stay away, or longer"
)
RENEWALS = _job(
    "renewals_total",
    Kind.COUNTER,
    "transitions",
    "gate",
    "lapsed leases that live again, and health reported by beats",
    labels=("fact",),
    values=("renewed", "health"),
)
TICKS = _job(
    "ticks_total",
    Kind.COUNTER,
    "ticks",
    "gate",
    "decisions by whether every shard's row was there; one complete tick per second while the log lives",
    labels=("rows",),
    values=("complete", "incomplete"),
)
TICK_LAG = _job("tick_lag_ms", Kind.GAUGE, "ms", "gate", "the TaskManager's clock minus the end of the newest tick")
SILENCE = _job(
    "silence_ms",
    Kind.GAUGE,
    "ms",
    "gate",
    "log time since anybody's last real beat, or, before the first one ever, since ticks have come without a gap",
)
WAITING = _job("deferred_lapses", Kind.GAUGE, "instances", "gate", "lapses that wait for beats to be possible again")

# -- changes and tables ----------------------------------------------------------------------------------------

REGISTRATIONS = _job(
    "registrations_total",
    Kind.COUNTER,
    "records",
    "route fold",
    "registration events read, by what they do",
    labels=("op",),
    values=("register", "update", "status", "drain", "deregister", "unprotect", "set"),
)
DEAD_LETTERS = _job(
    "dead_letters_total",
    Kind.COUNTER,
    "records",
    "decode registrations, explode node batches, decode isolations, lease fold, route fold",
    "records refused, by reason (docs/topics.md lists them)",
    labels=("reason",),
)
PUBLICATIONS = _job(
    "publications_total",
    Kind.COUNTER,
    "writes",
    "route fold",
    "publications Redis has taken",
    labels=("op",),
    values=("delta", "snapshot", "removed"),
)
CHANGED = _job("changed_endpoints_total", Kind.COUNTER, "endpoints", "route fold", "table entries written or removed")
REFUSED = _job(
    "refused_writes_total",
    Kind.COUNTER,
    "writes",
    "route fold",
    "publications not taken: another revision is there, no writer known, a newer writer, a broken key, no answer",
    labels=("why",),
    values=("need-snapshot", "not-open", "fenced", "refused", "unavailable"),
)
LATENCY = _job(
    "change_latency_ms",
    Kind.HISTOGRAM,
    "ms",
    "route fold",
    "append time of the oldest registration record in a publication until Redis acknowledged it; records read more "
    "than a minute late (a rebuild) are left out",
    buckets=(5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000),
)
SERVICES = _job("services", Kind.GAUGE, "services", "route fold", "services this task has met since it started")
PROTECTED = _job(
    "protected_services",
    Kind.GAUGE,
    "services",
    "route fold",
    "services whose table holds endpoints that the brake keeps, or the last one, and that this task has met",
)
ISOLATION_RECORDS = _job(
    "isolation_records_total",
    Kind.COUNTER,
    "records",
    "decode isolations",
    "isolation records read, about a service or a node, by what they do",
    labels=("action",),
    values=("isolate", "release"),
)
ISOLATIONS_IN_FORCE = _job(
    "isolations",
    Kind.GAUGE,
    "isolations",
    "route fold",
    "isolations that are not over, of services that this task has met; one of a node counts for each of its services",
)
SPARED = _job(
    "spared_instances_total",
    Kind.COUNTER,
    "instances",
    "route fold",
    "instances that stayed in their table although a repair isolated them: nothing else of the service was routable",
)
NODE_SERVICES_KNOWN = _job(
    "node_services",
    Kind.GAUGE,
    "pairs",
    "node index",
    "services on nodes, every one that was ever there, as far as this task has met their nodes",
)
DIRTY = _job("dirty_services", Kind.GAUGE, "services", "route fold", "services with changes that wait for Redis")
PASSIVE = _job("passive", Kind.GAUGE, "0 or 1", "route fold", "1: another job owns the tables, this one is silent")

# -- audit -----------------------------------------------------------------------------------------------------

HEALS = _job(
    "audit_heals_total",
    Kind.COUNTER,
    "tables",
    "route fold",
    "tables written again because Redis held something else, by what was found",
    labels=("damage",),
    values=(
        "meta-missing",
        "meta-differs",
        "entries-missing",
        "entries-added",
        "entries-differ",
        "instances-missing",
        "unlisted",
        "wrong-type",
    ),
)
AUDIT_PARTS = _job("audit_parts_total", Kind.COUNTER, "reads", "route fold", "parts of tables compared")
AUDIT_TIME = _job("audit_microseconds_total", Kind.COUNTER, "µs", "route fold", "time spent comparing")

# -- repairs ---------------------------------------------------------------------------------------------------

REPAIR_REFUSALS = _repair(
    "repair_refusals_total",
    Kind.COUNTER,
    "decisions",
    "target fold, budget",
    "decisions not to repair, by reason (docs/self-healing.md lists them)",
    labels=("reason",),
)
REPAIR_GRANTS = _repair(
    "repair_grants_total",
    Kind.COUNTER,
    "actions",
    "budget",
    "actions that may begin: repairs, and taking back what one did",
    labels=("kind",),
    values=("act", "undo"),
)
REPAIR_OUTCOMES = _repair(
    "repair_outcomes_total",
    Kind.COUNTER,
    "actions",
    "execution",
    "how granted actions ended",
    labels=("outcome",),
    values=("succeeded", "failed", "not-done"),
)
REPAIR_ALARMS = _repair(
    "repair_alarms_total",
    Kind.COUNTER,
    "calls",
    "execution",
    "calls to the Kubernetes API that were not made because they named nothing: a fault of this program",
)
REPAIR_CONFIG = _repair(
    "repair_config_refused",
    Kind.GAUGE,
    "0 or 1",
    "target fold",
    "1: the newest policies or the newest word on the switch were refused; the policies before them are in force",
)
REPAIR_INCIDENTS = _repair(
    "repair_incidents_total",
    Kind.COUNTER,
    "incidents",
    "incident fold",
    "causes that many symptoms had in common, by what they are about",
    labels=("about",),
    values=("zone", "node", "version"),
)
REPAIRS_WAITING = _repair("repairs_waiting", Kind.GAUGE, "actions", "budget", "actions that wait for the budget")
REPAIR_TABLES = _repair("repair_tables", Kind.GAUGE, "services", "budget", "services whose table the budget knows")

# -- processes of ours -----------------------------------------------------------------------------------------

WITNESS_ROUNDS = Metric(
    name="waypost_witness_rounds_total",
    kind=Kind.COUNTER,
    unit="rounds",
    help="rounds of witness records sent without a loss; two per second",
    origin=Origin.WITNESS,
)
WITNESS_LAST = Metric(
    name="waypost_witness_last_round_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when the last such round was sent",
    origin=Origin.WITNESS,
)
KEEPER_REPORTS = Metric(
    name="waypost_keeper_reports_total",
    kind=Kind.COUNTER,
    unit="reports",
    help="what happened to the job: submitted, healthy, failed, …",
    origin=Origin.KEEPER,
    labels=("what",),
)
KEEPER_LAST = Metric(
    name="waypost_keeper_job_seen_running_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when every task of the job was last seen running",
    origin=Origin.KEEPER,
)

BRIDGE_REQUESTS = Metric(
    name="waypost_bridge_requests_total",
    kind=Kind.COUNTER,
    unit="requests",
    help="notifications by how they were answered; 503: Kafka was away and Alertmanager sends them again",
    origin=Origin.BRIDGE,
    labels=("status",),
    values=("200", "400", "401", "413", "503"),
)
BRIDGE_ALERTS = Metric(
    name="waypost_bridge_alerts_total",
    kind=Kind.COUNTER,
    unit="alerts",
    help="alerts that Kafka has taken, and alerts that went to dead-letter instead",
    origin=Origin.BRIDGE,
    labels=("what",),
    values=("written", "refused"),
)
BRIDGE_LAST = Metric(
    name="waypost_bridge_last_write_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when Kafka last took a notification",
    origin=Origin.BRIDGE,
)
AGENT_INSTANCES = Metric(
    name="waypost_agent_instances",
    kind=Kind.GAUGE,
    unit="instances",
    help="instances that this agent looks after, by where they are in their life",
    origin=Origin.AGENT,
    labels=("stage",),
    values=("STARTING", "UP", "DRAINING", "LEAVING"),
)
AGENT_UNTOLD = Metric(
    name="waypost_agent_untold_instances",
    kind=Kind.GAUGE,
    unit="instances",
    help="those of which the log does not know all yet, because Kafka is away or has just been told",
    origin=Origin.AGENT,
)
AGENT_WORDS = Metric(
    name="waypost_agent_words_total",
    kind=Kind.COUNTER,
    unit="records",
    help="registrations, drains, deregistrations and changes of health that Kafka has acknowledged",
    origin=Origin.AGENT,
)
AGENT_BEATS = Metric(
    name="waypost_agent_beats_total",
    kind=Kind.COUNTER,
    unit="beats",
    help="beats that Kafka has acknowledged; many share a record",
    origin=Origin.AGENT,
)
AGENT_RECORDS = Metric(
    name="waypost_agent_records_total",
    kind=Kind.COUNTER,
    unit="records",
    help="records that Kafka has acknowledged, words and beats",
    origin=Origin.AGENT,
)
AGENT_FAILURES = Metric(
    name="waypost_agent_failed_writes_total",
    kind=Kind.COUNTER,
    unit="writes",
    help="writes that Kafka did not acknowledge in time; each is tried again",
    origin=Origin.AGENT,
)
AGENT_LAST = Metric(
    name="waypost_agent_last_write_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when Kafka last acknowledged a write",
    origin=Origin.AGENT,
)
AGENT_LOOKS = Metric(
    name="waypost_agent_looks_total",
    kind=Kind.COUNTER,
    unit="looks",
    help="health checks made",
    origin=Origin.AGENT,
    labels=("result",),
    values=("passed", "failed"),
)
AGENT_PROXIED = Metric(
    name="waypost_agent_proxied_total",
    kind=Kind.COUNTER,
    unit="requests",
    help="requests to the local proxy: answered by an instance, whatever it said; failed, after all tries; refused; or "
    "gone before there was an answer",
    origin=Origin.AGENT,
    labels=("outcome",),
    values=("answered", "failed", "refused", "gone"),
)

MIRROR_SETS = Metric(
    name="waypost_mirror_sets_total",
    kind=Kind.COUNTER,
    unit="sets",
    help="sets of services that Kafka has acknowledged",
    origin=Origin.MIRROR,
)
MIRROR_ENDPOINTS = Metric(
    name="waypost_mirror_endpoints",
    kind=Kind.GAUGE,
    unit="endpoints",
    help="endpoints that are declared now, all services together; from the first set on",
    origin=Origin.MIRROR,
)
MIRROR_LAST = Metric(
    name="waypost_mirror_last_set_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when Kafka last took a set",
    origin=Origin.MIRROR,
)

CONFIG_SYNC_CHANGE_SETS = Metric(
    name="waypost_config_sync_change_sets_total",
    kind=Kind.COUNTER,
    unit="change sets",
    help="change sets that were committed to service-config",
    origin=Origin.CONFIG_SYNC,
)
CONFIG_SYNC_RECORDS = Metric(
    name="waypost_config_sync_records_total",
    kind=Kind.COUNTER,
    unit="records",
    help="records in them, tombstones as well",
    origin=Origin.CONFIG_SYNC,
)
CONFIG_SYNC_CONFIGS = Metric(
    name="waypost_config_sync_configs",
    kind=Kind.GAUGE,
    unit="configurations",
    help="configurations of this source on the topic; from the first change set on",
    origin=Origin.CONFIG_SYNC,
)
CONFIG_SYNC_REFUSED = Metric(
    name="waypost_config_sync_unpublished_config_maps",
    kind=Kind.GAUGE,
    unit="ConfigMaps",
    help="ConfigMaps that are not published as they are: they wait for the others of their change set, are refused, or "
    "are missing in suspicious number and their configurations stay",
    origin=Origin.CONFIG_SYNC,
    labels=("why",),
    values=("waiting", "refused", "withheld"),
)
CONFIG_SYNC_FAILURES = Metric(
    name="waypost_config_sync_failures_total",
    kind=Kind.COUNTER,
    unit="failures",
    help="transactions and readings of the topic that failed; each is tried again",
    origin=Origin.CONFIG_SYNC,
)
CONFIG_SYNC_LAST = Metric(
    name="waypost_config_sync_last_write_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when a transaction was last committed",
    origin=Origin.CONFIG_SYNC,
)
CONTROLLER_LEADS = Metric(
    name="waypost_controller_leads",
    kind=Kind.GAUGE,
    unit="0 or 1",
    help="whether this controller works; the others wait. The sum over all is 1, for some seconds 0",
    origin=Origin.CONTROLLER,
)
CONTROLLER_PASSES = Metric(
    name="waypost_controller_passes_total",
    kind=Kind.COUNTER,
    unit="passes",
    help="looks at one KafkaServiceDiscovery: done, or failed because the API server could not be asked or told",
    origin=Origin.CONTROLLER,
    labels=("result",),
    values=("done", "failed"),
)
CONTROLLER_STEPS = Metric(
    name="waypost_controller_steps_total",
    kind=Kind.COUNTER,
    unit="objects",
    help="objects that were made (create), or that differed from what was asked for (heal)",
    origin=Origin.CONTROLLER,
    labels=("step",),
    values=("create", "heal"),
)
CONTROLLER_LAST = Metric(
    name="waypost_controller_last_pass_timestamp_seconds",
    kind=Kind.GAUGE,
    unit="s",
    help="when the last look was done",
    origin=Origin.CONTROLLER,
)

# -- of others, used by dashboards/ ----------------------------------------------------------------------------

_OTHERS = (
    Metric(
        name="up",
        kind=Kind.GAUGE,
        unit="0 or 1",
        help="whether the last scrape succeeded",
        origin=Origin.PROMETHEUS,
    ),
    _flink("flink_jobmanager_job_runningTime", Kind.GAUGE, "ms", "how long the job has been running, 0 if it is not"),
    _flink("flink_jobmanager_job_numRestarts", Kind.GAUGE, "restarts", "restarts of the job since it was submitted"),
    _flink("flink_jobmanager_numRegisteredTaskManagers", Kind.GAUGE, "processes", "TaskManagers that registered"),
    _flink("flink_jobmanager_job_numberOfCompletedCheckpoints", Kind.GAUGE, "checkpoints", "completed checkpoints"),
    _flink("flink_jobmanager_job_numberOfFailedCheckpoints", Kind.GAUGE, "checkpoints", "failed checkpoints"),
    _flink("flink_jobmanager_job_lastCheckpointDuration", Kind.GAUGE, "ms", "how long the last checkpoint took"),
    _flink("flink_jobmanager_job_lastCheckpointSize", Kind.GAUGE, "bytes", "size of the last checkpoint"),
    _flink("flink_taskmanager_job_task_operator_pendingRecords", Kind.GAUGE, "records", "read lag of a Kafka source"),
    _flink("flink_taskmanager_job_task_busyTimeMsPerSecond", Kind.GAUGE, "ms/s", "how busy a task is"),
    _flink("flink_taskmanager_Status_JVM_Memory_Heap_Used", Kind.GAUGE, "bytes", "heap of a TaskManager"),
    _flink("flink_taskmanager_Status_JVM_CPU_Time", Kind.GAUGE, "ns", "processor time of a TaskManager"),
)


def register() -> Iterator[Metric]:
    """Yield every metric, in the order of this file."""
    for value in list(globals().values()):
        if isinstance(value, Metric):
            yield value
    yield from _OTHERS
