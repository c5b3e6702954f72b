"""What both jobs do before Flink has them: settings from the command line, Flink's configuration, checks."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from waypost.build import build_id
from waypost.errors import SettingsError, TopicError, WaypostError
from waypost.settings import Settings
from waypost.topics import check_topics, default_topics


def submit(main: Callable[[list[str]], None]) -> None:
    """Run a job's main function with the command's arguments; what went wrong ends the process in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        main(sys.argv[1:])
    except WaypostError as error:
        sys.exit(f"waypost: {error}")


def read_settings(prog: str, description: str | None, arguments: list[str]) -> Settings:
    """Return the settings that a command line names. Raises SettingsError."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.FIELD=VALUE", dest="overrides")
    options = parser.parse_args(arguments)
    return Settings.load(options.config, os.environ, options.overrides)


def require_topics(settings: Settings, used: Mapping[str, str], readers: Mapping[str, int] | None = None) -> None:
    """Refuse to start on topics with the wrong settings, which would lose what the job works on. `used`: the name of
    each role's topic; `readers`: how many subtasks read a topic. Raises TopicError; `kafka.check_topics` switches it
    off."""
    if not settings.kafka.check_topics:
        return
    wanted = default_topics(used)
    problems = check_topics(settings.kafka.bootstrap, [wanted[role] for role in used], readers=readers)
    if problems:
        raise TopicError("the topics are not as the job needs them:\n" + "\n".join(f"- {p}" for p in problems))


def environment(settings: Settings) -> StreamExecutionEnvironment:
    """Return the environment of a job that keeps its state. Raises SettingsError."""
    env = StreamExecutionEnvironment.get_execution_environment(configuration(settings))
    _require_checkpoint_directory(env)
    env.get_config().set_global_job_parameters({"waypost.build": build_id()})
    return env


def configuration(settings: Settings) -> Configuration:
    """Return what the job needs of Flink whatever the cluster's defaults are."""
    conf = Configuration()
    conf.set_string("python.execution-mode", "thread")
    conf.set_string("pipeline.max-parallelism", str(settings.job.max_parallelism))
    conf.set_string("parallelism.default", str(settings.job.parallelism))
    conf.set_string("pipeline.object-reuse", "true")
    # Flink's default of 100 ms would be most of the latency of a change. Every task has a thread that wakes up so
    # often: an idle stack takes 0.6 of a core with 2 ms, 0.4 with 10 ms or none. With none, which sends each row
    # alone, a backlog of beats went at 22,000/s, with 2 ms at 36,000/s (one run each, 2 cores, 2026-11-23).
    conf.set_string("execution.buffer-timeout.interval", "2 ms")
    conf.set_string("pipeline.auto-watermark-interval", "50 ms")
    conf.set_string("execution.checkpointing.interval", f"{settings.job.checkpoint_ms} ms")
    # Exactly once for state: if the gate's part of a checkpoint were ahead of the lease folds', a lapse or renewal
    # in between could be lost for good. What leaves the job is idempotent and needs no more than at-least-once.
    conf.set_string("execution.checkpointing.mode", "EXACTLY_ONCE")
    conf.set_string("table.exec.uid.generation", "ALWAYS")
    conf.set_string("table.local-time-zone", "UTC")
    return conf


def _require_checkpoint_directory(env: StreamExecutionEnvironment) -> None:
    """Refuse to keep checkpoints in the JobManager's memory, where they end at 5 MB and with it."""
    merged = env._j_stream_execution_environment.getConfiguration().toMap()
    if not any(merged.get(name) for name in ("execution.checkpointing.dir", "state.checkpoints.dir")):
        raise SettingsError(
            "Flink has no directory for checkpoints, so the job would lose its leases with its JobManager: set "
            "execution.checkpointing.dir in Flink's configuration, or flink run -Dexecution.checkpointing.dir=file:///…"
        )


def everything(_row: object) -> int:
    """Key of operators that see all rows: one."""
    return 0
