"""`waypost get services | routes | instances`: what readers of Redis see, as kubectl would show it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import redis
from redis.exceptions import RedisError

from waypost.cli.options import redis_address, redis_option, state_dir_option
from waypost.cli.resources import (
    Document,
    Instances,
    Resource,
    Routes,
    Services,
    known_services,
    read_documents,
)
from waypost.cli.screen import Question, Screen
from waypost.client.connection import Backoff, connect
from waypost.client.follow import ChangeStream, Continuity
from waypost.client.keys import DEFAULT_PREFIX, Keys
from waypost.errors import RegistryUnavailable
from waypost.model.names import DEFAULT_NAMESPACE, ServiceKey, is_namespace, is_service

BLOCK_MS = 500
TIMEOUT = timedelta(seconds=2)


class Session:
    """One run of the command against one Redis."""

    def __init__(self, client: redis.Redis, question: Question) -> None:
        self._redis = client
        self._keys = Keys(DEFAULT_PREFIX)
        self._question = question
        self._shown: dict[ServiceKey, Document] = {}
        self._is_behind = False

    def read_all(self) -> dict[ServiceKey, Document]:
        question = self._question
        if question.service is not None and question.namespace is not None:
            services = [ServiceKey(question.namespace, question.service)]
        else:
            services = [s for s in known_services(self._redis, self._keys) if question.covers(s)]
        found = read_documents(self._redis, self._keys, question.resource, services)
        return {service: document for service, document in found if document is not None}

    def get(self) -> None:
        documents = self.read_all()
        question = self._question
        if question.service is not None and not documents:
            raise self._not_found()
        Screen(question).show_all(list(documents.values()))

    def _not_found(self) -> click.ClickException:
        namespace = self._question.namespace
        where = "any namespace" if namespace is None else f'namespace "{namespace}"'
        return click.ClickException(f'service "{self._question.service}" not found in {where}')

    def watch(self) -> None:
        """Print the present state, then what changes, until interrupted."""
        stream = ChangeStream(self._redis, self._keys)
        stream.seek_end()
        screen = Screen(self._question)
        self._shown = self.read_all()
        if self._question.service is not None and not self._shown:
            raise self._not_found()
        if not self._shown:
            screen.show_nothing()
        for document in self._shown.values():
            screen.show_change(None, document)
        backoff = Backoff()
        while True:
            try:
                self._follow(stream, screen)
                backoff.reset()
            except (RedisError, OSError) as error:
                self._is_behind = True
                if not backoff.failures:
                    click.echo(f"the registry cannot be reached ({error}); trying again", err=True)
                time.sleep(backoff.next().total_seconds())

    def _follow(self, stream: ChangeStream, screen: Screen) -> None:
        entries, continuity = stream.read(BLOCK_MS)
        if self._is_behind or continuity is not Continuity.UNBROKEN:
            if continuity is Continuity.REPLACED:
                click.echo("the registry was emptied or replaced; showing what it has now", err=True)
            self._is_behind = True  # until everything was read
            stream.seek_end()
            now = self.read_all()
            self._is_behind = False
            changed = {**dict.fromkeys(self._shown), **now}
        else:
            touched = {ServiceKey.parse(fields["service"]) for fields in entries}
            services = filter(self._question.covers, touched)
            changed = dict(read_documents(self._redis, self._keys, self._question.resource, services))
        for service, document in sorted(changed.items()):
            screen.show_change(self._shown.get(service), document)
            if document is None:
                self._shown.pop(service, None)
            else:
                self._shown[service] = document


def _name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    is_valid = is_namespace if param.name == "namespace" else is_service
    if value is not None and not is_valid(value):
        raise click.BadParameter(f"{value!r} is not a valid name (a-z 0-9 -)")
    return value


def _command(resource: Resource, help_text: str) -> click.Command:
    def run(
        service: str | None,
        namespace: str,
        all_namespaces: bool,
        output: str,
        watch: bool,
        redis: str | None,
        state_dir: Path,
    ) -> None:
        question = Question(
            resource=resource, namespace=None if all_namespaces else namespace, service=service, output=output
        )
        client = connect(redis_address(redis, state_dir), TIMEOUT)
        try:
            session = Session(client, question)
            session.watch() if watch else session.get()
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except (RedisError, OSError) as error:
            raise RegistryUnavailable(f"the registry cannot be reached: {error}") from error
        finally:
            client.close()

    options: list[Callable[[Any], Any]] = [
        click.argument("service", required=False, callback=_name),
        click.option(
            "-n", "--namespace", default=DEFAULT_NAMESPACE, show_default=True, callback=_name, help="Namespace to read."
        ),
        click.option("-A", "--all-namespaces", is_flag=True, help="Read all namespaces."),
        click.option(
            "-o",
            "--output",
            type=click.Choice(["table", "wide", "json", "yaml"]),
            default="table",
            show_default=True,
            help="Format of the answer.",
        ),
        click.option("-w", "--watch", is_flag=True, help="Stay, and print what changes; with -o json one line each."),
        redis_option,
        state_dir_option,
    ]
    command: Any = run
    for option in reversed(options):
        command = option(command)
    return click.command(resource.name, help=help_text)(command)


@click.group()
def get() -> None:
    """Show services, route tables or instances as gateways find them in Redis."""


get.add_command(_command(Services(), "Show services: how many of their known instances are routable."))
get.add_command(_command(Routes(), "Show route tables: the endpoints that gateways may use."))
get.add_command(_command(Instances(), "Show every known instance, and why it is or is not in the table."))

commands: list[click.Command] = [get]
