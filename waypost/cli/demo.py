"""`waypost demo`: the whole system at work on this machine, with measured figures."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from waypost.cli.options import state_dir_option


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave the stack and the fleet running afterwards; `waypost down` ends both."
)
@state_dir_option
@click.option(
    "--calls-per-second",
    type=click.FloatRange(1, 500),
    default=50,
    show_default=True,
    help="How often the reader calls, over all services.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of everything random: jitter, weights, choices.")
@click.option(
    "--script", type=click.Choice(["full", "short"]), default="full", show_default=True, help="How long a show."
)
@click.option(
    "--gateway",
    type=click.Choice(["traefik", "envoy", "none"]),
    help="Through which gateway requests go as well. [default: that of the running stack, else traefik]",
)
def demo(keep: bool, state_dir: Path, calls_per_second: float, seed: int, script: str, gateway: str | None) -> None:
    """Show it on real servers: a fleet arrives, beats, dies, drains and flaps while a reader calls it.

    Starts Kafka, Valkey, Flink, a gateway and the job unless they run already, then 40 small HTTP servers that register
    and beat through Kafka, a reader that calls them by what Redis says, and a user who calls them through the gateway.
    The figures it measures are printed and written to demo.json in the state directory. Exit status 0 when every
    expectation held. Everything it started is stopped at the end.
    """
    from waypost.demo.play import Options, play  # Kafka and Redis clients; `waypost --help` should not pay for them

    options = Options(
        state_dir=state_dir, keep=keep, calls_per_second=calls_per_second, seed=seed, script=script, gateway=gateway
    )
    sys.exit(play(options))


commands: list[click.Command] = [demo]
