"""`waypost topics | flink-settings | run-job`: a Kafka and a Flink that are there already."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

from waypost.cli.options import kafka_address, kafka_option, metrics_options, process_metrics, state_dir_option
from waypost.errors import StackError, TopicError
from waypost.flink.rest import FlinkRest
from waypost.flink.settings import job_settings, parse_settings, settings_text
from waypost.flink.standing import is_running, keep_running
from waypost.flink.submission import JobRecord, Snapshots
from waypost.local import control, job_zip
from waypost.metrics import KEEPER_LAST, KEEPER_REPORTS, Origin
from waypost.topics import check_topics, default_topics, ensure_topics

log = logging.getLogger(__name__)

_ARCHIVE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, resolve_path=True, path_type=Path)


@click.group()
def topics() -> None:
    """Create the topics with the settings the jobs rely on, or check them."""


@topics.command()
@kafka_option
@state_dir_option
@click.option(
    "--wait", type=float, default=60.0, show_default=True, metavar="SECONDS", help="Try this long while Kafka is away."
)
def create(kafka: str | None, state_dir: Path, wait: float) -> None:
    """Create what is missing and correct settings that would make a job wrong.

    Doing it twice is harmless. Nothing is lowered: retention and partitions beyond ours are left alone.
    Replication is the broker's default.
    """
    bootstrap = kafka_address(kafka, state_dir)
    deadline = time.monotonic() + wait
    while True:
        try:
            names = ensure_topics(bootstrap, default_topics())
            break
        except TopicError as error:
            if time.monotonic() > deadline:
                raise
            click.echo(f"{error}; again in 1 s", err=True)
            time.sleep(1.0)
    click.echo(f"{len(names)} topics as they should be: {', '.join(names)}")


@topics.command()
@kafka_option
@state_dir_option
def check(kafka: str | None, state_dir: Path) -> None:
    """Say what is wrong with the topics and how to mend it; exit status 1 when something is."""
    problems = check_topics(kafka_address(kafka, state_dir), default_topics().values())
    for problem in problems:
        click.echo(str(problem))
    if problems:
        sys.exit(1)
    click.echo("all topics are as they should be")


@click.command("flink-settings")
@click.option(
    "--merge",
    "texts",
    envvar="FLINK_PROPERTIES",
    default="",
    metavar="YAML",
    help="Entries of your own, lines of `key: value`, which win. [default: $FLINK_PROPERTIES]",
)
def flink_settings(texts: str) -> None:
    """Print what the jobs need in Flink's conf/config.yaml, each entry with its reason."""
    own = parse_settings(texts, "--merge")
    if not own:
        click.echo(settings_text(), nl=False)
        return
    for key, value in {**job_settings(), **own}.items():
        # Quoted, so that no value is taken for something else than the text it is.
        click.echo(f"{key}: '{value.replace(chr(39), chr(39) * 2)}'")


@click.command("run-job")
@click.option("--flink", "url", envvar="WAYPOST_FLINK_REST", required=True, metavar="URL", help="The JobManager.")
@click.option("--module", default=control.JOB_MODULE, show_default=True, help="The job's module in the zip.")
@click.option("--name", default=control.JOB_NAME, show_default=True, help="By which name it is found again.")
@click.option("--job-zip", "archive", type=_ARCHIVE, help="See `waypost job-zip`. Needed unless --check.")
@click.option(
    "--checkpoints", type=_DIRECTORY, help="Where the cluster keeps checkpoints; the same path there and here."
)
@click.option(
    "--savepoints", type=_DIRECTORY, help="Where savepoints are. [default: `savepoints` beside --checkpoints]"
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Setting for the job; may be repeated.")
@click.option(
    "--alive-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touched again and again while the job runs: for a probe that looks at its age.",
)
@metrics_options
@click.option("--check", "only_check", is_flag=True, help="Only say whether it runs; exit status 1 when not.")
def run_job(
    url: str,
    module: str,
    name: str,
    archive: Path | None,
    checkpoints: Path | None,
    savepoints: Path | None,
    settings: tuple[str, ...],
    alive_file: Path | None,
    metrics_host: str,
    metrics_port: int | None,
    only_check: bool,
) -> None:
    """Submit a job to a Flink cluster with `flink run`, and keep it running until stopped.

    A job of the same name that runs already is adopted. One that is gone, e.g. after the JobManager died,
    is resumed from its newest checkpoint or savepoint. Being stopped leaves the job alone. Flink's own
    command must be on the PATH (or in $FLINK_HOME/bin) with a configuration that names this cluster.
    """
    rest = FlinkRest(url=url.rstrip("/"))
    if only_check:
        running, detail = is_running(rest, name)
        click.echo(detail)
        sys.exit(0 if running else 1)
    if archive is None or checkpoints is None:
        raise click.UsageError("--job-zip and --checkpoints are needed to submit")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s level=%(levelname)s %(message)s")
    record = JobRecord(
        name=name,
        module=module,
        zip=str(archive),
        build=job_zip.build_id_of(archive),
        arguments=tuple(part for item in settings for part in ("--set", item)),
    )
    metrics = process_metrics(Origin.KEEPER, metrics_host, metrics_port)

    def report(what: str, detail: str) -> None:
        metrics.count(KEEPER_REPORTS, what)
        log.info("job=%s what=%s detail=%r", name, what, detail)

    def on_running() -> None:
        metrics.now(KEEPER_LAST)
        if alive_file:
            alive_file.touch()

    stopped = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stopped.set())
    with tempfile.TemporaryDirectory(prefix="waypost-run-job-") as scratch:
        keep_running(
            record=record,
            flink=_flink_command(),
            rest=rest,
            stored=Snapshots(checkpoints=checkpoints, savepoints=savepoints or checkpoints.parent / "savepoints"),
            log=Path(scratch) / "submit.log",
            report=report,
            stopped=stopped,
            on_running=on_running,
        )


def _flink_command() -> Path:
    home = os.environ.get("FLINK_HOME")
    found = shutil.which("flink", path=f"{home}/bin" if home else None)
    if found is None:
        raise StackError("Flink's command `flink` is not on the PATH; set FLINK_HOME to a Flink 2.3 distribution")
    return Path(found)


commands: list[click.Command] = [topics, flink_settings, run_job]
