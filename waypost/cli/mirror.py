"""`waypost mirror`: what other registries know, told to Waypost."""

from __future__ import annotations

from pathlib import Path

import click

from waypost.cli.options import (
    kafka_address,
    kafka_option,
    metrics_options,
    namespace_option,
    process_metrics,
    redis_address,
    redis_option,
    state_dir_option,
)
from waypost.errors import DecodeError, SettingsError
from waypost.metrics import Origin
from waypost.settings import Topics


@click.group()
def mirror() -> None:
    """Tell the log what another registry knows, so that gateways see it."""


@mirror.command()
@click.option(
    "--from", "url", required=True, metavar="URL",
    help="etcd://HOST:PORT[,HOST:PORT…][?layout=kitex], or etcds://… over TLS with ?ca=FILE&cert=FILE&key=FILE.",
)  # fmt: skip
@click.option(
    "--source", default="etcd", show_default=True, metavar="WORD",
    help="Who says so: another one for each etcd that is mirrored into one namespace.",
)  # fmt: skip
@namespace_option
@click.option("--once", is_flag=True, help="Declare what is there now, and end.")
@click.option("--topic", default=Topics().registry, show_default=True, help="The topic for registrations.")
@kafka_option
@redis_option
@state_dir_option
@metrics_options
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def etcd(
    url: str,
    source: str,
    namespace: str,
    once: bool,
    topic: str,
    kafka: str | None,
    redis: str | None,
    state_dir: Path,
    metrics_host: str,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Declare every service registered in etcd, and follow what changes there.

    Per service it declares the set of its callable endpoints, under --source: what others registered stays. It may be
    stopped and started, and two may run. Weights, zones and metadata are not mirrored: a set has none.

    \b
    waypost mirror etcd --from etcd://127.0.0.1:2379
    waypost mirror etcd --from 'etcd://127.0.0.1:2379?layout=kitex' --source kitex -n shop
    """
    try:
        from waypost import logs
        from waypost.client.registry.etcd.address import read_etcd
        from waypost.mirror.run import Settings, run
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[etcd,gateway]'") from error
    from waypost.wire.names import read_namespace, read_source

    try:
        read_source({"source": source})
        settings = Settings(
            etcd=read_etcd(url),
            bootstrap=kafka_address(kafka, state_dir),
            redis_url=redis_address(redis, state_dir),
            namespace=read_namespace(namespace, ""),
            source=source,
            topic=topic,
            once=once,
        )
    except DecodeError as error:
        raise SettingsError(str(error)) from error
    logs.configure(log_level, {"service": "waypost-mirror"})
    run(settings, process_metrics(Origin.MIRROR, metrics_host, metrics_port))


commands: list[click.Command] = [mirror]
