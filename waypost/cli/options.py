"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from waypost.errors import StackError
from waypost.local.state import DEFAULT_STATE_DIR, running_stack
from waypost.metrics import Origin
from waypost.metrics_server import ProcessMetrics

F = TypeVar("F", bound=Callable[..., Any])


def _resolved(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    return value.resolve()


def state_dir_option(function: F) -> F:
    """`--state-dir`: which local stack is meant; always passed on as an absolute path."""
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_STATE_DIR,
        show_default=True,
        envvar="WAYPOST_STATE",
        callback=_resolved,
        help="Directory of the local stack.",
    )(function)


def namespace_option(function: F) -> F:
    return click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of the service.")(
        function
    )


def output_option(function: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="Format of the answer.",
    )(function)


def kafka_option(function: F) -> F:
    return click.option(
        "--kafka",
        envvar="WAYPOST_KAFKA_BOOTSTRAP",
        metavar="HOST:PORT[,…]",
        help="Kafka's bootstrap servers. [default: $WAYPOST_KAFKA_BOOTSTRAP, else the running stack's]",
    )(function)


def redis_option(function: F) -> F:
    return click.option(
        "--redis",
        envvar="WAYPOST_REDIS_URL",
        metavar="URL",
        help="URL of the Redis with the tables. [default: $WAYPOST_REDIS_URL, else the running stack's]",
    )(function)


def metrics_options(function: F) -> F:
    """`--metrics-port` and `--metrics-host`: where a process of ours answers scrapes."""
    function = click.option(
        "--metrics-host",
        envvar="WAYPOST_METRICS_HOST",
        default="127.0.0.1",
        show_default=True,
        help="Address to serve metrics on; 0.0.0.0 inside a container.",
    )(function)
    return click.option(
        "--metrics-port",
        envvar="WAYPOST_METRICS_PORT",
        type=click.IntRange(1, 65535),
        help="Serve /metrics for Prometheus on this port. [default: not at all]",
    )(function)


def process_metrics(origin: Origin, host: str, port: int | None) -> ProcessMetrics:
    """Return the metrics of this process, served if a port was given."""
    metrics = ProcessMetrics(origin)
    if port is not None:
        metrics.serve(host, port)
    return metrics


def kafka_address(given: str | None, state_dir: Path) -> str:
    """Return the given bootstrap servers or those of the running stack; raises `StackError` when there are none."""
    return given or _stack_or_hint(state_dir, "--kafka", "WAYPOST_KAFKA_BOOTSTRAP").kafka_bootstrap


def redis_address(given: str | None, state_dir: Path) -> str:
    """Return the given Redis URL or the running stack's; raises `StackError` when there are none."""
    return given or _stack_or_hint(state_dir, "--redis", "WAYPOST_REDIS_URL").redis_url


def _stack_or_hint(state_dir: Path, option: str, variable: str) -> Any:
    try:
        return running_stack(state_dir)
    except StackError as error:
        raise StackError(f"{error}, or say {option} (or {variable})") from error
