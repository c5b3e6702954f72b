"""The show from curtain to curtain: what `waypost demo` calls."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waypost.demo import caller, report, visitor
from waypost.demo.acts import perform
from waypost.demo.figures import at_least, exactly, happened
from waypost.demo.fleet import Fleet, end_earlier_fleets
from waypost.demo.gateway import Visits
from waypost.demo.ledger import Ledger
from waypost.demo.observed import Observed
from waypost.demo.script import SCRIPTS, Script
from waypost.demo.stack import Ground
from waypost.demo.stage import Stage, say
from waypost.demo.worker import Worker
from waypost.demo.writes import WriteCounter
from waypost.local.process import TAG
from waypost.local.state import DEFAULT_STATE_DIR, Stack, load_stack, write_whole
from waypost.model.names import DEFAULT_NAMESPACE

READER = "reader"
INTERRUPTED = 130
VISITS_PER_SECOND = 20.0
"""Through the gateway, at most; so few that the other figures are not its figures. A rolling replacement has more."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `waypost demo` was asked for."""

    state_dir: Path
    keep: bool = False
    calls_per_second: float = 50.0
    seed: int = 1
    script: str = "full"
    gateway: str | None = None
    """`traefik`, `envoy` or `none`; None: that of the running stack, else Traefik."""


def play(options: Options) -> int:
    """Return the exit status: 0 when every expectation held, 1 when one did not, 130 when interrupted.

    Whatever happens, what was started here is stopped; with `keep` only when the show did not come to its end.
    Raises StackError when there can be no show. Call it on the main thread.
    """
    # The producer logs every failed attempt; what the demo cannot do without raises.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(INTERRUPTED))
    ground = Ground(state_dir=options.state_dir)
    kept = False
    try:
        stack = ground.bring_up(lasting=options.keep, gateway=options.gateway)
        if ended := end_earlier_fleets(options.state_dir):
            say(f"ended {ended} processes of an earlier demo")
        held = _show(options, stack)
        kept = options.keep
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    finally:
        if not kept:
            _uninterrupted()
            ground.clear()
    return 0 if held else 1


def _show(options: Options, stack: Stack) -> bool:
    """Return whether every expectation held. The fleet is gone afterwards, unless it is kept."""
    script, observed = SCRIPTS[options.script], Observed()
    with contextlib.ExitStack() as cleanup:
        fleet = Fleet(options.state_dir, observed.take)
        cleanup.callback(fleet.end)
        cleanup.callback(_uninterrupted)
        ledger = Ledger(stack.kafka_bootstrap, stack.redis_url)
        cleanup.callback(ledger.close)
        if left := ledger.clear(script.cast.services):
            say(f"deregistered {left} instances that an earlier demo left behind")
        reader = _start_reader(options, stack, script, observed)
        cleanup.callback(_end_reader, reader, observed)
        visits = _start_visits(options, stack, script, observed)
        if visits is not None:
            cleanup.callback(visits.end)
        writes = WriteCounter(stack.redis_url)
        cleanup.callback(writes.close)
        stage = Stage(
            script=script,
            bootstrap=stack.kafka_bootstrap,
            observed=observed,
            fleet=fleet,
            ledger=ledger,
            writes=writes,
            visits=visits,
            chance=random.Random(options.seed),
        )
        before, began = writes.now(), time.monotonic()
        for act in script.acts:
            perform(act, stage)
        _end_reader(reader, observed)
        if visits is not None:
            visits.end()
        stage.figures["redis"] = _written(stage, writes.now() - before)
        stage.figures["seconds"] = round(time.monotonic() - began, 1)
        _sum_up(stage, options, stack)
        held = _tell(options, stage, stack)
        if options.keep:
            fleet.stay()
            observed.wait(lambda: observed.fleet_stays, 10.0)  # until then our end is its end
            _invite(stack, options.state_dir, script)
        else:
            say("the fleet leaves")
        return held


def _start_reader(options: Options, stack: Stack, script: Script, observed: Observed) -> Worker:
    settings = caller.Settings(
        redis_url=stack.redis_url,
        services=sorted(script.cast.services),
        calls_per_second=options.calls_per_second,
        seed=options.seed,
    )
    return Worker(
        READER,
        "waypost.demo.caller",
        caller.to_json(settings),
        take=observed.take,
        log=options.state_dir / "logs" / "demo-reader.log",
        environ={TAG: str(options.state_dir)},
    )


def _start_visits(options: Options, stack: Stack, script: Script, observed: Observed) -> Visits | None:
    if stack.gateway == "none":
        return None
    settings = visitor.Settings(
        gateway=stack.gateway_url,
        services=sorted(script.cast.services),
        per_second=min(VISITS_PER_SECOND, options.calls_per_second),
        seed=options.seed,
    )
    return Visits.begin(stack.gateway, settings, options.state_dir, observed, observed.take)


