"""`waypost controller`: keeps what KafkaServiceDiscovery objects ask for."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import click

from waypost.cli.options import (
    kafka_address,
    kafka_option,
    metrics_options,
    process_metrics,
    redis_address,
    redis_option,
    state_dir_option,
)
from waypost.errors import SettingsError
from waypost.metrics import Origin


@click.command("controller")
@click.option("--namespace", default="waypost", show_default=True, help="Where the objects are, and what is made.")
@click.option(
    "--image", envvar="WAYPOST_IMAGE", default="waypost:0.1.0", show_default=True, help="For witness and mirror."
)
@click.option(
    "--flink-image", envvar="WAYPOST_FLINK_IMAGE", default="waypost-flink:0.1.0", show_default=True, help="For jobs."
)
@click.option(
    "--kubeconfig", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="How to reach the API server. [default: the pod's service account]",
)  # fmt: skip
@click.option("--identity", envvar="POD_NAME", help="Its name in the Lease. [default: $POD_NAME, else the host's]")
@click.option(
    "--interval", type=click.FloatRange(0.5, 3600), default=30.0, show_default=True, metavar="SECONDS",
    help="How often to look at what nobody tells of: topics, tables.",
)  # fmt: skip
@kafka_option
@redis_option
@state_dir_option
@metrics_options
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def controller(
    namespace: str,
    image: str,
    flink_image: str,
    kubeconfig: Path | None,
    identity: str | None,
    interval: float,
    kafka: str | None,
    redis: str | None,
    state_dir: Path,
    metrics_host: str,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Make what KafkaServiceDiscovery objects of a namespace ask for, and keep it so.

    Topics, the route job as a FlinkDeployment of the Flink Kubernetes Operator, the witness, and a mirror of Services.
    Run two: one works, the other waits for its Lease. Logs are JSON lines on standard output.
    """
    try:
        from waypost import logs
        from waypost.controller.objects import Images
        from waypost.controller.run import Settings, run
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[controller]'") from error
    settings = Settings(
        namespace=namespace,
        identity=identity or socket.gethostname(),
        bootstrap=kafka_address(kafka, state_dir),
        redis_url=redis_address(redis, state_dir),
        images=Images(waypost=image, flink=flink_image),
        kubeconfig=kubeconfig,
        interval_s=interval,
    )
    logs.configure(log_level, {"service": "waypost-controller"})
    sys.exit(run(settings, process_metrics(Origin.CONTROLLER, metrics_host, metrics_port)))


commands: list[click.Command] = [controller]
