"""`waypost register | drain | deregister`: commands that write one registration event and wait for its answer.

The event is checked before anything is connected to, so a typo is told in milliseconds and without a stack.
Waiting means reading `changes` from before the event was written: an answer cannot be missed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.elsewhere import Elsewhere, elsewhere_options, register_elsewhere
from waypost.cli.options import kafka_address, kafka_option, namespace_option, redis_option, state_dir_option
from waypost.cli.registries import WAYPOST
from waypost.cli.values import KeyValue, Seconds
from waypost.client.event_sink import EventSink, KafkaSink
from waypost.client.registrar import Registrar, encode_checked
from waypost.client.registry.instance import Instance
from waypost.errors import DecodeError, StackError, WaypostError
from waypost.local.state import running_stack
from waypost.model.events import DEFAULT_LEASE_SECONDS, DEFAULT_WEIGHT, Attributes, InstanceEvent, Op
from waypost.model.lifecycle import Declared
from waypost.model.names import ServiceKey
from waypost.model.stamp import ORIGIN

if TYPE_CHECKING:
    from waypost.client.answers import AnswerWaiter

ANSWER_TIMEOUT = "5s"

DONE = {
    Op.REGISTER: "registered",
    Op.DRAIN: "draining",
    Op.DEREGISTER: "deregistered",
    Op.UNPROTECT: "released",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the event goes and where its answer comes from, as the user said it; None means the local stack's."""

    kafka: str | None
    redis: str | None
    state_dir: Path
    wait: bool
    timeout: int
    """Seconds, for Kafka and then for the job's answer."""

    def unanswered(self, name: str) -> str:
        """Return what to say when the job has not answered in time."""
        return (
            f"{name}: written to the log, but the route job did not answer within {self.timeout} s. "
            "It will take effect when the job runs; see `waypost status`."
        )


def open_sink(bootstrap: str, timeout_s: int) -> EventSink:
    """Return the sink of the commands; tests put a fake in its place."""
    # The producer logs every failed attempt; the one error at the end says it all.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    return KafkaSink(bootstrap, client_id="waypost-cli", timeout_s=timeout_s)


def open_waiter(redis_url: str) -> AnswerWaiter:
    """Return a reader of answers that begins at the present end of `changes`; as `open_sink` for tests."""
    from waypost.client.answers import open_answers  # redis-py is only needed when waiting

    return open_answers(redis_url)