def _written(stage: Stage, written: Any) -> dict[str, int]:
    return {
        "changes_entries": written.changes,
        "scripts": written.scripts,
        "writing_commands": written.commands,
        "beats": stage.observed.beats,
    }


def _sum_up(stage: Stage, options: Options, stack: Stack) -> None:
    """Judge what concerns the whole show."""
    observed = stage.observed
    first = sum(call.attempt == 1 for call in observed.failed_calls)
    failed = sum(call.attempt == 2 for call in observed.failed_calls)
    stage.figures["calls"] = {
        "made": observed.calls,
        "failed_first_try": first,
        "failed": failed,
        "reasons": dict(observed.reasons()),
    }
    # Half of the asked rate, because the first seconds have nobody to call.
    stage.expect(at_least("calls made", observed.calls, int(stage.figures["seconds"] * options.calls_per_second / 2)))
    stage.expect(exactly("failed calls, after one failover", failed, 0))
    if stage.visits is not None:
        stage.figures["gateway"], expectations = stage.visits.sum_up(stage.figures["seconds"])
        for expectation in expectations:
            stage.expect(expectation)
    lost = ", ".join(sorted({move.instance for move in stage.unexplained()}))
    stage.expect(happened("departures that nothing explains", "none", lost or "none", not lost))
    now = load_stack(options.state_dir)
    restarted = [name for name, count in now.restarts.items() if count != stack.restarts.get(name, 0)]
    if now.job and stack.job and now.job.id != stack.job.id:
        restarted.append("the job")
    stage.expect(
        happened("servers and jobs restarted meanwhile", "none", ", ".join(restarted) or "none", not restarted)
    )


def _tell(options: Options, stage: Stage, stack: Stack) -> bool:
    build = stack.job.build if stack.job else None
    result = report.document(stage.figures, stage.expectations, build=build, script=options.script, seed=options.seed)
    path = options.state_dir / "demo.json"
    write_whole(path, json.dumps(result, indent=2) + "\n")
    print(flush=True)
    for line in [*_figures(stage.figures, result), "", *report.table(stage.expectations), ""]:
        print(line)
    for line in report.verdict(stage.expectations, logs=options.state_dir / "logs"):
        print(line)
    print(f"figures: {path}", flush=True)
    return bool(result["held"])


def _figures(figures: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
    machine, calls, redis = result["machine"], figures["calls"], figures["redis"]
    yield f"{result['date']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    yield f"build {result['build']}, script {result['script']}, seed {result['seed']}, {figures['seconds']} s"
    yield (
        f"calls {calls['made']}, failed at first try {calls['failed_first_try']}"
        f"{_counted(calls['reasons'])}, failed {calls['failed']}"
    )
    if through := figures.get("gateway"):
        yield (
            f"requests through {through['kind']} {through['requests']}, failed {through['failed']}"
            f"{f', cut off by a SIGKILL {cut}' if (cut := through['cut_by_a_kill']) else ''}"
            f"{_counted(through['reasons'])}"
        )
    yield (
        f"beats {redis['beats']}, entries in `changes` {redis['changes_entries']}, "
        f"writing commands in Redis {redis['writing_commands']}"
    )


def _counted(reasons: dict[str, int]) -> str:
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f" ({counted})" if counted else ""


def _invite(stack: Stack, state_dir: Path, script: Script) -> None:
    service = next(iter(script.cast.services))
    gateway = through = ""
    if stack.gateway != "none":
        gateway = f"\n  {stack.gateway.capitalize():<6} {stack.gateway_url}, admin {stack.gateway_admin}"
        through = f"\n  curl {stack.gateway_url}/{DEFAULT_NAMESPACE}/{service}/"
    where = "" if state_dir == DEFAULT_STATE_DIR.resolve() else f" --state-dir {state_dir}"
    print(f"""
The stack and the fleet go on running:
  Kafka  {stack.kafka_bootstrap}
  Redis  {stack.redis_url}
  Flink  {stack.flink_rest}{gateway}

Try:{through}
  waypost get routes {service} -w{where}
  waypost drain {service} --instance {service}-1{where}
  redis-cli -u {stack.redis_url} HGETALL 'waypost:v1:{{default/{service}}}:route'
  redis-cli -u {stack.redis_url} XREAD BLOCK 0 STREAMS waypost:v1:changes '$'
  waypost down{where}""", flush=True)  # fmt: skip


def _end_reader(reader: Worker, observed: Observed) -> None:
    observed.end_expected(READER)
    reader.let_go()
    reader.wait(10.0)


def _uninterrupted() -> None:
    """From here on everything ends: a second Ctrl-C must not leave half of it behind."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
