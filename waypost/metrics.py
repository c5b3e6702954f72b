"""The register of metrics: everything that is exported, and what of others the dashboards and alerts rely on.

Plain data. The job's operators count with `jobs.operators.meters`, processes of our own with `waypost.metrics_server`;
`dashboards/` may use no name that is not here, and a test compares. `docs/metrics.md` is generated from it.

Nothing is counted per heartbeat: the job counts per tick row, per registration and per publication.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

JOB_PREFIX = "flink_taskmanager_job_task_operator_waypost_"
"""How Flink's Prometheus reporter names what an operator counts in the group `waypost`."""


class Kind(str, Enum):
    """How values behave. Flink's reporter calls all of them gauges; rates and quantiles work all the same."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(str, Enum):
    """Which process exports it."""

    JOB = "TaskManager, counted by the job"
    FLINK = "Flink itself"
    WITNESS = "witness"
    KEEPER = "run-job"
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
    def exported(self) -> tuple[str, ...]:
        """Return the names under which Prometheus sees it."""
        if self.origin is not Origin.JOB:
            return (self.name,)
        # A label is a group of its own in Flink, and groups are part of the name.
        path = JOB_PREFIX + "".join(f"{label}_" for label in self.labels)
        if self.kind is Kind.HISTOGRAM:
            return (f"{path}le_{self.name}_bucket", f"{path}{self.name}_sum", f"{path}{self.name}_count")
        return (f"{path}{self.name}",)


def _job(name: str, kind: Kind, unit: str, where: str, text: str, **more: tuple[str, ...] | tuple[int, ...]) -> Metric:
    return Metric(name=name, kind=kind, unit=unit, help=text, origin=Origin.JOB, where=where, **more)  # type: ignore[arg-type]


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
    "decode registrations, explode node batches, lease fold, route fold",
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
