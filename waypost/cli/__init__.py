"""The `waypost` command. It parses, calls the house and prints; no rule lives here.

Habits are kubectl's: nouns after verbs, `-n/--namespace`, `-o table|json|yaml`, exit status 1 for
"not so" and 2 for "not understood".
"""

from __future__ import annotations

from importlib import metadata

import click

from waypost.cli import (
    agent,
    bridge,
    cluster,
    config,
    config_sync,
    controller,
    demo,
    discover,
    gateway,
    get,
    isolation,
    mirror,
    policy,
    protection,
    publish,
    repair,
    settings,
    stack,
)
from waypost.errors import WaypostError

COMMAND_MODULES = [
    stack,
    cluster,
    publish,
    get,
    isolation,
    discover,
    agent,
    mirror,
    config_sync,
    config,
    protection,
    gateway,
    controller,
    bridge,
    policy,
    repair,
    demo,
    settings,
    # Append a module here; each has `commands: list[click.Command]`.
]


class _Group(click.Group):
    """Shows our own errors as one line, and commands in the order they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except WaypostError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("waypost"), prog_name="waypost")
def main() -> None:
    """Streaming service discovery: registrations and heartbeats in Kafka, route tables in Redis.

    Start everything on this machine with `waypost up`, look at it with `waypost status`, and stop it
    with `waypost down`. Commands that talk to a registry use --kafka and --redis, else
    WAYPOST_KAFKA_BOOTSTRAP and WAYPOST_REDIS_URL, else the stack running here.
    """


for _module in COMMAND_MODULES:
    for _command in _module.commands:
        main.add_command(_command)
