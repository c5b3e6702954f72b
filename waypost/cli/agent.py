"""`waypost agent`: the sidecar."""

from __future__ import annotations

import socket as sockets
from datetime import timedelta
from pathlib import Path

import click

from waypost.cli.options import kafka_address, namespace_option, redis_option, state_dir_option
from waypost.cli.values import Seconds
from waypost.errors import SettingsError, StackError
from waypost.local.state import running_stack
from waypost.metrics import Origin
from waypost.metrics_server import ProcessMetrics
from waypost.settings import Topics as TopicSettings

_DEFAULT_SOCKET = "/var/run/service.sock"
_FILE = click.Path(dir_okay=False, path_type=Path)
_TOPICS = TopicSettings()


class _Mode(click.ParamType):  # type: ignore[type-arg]
    name = "mode"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            mode = int(str(value), 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o777:
            self.fail(f"{value!r} is no mode such as 660", param, ctx)
        return mode


@click.command()
@click.option(
    "--upstream", envvar="WAYPOST_KAFKA_BOOTSTRAP", metavar="HOST:PORT[,…]",
    help="Kafka's bootstrap servers. [default: $WAYPOST_KAFKA_BOOTSTRAP, else the running stack's]",
)  # fmt: skip
@click.option(
    "--service-registry", "socket", type=_FILE, default=_DEFAULT_SOCKET, show_default=True, metavar="PATH",
    help="The unix socket to serve on. PATH.state beside it says who is looked after.",
)  # fmt: skip
@click.option("--socket-mode", type=_Mode(), default="660", show_default=True, help="Who may use it, in octal.")
@redis_option
@state_dir_option
@namespace_option
@click.option("--node", metavar="NAME", help="The machine it runs on. [default: its host name]")
@click.option("--zone", default="", metavar="NAME", help="The zone of its instances; the proxy calls that first.")
@click.option("--proxy", metavar="HOST:PORT", help="Serve the proxy on a port too. [default: on the socket only]")
@click.option("--cache", type=_FILE, metavar="FILE", help="Keep tables in this file, for a start without Redis.")
@click.option(
    "--grace", type=Seconds(), default="5s", show_default=True,
    help="When it ends: how long its instances drain before they are deregistered.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="When it ends: leave them registered, for the agent that starts next.")
@click.option("--allow-exec", is_flag=True, help="Let checks run programs, as this agent's user.")
@click.option(
    "--batch-from", type=click.IntRange(min=1), default=16, show_default=True, metavar="N",
    help="From so many beats at once on they share a record.",
)  # fmt: skip
@click.option("--topic-registry", default=_TOPICS.registry, show_default=True, help="The topic for registrations.")
@click.option("--topic-heartbeat", default=_TOPICS.heartbeat, show_default=True, help="The topic for beats.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def agent(
    upstream: str | None,
    socket: Path,
    socket_mode: int,
    redis: str | None,
    state_dir: Path,
    namespace: str,
    node: str | None,
    zone: str,
    proxy: str | None,
    cache: Path | None,
    grace: int,
    keep: bool,
    allow_exec: bool,
    batch_from: int,
    topic_registry: str,
    topic_heartbeat: str,
    log_level: str,
) -> None:
    """Look after the instances beside it, over HTTP on a unix socket.

    They register there, in any language; the agent tells Kafka, looks whether they live, beats for them, and finds
    other services for them: by lookup, by watch, or as a proxy for http://SERVICE.waypost/. Without Redis it registers
    only. Logs are JSON lines on standard output.

    \b
    waypost agent --upstream=kafka:9092 --service-registry=/var/run/service.sock
    curl --unix-socket /var/run/service.sock -X PUT http://agent/v1/instances/payments/payments-1 \\
        -d '{"address":"10.1.2.3","port":8080,"check":{"http":{"path":"/healthz"}}}'
    curl --unix-socket /var/run/service.sock http://payments.waypost/orders/7
    """
    try:
        from waypost import logs
        from waypost.agent.application import Rules
        from waypost.agent.serve import Settings, run
        from waypost.client.registrar import Topics
        from waypost.serving import read_listen
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[agent]'") from error
    from waypost.errors import DecodeError
    from waypost.wire.attributes import read_node, read_zone
    from waypost.wire.names import read_namespace

    kafka = kafka_address(upstream, state_dir)
    try:
        rules = Rules(
            namespace=read_namespace(namespace, ""),
            node=read_node(node or sockets.gethostname()),
            zone=read_zone(zone),
            allow_exec=allow_exec,
        )
    except DecodeError as error:
        raise SettingsError(str(error)) from error
    settings = Settings(
        bootstrap=kafka,
        socket=socket,
        mode=socket_mode,
        redis_url=redis or _redis_of_stack(kafka, state_dir),
        rules=rules,
        topics=Topics(registry=topic_registry, heartbeat=topic_heartbeat),
        proxy=None if proxy is None else read_listen(proxy),
        cache=cache,
        grace=timedelta(seconds=grace),
        keep=keep,
        batch_from=batch_from,
    )
    logs.configure(log_level, {"service": "waypost-agent"})
    run(settings, ProcessMetrics(Origin.AGENT))


def _redis_of_stack(kafka: str, state_dir: Path) -> str | None:
    """Return the Redis of the local stack if Kafka is its too: tables of another log say nothing of this one."""
    try:
        stack = running_stack(state_dir)
    except StackError:
        return None
    return stack.redis_url if stack.kafka_bootstrap == kafka else None


commands: list[click.Command] = [agent]
