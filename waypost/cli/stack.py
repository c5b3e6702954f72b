"""`waypost up | down | status | submit | job-zip | witness`: the local stack."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

from waypost.cli.options import (
    kafka_address,
    kafka_option,
    metrics_options,
    output_option,
    process_metrics,
    state_dir_option,
)
from waypost.errors import StackError
from waypost.local import control, job_zip
from waypost.local.control import Event
from waypost.local.flink import TaskManagerMemory
from waypost.local.state import Stack, load_stack, running_stack
from waypost.local.supervisor import Options
from waypost.metrics import WITNESS_LAST, WITNESS_ROUNDS, Origin
from waypost.topics import HEARTBEAT, default_topics
from waypost.witness import DEFAULT_SHARDS, KafkaProducerForWitness, Witness

_CONFIG_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Return when everything is healthy and leave it running.")
@state_dir_option
@click.option(
    "--task-managers",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Flink TaskManagers of one slot each; those the job does not need stand by.",
)
@click.option(
    "--task-heap",
    type=click.IntRange(256, 16384),
    default=TaskManagerMemory.heap,
    show_default=True,
    metavar="MB",
    help="Heap for records and state in each TaskManager; ~1000 above 500,000 instances.",
)
@click.option(
    "--shards", type=click.IntRange(1, 4096), default=DEFAULT_SHARDS, show_default=True, help="The job's lease.shards."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Setting for the job; may be repeated.")
@click.option("--config", type=_CONFIG_FILE, help="Settings file for the job.")
@click.option("--flink-set", multiple=True, metavar="KEY=VALUE", help="Flink configuration; may be repeated.")
@click.option("--job-zip", "archive", type=_CONFIG_FILE, help="Run this archive instead of this source tree.")
@click.option("--job-module", default=control.JOB_MODULE, hidden=True)
@click.option("--job-name", default=control.JOB_NAME, hidden=True)
@click.option("--no-job", is_flag=True, help="Start the servers only.")
@click.option(
    "--metrics",
    is_flag=True,
    help="Serve /metrics; `waypost status` has the addresses. Flink's have no access control.",
)
@click.option(
    "--gateway",
    type=click.Choice(["traefik", "envoy", "none"]),
    default="none",
    show_default=True,
    help="A gateway in front of all services, and the feed that tells it its routes.",
)
@click.option("--repair", is_flag=True, help="Run the repair job beside the route job, in one more TaskManager.")
@click.option(
    "--kubeconfig",
    type=_CONFIG_FILE,
    help="The cluster to repair; without it the repair job can only show what it would do.",
)
@click.option("--timeout", type=float, default=600.0, show_default=True, metavar="SECONDS", help="Give up after this.")
def up(
    detach: bool,
    state_dir: Path,
    task_managers: int,
    task_heap: int,
    shards: int,
    settings: tuple[str, ...],
    config: Path | None,
    flink_set: tuple[str, ...],
    archive: Path | None,
    job_module: str,
    job_name: str,
    no_job: bool,
    metrics: bool,
    gateway: str,
    repair: bool,
    kubeconfig: Path | None,
    timeout: float,
) -> None:
    """Start Kafka, Valkey, Flink, the witness and the route job on this machine, and a gateway if wanted.

    Ports are chosen free, everything listens on loopback only. What dies is restarted; the job
    resumes from its newest checkpoint. Without --detach it runs until Ctrl-C. Data stays in the state
    directory until `waypost down --purge`.
    """
    if any(item.partition("=")[0].strip() == "lease.shards" for item in settings):
        raise click.UsageError("the witness has to know the number of shards as well: use --shards N, not --set")
    if repair and no_job:
        raise click.UsageError("--repair needs the route job, whose tables it reads: not with --no-job")
    if kubeconfig is not None and not repair:
        raise click.UsageError("--kubeconfig is for the repair job: say --repair as well")
    try:
        existing: Stack | None = running_stack(state_dir)
    except StackError:
        existing = None
    if existing is not None and gateway not in ("none", existing.gateway):
        raise StackError(f"the stack is up with gateway {existing.gateway}; `waypost down` first")
    if existing is not None and repair and existing.repair is None:
        raise StackError("the stack is up without the repair job; `waypost down` first")
    if existing is not None and existing.ready:
        click.echo(f"already up (supervisor {existing.supervisor.pid if existing.supervisor else '?'})")
        _print_addresses(existing)
        return

    # An interrupt or a hang-up anywhere below ends as a clean `down`.
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(_interrupted()))
    began = time.monotonic()
    started = False
    try:
        if existing is None:
            # What a crashed supervisor left would keep the ports and the data directories.
            control.stop(state_dir, say=lambda text: _line(began, "stack", text))
            control.claim(state_dir)
            started = True
            record = None
            if not no_job:
                arguments = tuple(part for item in settings for part in ("--set", item))
                arguments += ("--config", str(config.resolve())) if config else ()
                record = control.pack_job(
                    state_dir, archive=archive, module=job_module, name=job_name, arguments=arguments
                )
                _line(began, "job", "packed", f"build {record.build}")
            repairs = None
            if record is not None and repair:
                repairs = control.repair_of(record, kubeconfig)
            options = Options(
                task_managers=task_managers + bool(repair),
                shards=shards,
                job=record,
                repair=repairs,
                flink_settings=dict(_pair(item) for item in flink_set),
                task_heap_mb=task_heap,
                metrics=metrics,
                gateway=gateway,
            )
            process = control.start(state_dir, options, dies_with_us=not detach)
            alive: Callable[[], bool] = lambda: process.poll() is None  # noqa: E731
        else:
            click.echo("already starting")
            alive = lambda: _is_up(state_dir)  # noqa: E731
        for event in control.follow(
            state_dir, until=lambda event: _is_ready(event, state_dir), alive=alive, timeout_s=timeout
        ):
            _print_event(event)
        stack = load_stack(state_dir)
        _line(began, "stack", "ready", f"in {time.monotonic() - began:.1f} s")
        _print_addresses(stack)
        if detach:
            return
        click.echo("Ctrl-C stops everything; data stays. `waypost status` in another terminal shows the parts.")
        later = control.follow(
            state_dir,
            until=lambda _: False,
            alive=alive,
            timeout_s=float("inf"),
            offset=control.diary_end(state_dir),
        )
        for event in later:
            _print_event(event)
    except (KeyboardInterrupt, SystemExit):
        if started:
            click.echo()
            _uninterrupted(lambda: control.stop(state_dir, say=click.echo))
            click.echo("stopped")
        sys.exit(130)
    except StackError:
        if started:
            _uninterrupted(lambda: control.stop(state_dir, say=click.echo))
        raise


@click.command()
@click.option("--purge", is_flag=True, help="Also delete the state directory: topics, tables, checkpoints, logs.")
@state_dir_option
def down(purge: bool, state_dir: Path) -> None:
    """Stop everything `waypost up` started, also after a crash.

    The job is stopped with a savepoint and resumes there next time. With --purge nothing remains.
    """
    existed = state_dir.exists()
    ran = control.stop(state_dir, purge=purge, say=click.echo)
    deleted = existed and not state_dir.exists()
    click.echo(("stopped" if ran else "nothing was running") + (f", {state_dir.name} deleted" if deleted else ""))


@click.command()
@output_option
@state_dir_option
def status(output: str, state_dir: Path) -> None:
    """Show each part with address and health; exit status 1 when something is not healthy."""
    report = control.status(load_stack(state_dir))
    if output == "json":
        click.echo(json.dumps(report, indent=2))
    elif output == "yaml":
        click.echo(yaml.safe_dump(report, sort_keys=False), nl=False)
    else:
        _print_status(report)
    sys.exit(0 if report["healthy"] else 1)


@click.command()
@state_dir_option
@click.option("--job-zip", "archive", type=_CONFIG_FILE, help="Submit this archive instead of this source tree.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Setting for the job; may be repeated.")
@click.option("--config", type=_CONFIG_FILE, help="Settings file for the job.")
@click.option("--without-state", is_flag=True, help="Start empty and rebuild from the log.")
@click.option("--allow-non-restored-state", is_flag=True, help="Drop state of operators the new code does not have.")
@click.option("--job-module", default=control.JOB_MODULE, hidden=True)
@click.option("--job-name", default=control.JOB_NAME, hidden=True)
@click.option("--timeout", type=float, default=180.0, show_default=True, metavar="SECONDS", help="Give up after this.")
def submit(
    state_dir: Path,
    archive: Path | None,
    settings: tuple[str, ...],
    config: Path | None,
    without_state: bool,
    allow_non_restored_state: bool,
    job_module: str,
    job_name: str,
    timeout: float,
) -> None:
    """Replace the running job by this tree's code, keeping its state.

    Stops the job with a savepoint, starts fresh TaskManagers (a Python interpreter keeps the modules
    of an earlier job) and resumes from the savepoint. When the new code cannot be submitted, the old build
    is started again.
    """
    stack = running_stack(state_dir)
    if stack.repair is not None:
        # Its TaskManager would keep the old build's modules, and the two share the pool.
        raise StackError(
            "two jobs run here: `waypost down` and `waypost up --repair` bring the new build, with the state"
        )
    arguments = tuple(part for item in settings for part in ("--set", item))
    arguments += ("--config", str(config.resolve())) if config else ()
    if not arguments and stack.job is not None and stack.job.module == job_module:
        arguments = stack.job.arguments
    record = control.pack_job(state_dir, archive=archive, module=job_module, name=job_name, arguments=arguments)
    click.echo(f"build {record.build}")
    request = control.request_submission(
        state_dir, record, keep_state=not without_state, allow_non_restored=allow_non_restored_state
    )
    seen = submitted = False
    for event in control.follow(
        state_dir,
        until=lambda _: False,
        alive=lambda: _is_up(state_dir),
        timeout_s=timeout,
    ):
        seen = seen or event.request == request
        if not seen:
            continue
        _print_event(event)
        if event.request == request and event.what in ("failed", "refused"):
            raise StackError(event.detail)
        submitted = submitted or (event.request == request and event.what == "submitted")
        if submitted and event.part == "job" and event.what == "healthy":
            break


@click.command("job-zip")
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Where to write it. [default: dist/{job_zip.NAME} of the source tree]",
)
def job_zip_command(to: Path | None) -> None:
    """Build the archive that `flink run -pyfs` takes, from this source tree."""
    root = job_zip.source_root()
    target = to or root / "dist" / job_zip.NAME
    build = job_zip.build(root, target)
    click.echo(f"{target} build {build}")


@click.command()
@kafka_option
@state_dir_option
@click.option("--topic", default=default_topics()[HEARTBEAT].name, show_default=True, help="The heartbeat topic.")
@click.option(
    "--shards", type=click.IntRange(1, 4096), default=DEFAULT_SHARDS, show_default=True, help="The job's lease.shards."
)
@click.option(
    "--alive-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touched after each half second in which Kafka lost nothing: for a probe that looks at its age.",
)
@metrics_options
def witness(
    kafka: str | None,
    state_dir: Path,
    topic: str,
    shards: int,
    alive_file: Path | None,
    metrics_host: str,
    metrics_port: int | None,
) -> None:
    """Keep the heartbeat log's clock moving: an empty record per shard, twice a second, until stopped.

    `waypost up` runs one. On a cluster run two, on different machines: while nobody writes to the log no
    lease can end, which is safe but not what you want to rely on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s level=%(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    bootstrap = kafka_address(kafka, state_dir)
    metrics = process_metrics(Origin.WITNESS, metrics_host, metrics_port)

    def on_round() -> None:
        metrics.count(WITNESS_ROUNDS)
        metrics.now(WITNESS_LAST)
        if alive_file:
            alive_file.touch()

    running = Witness(connect=lambda: KafkaProducerForWitness(bootstrap, topic), shards=shards, on_round=on_round)
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: running.stop())
    running.run()


