"""`waypost discover`: the instances of a service as some registry sees them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from waypost.cli.options import namespace_option, output_option, redis_option, state_dir_option
from waypost.cli.output import TableWriter, age, pairs, print_document, print_table
from waypost.cli.registries import WAYPOST, for_reading
from waypost.client.registry.feed import InstanceEvent
from waypost.client.registry.instance import Instance
from waypost.client.registry.interface import Discoverer
from waypost.client.registry.opening import FORMS

COLUMNS = ("SERVICE", "INSTANCE", "ADDRESS", "STATUS", "WEIGHT", "ZONE", "METADATA", "LAST HEARTBEAT")


def document(instance: Instance) -> dict[str, Any]:
    """Return what programs get of an instance."""
    return {
        "service": instance.name,
        "instance": instance.id,
        "address": instance.address,
        "port": instance.port,
        "weight": instance.weight,
        "zone": instance.zone,
        "status": instance.status.value,
        "metadata": dict(instance.metadata),
        "last_heartbeat": instance.last_heartbeat,
    }


def row(instance: Instance, now_ms: int) -> tuple[str, ...]:
    """Return what people get of an instance."""
    host = f"[{instance.address}]" if ":" in instance.address else instance.address
    return (
        instance.name,
        instance.id,
        f"{host}:{instance.port}",
        instance.status.value,
        str(instance.weight),
        instance.zone or "<none>",
        pairs(instance.metadata),
        "<unknown>" if instance.last_heartbeat is None else age(instance.last_heartbeat, now_ms),
    )


@click.command()
@click.argument("service")
@click.option(
    "--from", "source", default=WAYPOST, show_default=True, metavar="REGISTRY", help=f"Who to ask: waypost, {FORMS}."
)
@namespace_option
@output_option
@click.option("-w", "--watch", is_flag=True, help="Stay, and print what comes, changes and goes; one line each.")
@redis_option
@state_dir_option
def discover(
    service: str, source: str, namespace: str, output: str, watch: bool, redis: str | None, state_dir: Path
) -> None:
    """Show the instances of SERVICE as a registry sees them.

    Without --watch all of them with their status, with --watch those that may be called. --namespace is for Waypost;
    Kubernetes has its own in the URL, other registries have none.

    \b
    waypost discover payments
    waypost discover payments --from etcd://127.0.0.1:2379 -o json
    waypost discover payments --from 'etcd://127.0.0.1:2379?layout=kitex' --watch
    waypost discover payments --from 'kubernetes:shop?port=http'
    waypost discover redis --from env:
    """
    with for_reading(source, namespace=namespace, redis=redis, state_dir=state_dir) as registry:
        try:
            _watch(registry, service, output) if watch else _show(registry, service, output)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def _show(registry: Discoverer, service: str, output: str) -> None:
    found = [instance for _, instance in sorted(registry.get_service(service).instances.items())]
    if output == "table":
        print_table([row(instance, _now_ms()) for instance in found], COLUMNS)
    else:
        print_document([document(instance) for instance in found], output)


def _watch(registry: Discoverer, service: str, output: str) -> None:
    table = TableWriter(("EVENT", *COLUMNS))
    with registry.watch(service) as watch:
        for event in watch:
            if output == "table":
                table.write([(event.kind.value, *row(event.instance, _now_ms()))])
            else:
                print_document(_event(event), output, follows=True)


def _event(event: InstanceEvent) -> dict[str, Any]:
    return {"event": event.kind.value, **document(event.instance)}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


commands: list[click.Command] = [discover]
