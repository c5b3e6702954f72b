"""`waypost demo`: the whole system at work on this machine, with measured figures."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from waypost.cli.options import state_dir_option
from waypost.errors import StackError


@click.command()
@click.argument("show", type=click.Choice(["fleet", "self-healing"]), default="fleet")
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
@click.option(
    "--if-possible",
    is_flag=True,
    help="For self-healing: do nothing, successfully, where the programs of a Kubernetes control plane are not built.",
)
def demo(
    show: str,
    keep: bool,
    state_dir: Path,
    calls_per_second: float,
    seed: int,
    script: str,
    gateway: str | None,
    if_possible: bool,
) -> None:
    """Show it on real servers: a fleet arrives, beats, dies, drains and flaps while a reader calls it.

    Starts Kafka, Valkey, Flink, a gateway and the job unless they run already, then 40 small HTTP servers that register
    and beat through Kafka, a reader that calls them by what Redis says, and a user who calls them through the gateway.
    The figures it measures are printed and written to demo.json in the state directory. Exit status 0 when every
    expectation held. Everything it started is stopped at the end.

    `waypost demo self-healing` shows repairs at a real Kubernetes control plane instead (`make kubernetes` builds it):
    a service crashes, a node dies and comes back. It writes demo-self-healing.json; of the options only --state-dir is
    for it.
    """
    if show == "self-healing":
        sys.exit(_heal(state_dir, if_possible))
    from waypost.demo.play import Options, play  # Kafka and Redis clients; `waypost --help` should not pay for them

    options = Options(
        state_dir=state_dir, keep=keep, calls_per_second=calls_per_second, seed=seed, script=script, gateway=gateway
    )
    sys.exit(play(options))


def _heal(state_dir: Path, if_possible: bool) -> int:
    try:
        from waypost.demo import healing  # needs the client of the Kubernetes API

        healing.require_programs()
    except (ImportError, StackError) as error:
        if not if_possible:
            raise StackError(str(error)) from error
        click.echo(f"no self-healing show: {error}")
        return 0
    return healing.play(state_dir)


commands: list[click.Command] = [demo]
