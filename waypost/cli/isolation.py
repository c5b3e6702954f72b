"""`waypost isolate | release`: take an instance, or everybody on a node, out of the tables for a while, and back.

One record on the log. Each service that has to do with it answers, so for a node it is looked up before who is there.
"""

from __future__ import annotations

import contextlib
import getpass
import re
import time
from collections.abc import Callable, Set
from datetime import timedelta
from typing import Any

import click
from redis.exceptions import RedisError

from waypost.cli import publish
from waypost.cli.options import kafka_option, namespace_option, redis_option, state_dir_option
from waypost.cli.output import utc
from waypost.cli.resources import Instances, known_services, read_documents
from waypost.cli.values import Seconds
from waypost.client.answers import Answered, AnswerWaiter
from waypost.client.connection import connect
from waypost.client.isolator import Isolator, encode_checked_isolation
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.errors import DecodeError, RegistryUnavailable, WaypostError
from waypost.model.isolation import REPAIR, Isolation, Verb
from waypost.model.names import ServiceKey

TIMEOUT = timedelta(seconds=2)

DONE = {Verb.ISOLATE: "isolated", Verb.RELEASE: "released"}

HINTS = {
    "unknown-instance": "it is not registered; the isolation counts once it is",
    "not-isolated": "nothing keeps it out by name; an instance may be isolated with its node, and a node with another",
    "superseded": "somebody else has spoken later",
}


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        publish.waiting_options,
        state_dir_option,
        redis_option,
        kafka_option,
        click.option("--by", metavar="WHO", help="Who decides it. [default: operator:<user>]"),
        namespace_option,
        click.argument("target", metavar="[NAMESPACE/]SERVICE/INSTANCE | node/NAME"),
    ):
        command = option(command)
    return command


@click.command()
@click.option(
    "--for",
    "seconds",
    type=Seconds(),
    required=True,
    help="When it ends by itself: 90s, 10m, 2h; 7 days (168h) at most.",
)
@click.option("--because", required=True, metavar="TEXT", help="Why; readers of the table see it.")
@_shared
def isolate(target: str, namespace: str, by: str | None, seconds: int, because: str, **where: Any) -> None:
    """Take an instance, or every instance on a node, out of its tables, and leave it registered and alone.

    It ends with --for, or with `waypost release`. A node's is also about instances that register there later. You may
    take out the last endpoint of a table; a repair may not.

    \b
    waypost isolate payments/payments-1 --for 10m --because "answers slowly"
    waypost isolate node/n1 --for 2h --because "disk errors"
    """
    expires_at = time.time_ns() // 1_000_000 + seconds * 1000
    _say(Verb.ISOLATE, target, namespace, by, publish.Target(**where), cause=because, expires_at=expires_at)


@click.command()
@_shared
def release(target: str, namespace: str, by: str | None, **where: Any) -> None:
    """Let back into its tables who was isolated, whoever did that.

    An instance that was isolated with its node is released with its node.

    \b
    waypost release payments/payments-1
    waypost release node/n1
    """
    _say(Verb.RELEASE, target, namespace, by, publish.Target(**where))


def _say(verb: Verb, about: str, namespace: str, by: str | None, target: publish.Target, **more: Any) -> None:
    """Check, look up who will answer, connect, write, wait, and tell; failures end as one line and exit status 1."""
    word = Isolation(verb=verb, by=by or _operator(), **_scope(about, namespace), **more)
    if word.by == REPAIR:
        raise click.UsageError("--by repair is what the repair job says of itself; say who decides it")
    try:
        encode_checked_isolation(word, time.time_ns() // 1_000_000)
    except DecodeError as error:
        raise click.UsageError(f"{error.detail} ({error.reason})") from error
    try:
        kafka, redis = publish.addresses(target)
        concerned = {word.service} if word.service else (services_on(redis, word.node) if redis else set())
        with contextlib.ExitStack() as stack:
            waiter = stack.enter_context(publish.open_waiter(redis)) if redis else None
            with Isolator(publish.open_sink(kafka, target.timeout)) as isolator:
                request_id = isolator.publish(word)
            _tell(word, about, target, request_id, waiter, concerned)
    except WaypostError as error:
        raise click.ClickException(str(error)) from error


def _scope(about: str, namespace: str) -> dict[str, Any]:
    """Read what the user means. A service called `node` is spelled with its namespace."""
    parts = about.split("/")
    if len(parts) == 2 and parts[0] == "node" and parts[1]:
        return {"node": parts[1]}
    if len(parts) == 2:
        parts.insert(0, namespace)
    if len(parts) != 3 or not all(parts):
        raise click.UsageError(f"{about!r} is neither service/instance nor node/name")
    return {"service": ServiceKey(parts[0], parts[1]), "instance": parts[2]}


def _operator() -> str:
    try:
        user = re.sub(r"[^A-Za-z0-9._-]", "-", getpass.getuser())
    except (KeyError, OSError):  # a container's user without a name
        return "operator"
    return f"operator:{user}"[:128]


def services_on(redis_url: str, node: str) -> set[ServiceKey]:
    """Return the services that have an instance on a node, in a table or not. Raises RegistryUnavailable."""
    client, keys = connect(redis_url, TIMEOUT), Keys(DEFAULT_PREFIX)
    try:
        documents = read_documents(client, keys, Instances(), known_services(client, keys))
        return {s for s, d in documents if d is not None and any(e.get("node") == node for e in d["instances"])}
    except (RedisError, OSError) as error:
        raise RegistryUnavailable(f"the registry cannot be reached: {error}") from error
    finally:
        client.close()


def _tell(
    word: Isolation,
    about: str,
    target: publish.Target,
    request_id: str,
    waiter: AnswerWaiter | None,
    concerned: Set[ServiceKey],
) -> None:
    until = f" until {utc(word.expires_at)}" if word.verb is Verb.ISOLATE else ""
    if waiter is None:
        if target.wait:
            click.echo("not waiting for the answer: no Redis is known (--redis URL, or --no-wait)", err=True)
        click.echo(f"{about} {DONE[word.verb]}{until} (request {request_id}, not confirmed)")
        return
    if not concerned:
        click.echo(f"{about} {DONE[word.verb]}{until} (nothing is registered there now)")
        return
    answers = waiter.wait_for_all(request_id, concerned, target.timeout)
    failures = [_line(word, about, s, answers.get(s), until, target) for s in sorted(concerned | answers.keys())]
    if any(failures):
        raise click.ClickException("\n".join(filter(None, failures)))


def _line(
    word: Isolation, about: str, service: ServiceKey, answer: Answered | None, until: str, target: publish.Target
) -> str:
    """Print what came of it in one service; return what went wrong instead."""
    name = about if word.instance else f"{service} on {about}"
    if answer is None:
        return target.unanswered(name)
    if not answer.applied:
        hint = f" ({HINTS[answer.reason]})" if answer.reason in HINTS else ""
        return f"{name} not {DONE[word.verb]}: {answer.reason}{hint}"
    click.echo(f"{name} {DONE[word.verb]}{until} (revision {answer.revision})")
    return ""


commands: list[click.Command] = [isolate, release]
