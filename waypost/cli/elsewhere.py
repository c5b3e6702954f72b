"""`waypost register --to`: registering in another registry than Waypost's, or staying until interrupted."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click

from waypost.cli.registries import for_writing
from waypost.client.registry.instance import Instance
from waypost.errors import InvalidInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Where to register, and whether to stay."""

    to: str
    stay: bool
    namespace: str
    kafka: str | None
    redis: str | None
    state_dir: Path
    lease: timedelta | None


def register_elsewhere(instance: Instance, where: Elsewhere) -> None:
    """Register, say so, and keep it registered until a signal where that was asked for."""
    told = threading.Event()
    if where.stay:
        # Before anybody can see the instance: who sees it may want it to go.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: told.set())
    with for_writing(
        where.to,
        namespace=where.namespace,
        kafka=where.kafka,
        redis=where.redis,
        state_dir=where.state_dir,
        lease=where.lease,
    ) as registry:
        try:
            registry.register(instance)
        except InvalidInstance as error:
            raise click.UsageError(str(error)) from error
        click.echo(f"{instance.name}/{instance.id} registered in {where.to}")
        if where.stay:
            told.wait()
            registry.deregister(instance.name, instance.id)
            click.echo(f"{instance.name}/{instance.id} deregistered")


def elsewhere_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add `--to` and `--stay`."""
    command = click.option(
        "--stay", is_flag=True, help="Keep it registered until interrupted (SIGINT, SIGTERM), then deregister it."
    )(command)
    return click.option(
        "--to",
        default="waypost",
        show_default=True,
        metavar="REGISTRY",
        help="Where to register: waypost, or etcd://HOST:PORT[?layout=kitex]. In etcd it leaves after --lease, 30s "
        "unless said, without --stay.",
    )(command)