commands: list[click.Command] = [up, down, status, submit, job_zip_command, witness]


# --- printing ---------------------------------------------------------------------------------


def _print_event(event: Event) -> None:
    _line(time.monotonic() - event.elapsed, event.part, event.what, event.detail)


def _line(began: float, part: str, what: str, detail: str = "") -> None:
    click.echo(f"{time.monotonic() - began:7.1f} s  {part:<15} {what:<12} {detail}".rstrip())


def _print_addresses(stack: Stack) -> None:
    click.echo(f"  Kafka  {stack.kafka_bootstrap}")
    click.echo(f"  Redis  {stack.redis_url}")
    click.echo(f"  Flink  {stack.flink_rest}")
    if stack.gateway != "none":
        click.echo(
            f"  {stack.gateway.capitalize():<8}{stack.gateway_url}/<namespace>/<service>/, admin {stack.gateway_admin}"
        )
    click.echo(f"  state  {stack.state_dir}")


def _print_status(report: dict[str, Any]) -> None:
    flink = report["flink"]
    rows = [
        ("supervisor", report["supervisor"], f"pid {report['supervisor']['pid']}"),
        ("kafka", report["kafka"], report["kafka"]["bootstrap"]),
        ("redis", report["redis"], report["redis"]["url"]),
        ("flink", flink, f"{flink['rest']}, TaskManagers {flink['task_managers']}/{flink['task_managers_wanted']}"),
        ("witness", report["witness"], f"pid {report['witness']['pid']}"),
    ]
    if gateway := report.get("gateway"):
        fed = "" if gateway["feed_ready"] else ", no tables yet"
        rows.append(
            (gateway["kind"], gateway, f"{gateway['url']}, admin {gateway['admin']}, feed {gateway['feed']}{fed}")
        )
    for job in report["jobs"]:
        rows.append(
            (f"job {job['name']}", job, f"{job['state']} {job['id']} build {job['build']} {job.get('reason') or ''}")
        )
    width = max(len(name) for name, _, _ in rows)
    for name, part, detail in rows:
        click.echo(f"{name:<{width}}  {'healthy' if part['healthy'] else 'UNHEALTHY':<9}  {detail}".rstrip())


# --- small things -----------------------------------------------------------------------------


def _is_ready(event: Event, state_dir: Path) -> bool:
    # The diary may tell of an earlier readiness that has passed.
    return event.part == "stack" and event.what == "ready" and load_stack(state_dir).ready


def _is_up(state_dir: Path) -> bool:
    try:
        return load_stack(state_dir).is_up
    except StackError:
        return False


def _pair(item: str) -> tuple[str, str]:
    key, sign, value = item.partition("=")
    if not sign or not key:
        raise click.BadParameter(f"{item!r} is not KEY=VALUE")
    return key, value


def _interrupted() -> int:
    return 130


def _uninterrupted(action: Callable[[], object]) -> None:
    """Run the action to its end: a second Ctrl-C must not leave half of the servers behind."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    action()
