"""`waypost config-sync`: labelled ConfigMaps, published for everybody who reads configurations."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import click

from waypost.cli.options import kafka_address, kafka_option, metrics_options, process_metrics, state_dir_option
from waypost.errors import SettingsError
from waypost.metrics import Origin
from waypost.model.configs import ObjectKey, Scope
from waypost.topics import CONFIG, default_topics

TOPIC = default_topics()[CONFIG].name
SOURCE = "configmaps"

_OBJECT = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([a-z0-9][a-z0-9.-]{0,252})\Z")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}\Z")
_SOURCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}\Z")


def read_object_key(text: str) -> ObjectKey:
    """Read NAMESPACE/NAME. Raises SettingsError."""
    found = _OBJECT.match(text)
    if found is None:
        raise SettingsError(f"{text!r} is no NAMESPACE/NAME")
    return ObjectKey(found[1], found[2])


def read_scope(source: str, publish: tuple[str, ...]) -> Scope:
    """Read `--source` and `--publish NAMESPACE/NAME=PREFIX`. Raises SettingsError."""
    if not _SOURCE.match(source):
        raise SettingsError(f"{source!r} is no source: lower case letters, digits, - and .")
    prefixes: dict[ObjectKey, str] = {}
    for one in publish:
        name, equals, prefix = one.partition("=")
        if not equals or not _PREFIX.match(prefix) or prefix.endswith("/"):
            raise SettingsError(f"--publish {one!r} is not NAMESPACE/NAME=PREFIX")
        prefixes[read_object_key(name)] = prefix
    if len(set(prefixes.values())) < len(prefixes):
        raise SettingsError("--publish gives one prefix to two ConfigMaps")
    return Scope(source=source, prefixes=prefixes)


@click.command("config-sync")
@click.option("-n", "--namespace", help="Only ConfigMaps of this namespace. [default: all]")
@click.option(
    "--selector", metavar="LABELS", default="waypost.io/config=true", show_default=True, help="Which ConfigMaps."
)
@click.option(
    "--publish", multiple=True, metavar="NAMESPACE/NAME=PREFIX",
    help="Publish this ConfigMap's keys as PREFIX/<key>; the only way to `repair/…`. May be repeated.",
)  # fmt: skip
@click.option(
    "--source", default=SOURCE, show_default=True, metavar="WORD",
    help="Whose records these are. Syncers of different ConfigMaps need different ones; of two with one, one writes.",
)  # fmt: skip
@click.option("--lease", metavar="NAMESPACE/NAME", help="Take turns with other replicas by this Lease.")
@click.option("--identity", default=socket.gethostname, help="Who we are in the Lease. [default: this host's name]")
@click.option("--remove-missing", is_flag=True, help="Remove configurations also when most ConfigMaps are missing.")
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), envvar="KUBECONFIG",
    help="How to reach the Kubernetes API. [default: the pod's service account]",
)  # fmt: skip
@click.option("--topic", default=TOPIC, show_default=True, help="The topic for configurations; one partition.")
@kafka_option
@state_dir_option
@metrics_options
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def config_sync(
    namespace: str | None,
    selector: str,
    publish: tuple[str, ...],
    source: str,
    lease: str | None,
    identity: str,
    remove_missing: bool,
    kubeconfig: Path | None,
    topic: str,
    kafka: str | None,
    state_dir: Path,
    metrics_host: str,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Publish labelled ConfigMaps on the topic for configurations, whole change sets at a time.

    Each key is a configuration `<namespace>/<ConfigMap>/<key>`. ConfigMaps with the same annotation
    waypost.io/change-set become visible together, once waypost.io/change-set-size of them are there.
    It may be stopped and started, and killed: nobody sees half of a change set.

    \b
    waypost config-sync -n shop
    waypost config-sync --lease waypost-system/config-sync --publish waypost-system/repair=repair
    """
    try:
        from waypost import logs
        from waypost.controller.config_sync_run import Settings, run
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[config-sync]'") from error
    settings = Settings(
        bootstrap=kafka_address(kafka, state_dir),
        scope=read_scope(source, publish),
        topic=topic,
        namespace=namespace,
        selector=selector,
        kubeconfig=kubeconfig,
        lease=None if lease is None else read_object_key(lease),
        identity=identity,
        may_remove_many=remove_missing,
    )
    logs.configure(log_level, {"service": "waypost-config-sync"})
    run(settings, process_metrics(Origin.CONFIG_SYNC, metrics_host, metrics_port))


commands: list[click.Command] = [config_sync]