def waiting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add whether to wait for the route job, and how long."""
    for option in (
        click.option(
            "--timeout",
            type=Seconds(),
            default=ANSWER_TIMEOUT,
            show_default=True,
            help="How long Kafka may take, and then the route job to answer (5s, 2m).",
        ),
        click.option(
            "--wait/--no-wait",
            default=True,
            show_default=True,
            help="Wait until the route job answers; otherwise return when Kafka has it.",
        ),
    ):
        command = option(command)
    return command


def _target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options all three commands share."""
    for option in (
        waiting_options,
        state_dir_option,
        redis_option,
        kafka_option,
        click.option("--source", default="cli", show_default=True, metavar="WORD", help="Who says so."),
        click.option("--instance", required=True, metavar="ID", help="Instance id: A-Z a-z 0-9 . _ : - (a pod name)."),
        namespace_option,
        click.argument("service"),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--address", required=True, metavar="IP", help="IPv4 or IPv6 address, or a DNS name.")
@click.option("--port", required=True, type=int, help="TCP port, 1 to 65535.")
@click.option(
    "--lease",
    type=Seconds(),
    show_default=f"{DEFAULT_LEASE_SECONDS}s",
    help="Leave the table when no beat comes for this long (30s, 2m; 2s to 24h).",
)
@click.option("--weight", type=int, default=DEFAULT_WEIGHT, show_default=True, help="Share of requests; 0 for none.")
@click.option("--zone", default="", help="Failure domain, such as eu-1a.")
@click.option("--node", default="", help="Machine it runs on; `node/<name>` isolates all of its instances.")
@click.option(
    "--metadata", type=KeyValue(), multiple=True, metavar="KEY=VALUE", help="Free text for readers; may be repeated."
)
@elsewhere_options
@_target_options
def register(
    service: str,
    namespace: str,
    instance: str,
    source: str,
    address: str,
    port: int,
    lease: int | None,
    weight: int,
    zone: str,
    node: str,
    metadata: tuple[tuple[str, str], ...],
    to: str,
    stay: bool,
    **target: Any,
) -> None:
    """Register an instance of SERVICE, or replace its registration.

    Its lease starts now: without beats the instance leaves the table when --lease has passed.

    \b
    waypost register payments --instance payments-1 --address 10.1.2.3 --port 8080
    waypost register payments --instance payments-1 --address 10.1.2.3 --port 8080 \\
        -n shop --lease 30s --weight 50 --metadata version=2.1
    waypost register payments --instance payments-1 --address 10.1.2.3 --port 8080 \\
        --to etcd://127.0.0.1:2379 --stay
    """
    if stay or to != WAYPOST:
        if node:
            raise click.UsageError("--node is only known to waypost, and not with --stay")
        instance_of = Instance(
            id=instance, name=service, address=address, port=port, weight=weight, zone=zone, metadata=dict(metadata)
        )
        where = {name: target[name] for name in ("kafka", "redis", "state_dir")}
        length = None if lease is None else timedelta(seconds=lease)
        register_elsewhere(instance_of, Elsewhere(to=to, stay=stay, namespace=namespace, lease=length, **where))
        return
    attributes = Attributes(
        address=address,
        port=port,
        weight=weight,
        zone=zone,
        node=node,
        metadata=dict(metadata),
        lease_seconds=DEFAULT_LEASE_SECONDS if lease is None else lease,
    )
    event = InstanceEvent(
        op=Op.REGISTER,
        service=ServiceKey(namespace, service),
        instance=instance,
        stamp=ORIGIN,
        attributes=attributes,
        declared=Declared.UP,
        source=source,
    )
    publish_event(event, Target(**target))


@click.command()
@_target_options
def drain(service: str, namespace: str, instance: str, source: str, **target: Any) -> None:
    """Take an instance of SERVICE out of the table and keep it registered.

    Gateways send it nothing new, calls under way can end, and no beat brings it back: register it again for that.

    \b
    waypost drain payments --instance payments-1
    """
    publish_event(_plain(Op.DRAIN, service, namespace, instance, source), Target(**target))


@click.command()
@_target_options
def deregister(service: str, namespace: str, instance: str, source: str, **target: Any) -> None:
    """Remove an instance of SERVICE. Late beats do not bring it back.

    \b
    waypost deregister payments --instance payments-1
    """
    publish_event(_plain(Op.DEREGISTER, service, namespace, instance, source), Target(**target))


def _plain(op: Op, service: str, namespace: str, instance: str, source: str) -> InstanceEvent:
    return InstanceEvent(op=op, service=ServiceKey(namespace, service), instance=instance, stamp=ORIGIN, source=source)


def publish_event(event: InstanceEvent, target: Target) -> None:
    """Check, connect, write, wait, and tell; failures end as one line and exit status 1."""
    try:
        _check(event)
        kafka, redis = addresses(target)
        with contextlib.ExitStack() as stack:
            waiter = stack.enter_context(open_waiter(redis)) if redis else None
            with Registrar(open_sink(kafka, target.timeout)) as registrar:
                request_id = registrar.publish(event)
            _tell(event, target, request_id, waiter)
    except WaypostError as error:
        raise click.ClickException(str(error)) from error


def _check(event: InstanceEvent) -> None:
    """Say now what the job would say later."""
    try:
        encode_checked(event, now_ms=0)
    except DecodeError as error:
        raise click.UsageError(f"{error.detail} ({error.reason})") from error


def addresses(target: Target) -> tuple[str, str]:
    """Return (Kafka bootstrap, Redis URL or "" for none) from the options, and from the local stack what they
    leave out. The local Redis is not asked about a Kafka elsewhere: its tables say nothing of it."""
    kafka = kafka_address(target.kafka, target.state_dir)
    if not target.wait:
        return kafka, ""
    if target.redis:
        return kafka, target.redis
    try:
        stack = running_stack(target.state_dir)
    except StackError:
        return kafka, ""
    return kafka, stack.redis_url if stack.kafka_bootstrap == kafka else ""


def _tell(event: InstanceEvent, target: Target, request_id: str, waiter: AnswerWaiter | None) -> None:
    name = f"{event.service.service}/{event.instance}" if event.instance else str(event.service)
    if waiter is None:
        if target.wait:
            click.echo("not waiting for the answer: no Redis is known (--redis URL, or --no-wait)", err=True)
        click.echo(f"{name} {DONE[event.op]} (request {request_id}, not confirmed)")
        return
    answer = waiter.wait(request_id, target.timeout)
    if answer is None:
        raise click.ClickException(target.unanswered(name))
    if not answer.applied:
        raise click.ClickException(f"{name} not {DONE[event.op]}: {answer.reason}")
    click.echo(f"{name} {DONE[event.op]} (revision {answer.revision})")


commands: list[click.Command] = [register, drain, deregister]
