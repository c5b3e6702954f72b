"""`waypost mirror`: what other registries know, told to Waypost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waypost.cli.options import (
    F,
    kafka_address,
    kafka_option,
    metrics_options,
    namespace_option,
    process_metrics,
    redis_address,
    redis_option,
    state_dir_option,
)
from waypost.client.keys import DEFAULT_PREFIX
from waypost.errors import DecodeError, SettingsError
from waypost.metrics import Origin
from waypost.settings import Topics
from waypost.wire.names import read_namespace, read_source

if TYPE_CHECKING:
    from waypost.mirror.run import Mirrored


@click.group()
def mirror() -> None:
    """Tell the log what another registry knows, so that gateways see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The options that all mirrors share, as they were given."""

    once: bool
    topic: str
    prefix: str
    kafka: str | None
    redis: str | None
    state_dir: Path
    metrics_host: str
    metrics_port: int | None
    log_level: str


def _common_options(function: F) -> F:
    log_level = click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
    )
    for option in (
        log_level,
        metrics_options,
        state_dir_option,
        redis_option,
        kafka_option,
        click.option("--topic", default=Topics().registry, show_default=True, help="The topic for registrations."),
        click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="The prefix of the tables in Redis."),
        click.option("--once", is_flag=True, help="Declare what is there now, and end."),
    ):
        function = option(function)
    return function


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
@_common_options
def etcd(url: str, source: str, namespace: str, **common: object) -> None:
    """Declare every service registered in etcd, and follow what changes there.

    Per service it declares the set of its callable endpoints, under --source: what others registered stays. It may be
    stopped and started, and two may run. Weights, zones and metadata are not mirrored: a set has none.

    \b
    waypost mirror etcd --from etcd://127.0.0.1:2379
    waypost mirror etcd --from 'etcd://127.0.0.1:2379?layout=kitex' --source kitex -n shop
    """
    try:
        from waypost.client.registry.etcd.address import read_etcd
        from waypost.mirror.etcd import EtcdSource
        from waypost.mirror.run import Mirrored
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[etcd,gateway]'") from error

    where = read_etcd(url)
    mirrored = Mirrored(
        shown=", ".join(where.urls),
        namespace=_namespace(namespace),
        open=lambda tell, known: EtcdSource(where.gateway(), where.layout, tell, known=known),
    )
    _run((mirrored,), source, Common(**common))  # type: ignore[arg-type]


@mirror.command()
@click.option(
    "--from", "urls", required=True, multiple=True, metavar="URL",
    help="kubernetes:[//CONTEXT/]NAMESPACE[?kubeconfig=FILE]; may be said several times.",
)  # fmt: skip
@click.option(
    "--selector", default="", metavar="LABELS", help="Only Services with these labels, as kubectl writes them."
)
@click.option(
    "--port", default="", metavar="NAME", help="Of a Service with several TCP ports, the one of this name is mirrored."
)
@click.option(
    "--source", default="kubernetes", show_default=True, metavar="WORD",
    help="Who says so: another one for each cluster that is mirrored into one namespace.",
)  # fmt: skip
@click.option(
    "-n", "--namespace", default=None, help="Namespace of Waypost. [default: of the same name as that of Kubernetes]"
)
@_common_options
def kubernetes(
    urls: tuple[str, ...], selector: str, port: str, source: str, namespace: str | None, **common: object
) -> None:
    """Declare the ready endpoints of a namespace's Services, and follow what changes there.

    It needs get, list and watch on endpointslices of that namespace. Per Service it declares a set, under --source:
    what others registered stays. It may be stopped and started, and two may run.

    \b
    waypost mirror kubernetes --from kubernetes:shop --selector app.kubernetes.io/part-of=shop
    waypost mirror kubernetes --from kubernetes:shop --from kubernetes:billing --port http
    """
    try:
        from waypost.client.registry.kubernetes.address import read_kubernetes
        from waypost.client.registry.kubernetes.slice_api import SliceApi
        from waypost.client.registry.kubernetes.slices import ANY_PORT, PortChoice
        from waypost.mirror.kubernetes import KubernetesSource
        from waypost.mirror.run import Mirrored
        from waypost.mirror.source import Open
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[kubernetes,gateway]'") from error

    choice = PortChoice(name=port, if_several=True)

    def mirrored(url: str) -> Mirrored:
        where = read_kubernetes(url)
        if where.port != ANY_PORT:
            raise SettingsError(f"{url!r}: say --port instead, it counts for Services with several ports")
        api = SliceApi.at(where)
        open: Open = lambda tell, known: KubernetesSource(api, tell, known=known, selector=selector, port=choice)  # noqa: E731
        return Mirrored(
            shown=f"{api.server}, namespace {api.namespace},",
            namespace=_namespace(namespace or api.namespace),
            open=open,
        )

    every = tuple(map(mirrored, urls))
    if len({each.namespace for each in every}) < len(every):
        raise SettingsError("two namespaces of Kubernetes into one of Waypost would undo each other's sets")
    _run(every, source, Common(**common))  # type: ignore[arg-type]


def _run(mirrored: tuple[Mirrored, ...], source: str, common: Common) -> None:
    try:
        from waypost import logs
        from waypost.mirror.run import Settings, run
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[gateway]'") from error
    try:
        read_source({"source": source})
    except DecodeError as error:
        raise SettingsError(str(error)) from error
    settings = Settings(
        mirrored=mirrored,
        bootstrap=kafka_address(common.kafka, common.state_dir),
        redis_url=redis_address(common.redis, common.state_dir),
        prefix=common.prefix,
        source=source,
        topic=common.topic,
        once=common.once,
    )
    logs.configure(common.log_level, {"service": "waypost-mirror"})
    run(settings, process_metrics(Origin.MIRROR, common.metrics_host, common.metrics_port))


def _namespace(name: str) -> str:
    try:
        return read_namespace(name, "")
    except DecodeError as error:
        raise SettingsError(str(error)) from error


commands: list[click.Command] = [mirror]
