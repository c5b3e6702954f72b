"""`waypost gateway-feed`: what Traefik and Envoy ask for their routes."""

from __future__ import annotations

from pathlib import Path

import click

from waypost.cli.options import redis_address, redis_option, state_dir_option
from waypost.errors import SettingsError
from waypost.gateway.projection import DEFAULT_ROOT, check_root
from waypost.gateway.rules import DEFAULT_HOST, DEFAULT_PATH, Rules

_DEFAULT_LISTEN = "127.0.0.1:8790"


@click.command("gateway-feed")
@redis_option
@state_dir_option
@click.option("--listen", default=_DEFAULT_LISTEN, show_default=True, metavar="HOST:PORT", help="Where gateways ask.")
@click.option(
    "--host", default=DEFAULT_HOST, show_default=True, metavar="TEMPLATE",
    help="Host name that means a service; empty for none.",
)  # fmt: skip
@click.option(
    "--path", default=DEFAULT_PATH, show_default=True, metavar="TEMPLATE",
    help="Path prefix that means a service, cut off before its instances see it; empty for none.",
)  # fmt: skip
@click.option(
    "-n", "--namespace", "namespaces", multiple=True, help="Serve this namespace only; may be repeated. [default: all]"
)
@click.option(
    "--traefik-redis", metavar="URL", help="Write the keys of Traefik's Redis provider to this Redis as well."
)
@click.option("--root", default=DEFAULT_ROOT, show_default=True, metavar="KEY", help="The root of those keys.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def gateway_feed(
    redis: str | None,
    state_dir: Path,
    listen: str,
    host: str,
    path: str,
    namespaces: tuple[str, ...],
    traefik_redis: str | None,
    root: str,
    log_level: str,
) -> None:
    """Follow the route tables in Redis and tell gateways what they say.

    Serves Traefik's HTTP provider at /traefik and Envoy's xDS over REST at /v3/discovery:endpoints, :clusters and
    :routes, until stopped. While Redis is away it serves the last tables it read; before it has read any it answers
    503, so gateways keep what they have. Logs are JSON lines on standard output.
    """
    try:
        from waypost import logs
        from waypost.gateway.serve import Settings, run
        from waypost.serving import read_listen
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing; pip install 'waypost[gateway]'") from error

    address, port = read_listen(listen)
    settings = Settings(
        redis_url=redis_address(redis, state_dir),
        host=address,
        port=port,
        rules=Rules(host=host, path=path, namespaces=frozenset(namespaces)),
        traefik_redis=traefik_redis,
        root=check_root(root),
    )
    logs.configure(log_level, {"service": "waypost-gateway-feed"})
    run(settings)


commands: list[click.Command] = [gateway_feed]
