"""`make chaos`: faults at random, for as long as it is told to, on a cluster of its own.

    python -m tests.e2e.chaos [--minutes 30 | --hours N] [--seed N] [--only FAULT …] [--short] [--keep]

Prints a line per fault and at the end a table. Exit status 1 with the first thing that is not as promised; the cluster
is then left as it is (`waypost status --state-dir .waypost-chaos`), with what happened in its logs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from random import Random

from tests.e2e.chaos.arena import Arena, Outcome
from tests.e2e.chaos.faults import LONG, Fault

STATE = Path(__file__).resolve().parents[3] / ".waypost-chaos"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    named = {fault.__name__.replace("_", "-"): fault for fault in LONG}
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=30.0, help="[default: 30]")
    length.add_argument("--hours", type=float)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="[default: another one each time]")
    parser.add_argument("--only", nargs="+", choices=named, metavar="FAULT", help=f"of {', '.join(named)}")
    parser.add_argument("--short", action="store_true", help="each fault as short as in `make test`")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    asked = parser.parse_args()
    seconds = 3600 * asked.hours if asked.hours else 60 * asked.minutes
    faults = [named[name] for name in asked.only or named]

    began = time.monotonic()
    say = lambda what: print(f"{time.monotonic() - began:7.0f} s  {what}", flush=True)  # noqa: E731
    say(f"seed {asked.seed}, {seconds / 60:.0f} min, {len(faults)} kinds of faults")
    _waypost("down", "--purge")
    if _waypost("up", "--detach", "--gateway", "traefik"):
        return 1
    outcomes: list[Outcome] = []
    try:
        with Arena(STATE, Random(asked.seed), long=not asked.short, say=say) as arena:
            say("the canary lives")
            for fault in _order(faults, arena.random, until=began + seconds):
                say(f"begins: {fault.__doc__}")
                outcomes.append(arena.strike(fault))
                say(str(outcomes[-1]))
    except AssertionError as error:
        say(f"not as promised: {error}")
        say(f"the cluster is left as it is, in {STATE}; the same faults again: --seed {asked.seed}")
        return 1
    print(_table(outcomes))
    if not asked.keep:
        _waypost("down", "--purge")
    return 0


def _order(faults: list[Fault], random: Random, *, until: float):  # type: ignore[no-untyped-def]
    """Yield every fault once per round, each round in another order."""
    while True:
        for fault in random.sample(faults, len(faults)):
            if time.monotonic() >= until:
                return
            yield fault


def _table(outcomes: list[Outcome]) -> str:
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_fault[outcome.fault].append(outcome)
    lines = [f"{'fault':40} {'times':>5} {'in time again after, median and longest':>40} {'requests failed':>16}"]
    for name, several in sorted(by_fault.items()):
        back = [outcome.back_after for outcome in several]
        failed, calls = sum(o.failed_calls for o in several), sum(o.calls for o in several)
        lines.append(
            f"{name.replace('_', ' '):40} {len(several):5} {statistics.median(back):33.1f} s {max(back):.1f} s"
            f" {failed:>7} of {calls}"
        )
    return "\n".join(lines)


def _waypost(*arguments: str) -> int:
    command = [sys.executable, "-m", "waypost", *arguments, "--state-dir", str(STATE)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
