"""`waypost protection list | release`: which tables hold endpoints that fell silent, and letting them go.

What is listed is read from Redis; a release is an event on the log like any other, answered by the route job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError

from waypost.cli import publish
from waypost.cli.options import kafka_option, redis_address, redis_option, state_dir_option
from waypost.cli.output import Row, age
from waypost.cli.resources import Document, Instances, known_services, read_documents
from waypost.cli.screen import Question, Screen
from waypost.client.connection import connect
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.errors import RegistryUnavailable
from waypost.model.events import InstanceEvent, Op
from waypost.model.names import ServiceKey
from waypost.model.stamp import ORIGIN

TIMEOUT = timedelta(seconds=2)


class Protected(Instances):
    """One row per service that holds endpoints."""

    name = "protection"
    columns = ("NAME", "HELD", "WHY", "SINCE", "ENDS IN")
    wide_columns = ("ROUTABLE", "INSTANCES")

    def document(self, service: ServiceKey, meta: dict[str, str], replies: list[Any]) -> Document:
        document = super().document(service, meta, replies)
        held = {e["instance"]: e["held"] for e in document[self.list_name] if e.get("routable") and e.get("held")}
        return {
            "namespace": service.namespace,
            "service": service.service,
            "protected": document["protected"],
            "endpoints": int(meta.get("endpoints") or 0),
            "held": len(held),
            "why": dict(Counter(hold["why"] for hold in held.values()).most_common()),
            "since": min((hold["since"] for hold in held.values()), default=0),
            "until": max((hold["until"] for hold in held.values()), default=0),
            "instances": held,
        }

    def rows(self, document: Document, now_ms: int) -> Iterator[tuple[str, Row, Row]]:
        d = document
        endless = "<never>" if d["held"] else "<unknown>"
        ends = age(now_ms - (d["until"] - now_ms), now_ms) if d["until"] else endless
        cells = (d["service"], str(d["held"]), ",".join(d["why"]) or "<none>", age(d["since"], now_ms), ends)
        yield "", cells, (str(d["endpoints"]), ",".join(d["instances"]) or "<none>")


def _read(redis_url: str, namespace: str | None) -> dict[ServiceKey, Document]:
    """Return the protected services. Raises RegistryUnavailable."""
    client, keys = connect(redis_url, TIMEOUT), Keys(DEFAULT_PREFIX)
    try:
        services = [s for s in known_services(client, keys) if namespace in (None, s.namespace)]
        flags = client.pipeline(transaction=False)
        for service in services:
            flags.hget(keys.meta(service), "protected")
        protected = [s for s, flag in zip(services, flags.execute(), strict=True) if flag in (b"1", "1")]
        found = read_documents(client, keys, Protected(), protected)
        return {service: d for service, d in found if d is not None and d["protected"]}
    except (RedisError, OSError) as error:
        raise RegistryUnavailable(f"the registry cannot be reached: {error}") from error
    finally:
        client.close()


@click.group()
def protection() -> None:
    """Show which services hold endpoints that fell silent, and let them go.

    When too many instances fall silent together, they stay in the table for a while, and so does the last one of a
    service; see docs/brake.md.
    """


@protection.command("list")
@click.option("-n", "--namespace", help="Only this namespace. [default: all]")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json", "yaml"]),
    default="table",
    show_default=True,
    help="Format of the answer.",
)
@redis_option
@state_dir_option
def list_(namespace: str | None, output: str, redis: str | None, state_dir: Path) -> None:
    """Show the protected services: how many endpoints are held, why, since when, and when that ends."""
    documents = _read(redis_address(redis, state_dir), namespace)
    question = Question(resource=Protected(), namespace=namespace, service=None, output=output)
    Screen(question).show_all(list(documents.values()))


@protection.command()
@click.argument("service", required=False, metavar="[NAMESPACE/]SERVICE")
@click.option("--all", "everything", is_flag=True, help="Every protected service.")
@click.option("--source", default="cli", show_default=True, metavar="WORD", help="Who says so.")
@kafka_option
@redis_option
@state_dir_option
@publish.waiting_options
def release(
    service: str | None,
    everything: bool,
    source: str,
    kafka: str | None,
    redis: str | None,
    state_dir: Path,
    wait: bool,
    timeout: int,
) -> None:
    """Let the held endpoints of a service leave its table now.

    For when they are known to be dead. Those that beat again come back by themselves.

    \b
    waypost protection release shop/payments
    waypost protection release --all
    """
    if everything == (service is not None):
        raise click.UsageError("say one service, or --all")
    target = publish.Target(kafka=kafka, redis=redis, state_dir=state_dir, wait=wait, timeout=timeout)
    services: Iterable[ServiceKey]
    if service is not None:
        services = [_service(service)]
    else:
        services = _read(redis_address(redis, state_dir), None)
        if not services:
            click.echo("nothing is protected", err=True)
    for one in services:
        publish.publish_event(
            InstanceEvent(op=Op.UNPROTECT, service=one, instance="", stamp=ORIGIN, source=source), target
        )


def _service(name: str) -> ServiceKey:
    try:
        return ServiceKey.parse(name if "/" in name else f"default/{name}")
    except ValueError as error:
        raise click.UsageError(f"{name!r} is not namespace/service") from error


commands: list[click.Command] = [protection]
