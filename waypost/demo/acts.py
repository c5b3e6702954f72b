"""How the acts of the script are performed: those about the whole fleet here, those about one instance in `lives`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from waypost.demo.burst import Change, plan_burst
from waypost.demo.figures import at_least, exactly, happened, spread, within_ms
from waypost.demo.lives import deregister, drain, flap, kill, silence
from waypost.demo.rolling import roll
from waypost.demo.script import Act, Arrive, Burst, Deregister, Drain, Flap, Kill, Quiet, Roll, Silence
from waypost.demo.stage import PATIENCE_S, Stage
from waypost.model.names import DEFAULT_NAMESPACE

CHANGE_MS = {"p50": 10.0, "p99": 100.0, "max": 500.0}
"""Explicit change → reader."""


def perform(act: Act, stage: Stage) -> None:
    """Perform one act; returns when it is over."""
    instance = getattr(act, "instance", None)
    if instance is not None and not stage.observed.is_routed(instance):
        stage.expect(happened(f"{instance} is there for its act", "in the table", "not so", held=False))
        return
    _ACTS[type(act)](act, stage)


def arrive(act: Arrive, stage: Stage) -> None:
    cast, observed = stage.script.cast, stage.observed
    stage.say(f"{cast.size} instances of {len(cast.services)} services arrive, leases of {cast.lease_s} s, "
              f"a beat each {cast.beat_s:g} s")  # fmt: skip
    due = time.monotonic()
    for service, name in cast.instances():
        stage.start(service, name)
        due = max(due + 1 / act.per_second, time.monotonic())
        stage.watch(lambda: False, due - time.monotonic())
        stage.watch(lambda: stage.observed.starting() < act.at_once)
    everybody = {name for _, name in cast.instances()}
    arrived = lambda: everybody <= set().union(*list(observed.tables.values()))  # noqa: E731
    stage.watch(arrived)
    present = [name for name in sorted(everybody) if observed.is_routed(name)]
    stage.expect(exactly("instances that arrived in the table", len(present), cast.size))
    firsts = [(observed.first_move(name, "add", 0.0), observed.members[name]) for name in present]
    arrival = spread((move.at - member.started) * 1000 for move, member in firsts if move)
    stage.figures["process_start_to_reader_ms"] = asdict(arrival) if arrival else None
    # Everybody has beaten once: from now on beats change nothing.
    stage.watch(lambda: all(member.beats for member in list(observed.members.values())))
    stage.ledger.warm_up(*cast.instances()[0])


def quiet(act: Quiet, stage: Stage) -> None:
    stage.say(f"nothing but beats for {act.seconds:g} s: what does Redis get to write?")
    # What the last act started is over when no entry came for a second.
    position = stage.writes.position()
    for _ in range(int(PATIENCE_S)):
        stage.observed.pause(1.0)
        last, position = position, stage.writes.position()
        if last == position:
            break
    services = {f"{DEFAULT_NAMESPACE}/{name}" for name in stage.script.cast.services}
    beats, before, began = stage.observed.beats, stage.writes.now(), time.monotonic()
    stage.observed.pause(act.seconds)
    wanted = int(stage.script.cast.size * act.seconds / stage.script.cast.beat_s / 2)
    stage.watch(lambda: stage.observed.beats >= beats + wanted)
    written, beats = stage.writes.now() - before, stage.observed.beats - beats
    entries = stage.writes.entries_about(services, position)
    stage.say(f"    {beats} beats, {entries} entries in `changes`, {written.scripts} scripts run, "
              f"{written.commands} writing commands")  # fmt: skip
    stage.figures["quiet"] = {
        "seconds": round(time.monotonic() - began, 1),
        "beats": beats,
        "changes_entries": entries,
        "redis_scripts": written.scripts,
        "redis_writing_commands": written.commands,
        "redis_writes_per_unchanged_beat": written.commands / beats if beats else None,
    }
    stage.expect(at_least("beats in the quiet window", beats, wanted))
    stage.expect(exactly("route writes for unchanged beats", entries, 0))


def burst(act: Burst, stage: Stage) -> None:
    stage.say(f"{act.changes} explicit changes, {act.per_second:g} each second: weights, drains, registrations")
    targets = [(s, i) for s, table in sorted(stage.observed.tables.items()) for i in sorted(table)]
    changes = plan_burst(targets, act.changes, stage.chance)
    stage.excused.update(change.instance for change in changes if change.op == "drain")
    addresses = {m.instance: m.address for m in stage.observed.moves if m.kind == "add"}
    began = due = time.monotonic()
    for number, change in enumerate(changes, 1):
        stage.observed.pause(max(0.0, due - time.monotonic()))
        due += 1 / act.per_second
        _send(change, addresses, stage)
        if number % 50 == 0:
            stage.say(f"    {number} sent")
    elapsed = time.monotonic() - began
    timings = stage.ledger.settle(stage.observed, PATIENCE_S)
    stage.skip_moves()
    seen = spread(timings.milliseconds)
    stage.figures["change_to_reader_ms"] = asdict(seen) if seen else None
    stage.figures["burst"] = {
        "sent": len(changes),
        "per_second": round(len(changes) / elapsed, 1),
        "unanswered": timings.unanswered,
        "not_applied": timings.refused,
        "answered_but_unseen": timings.unseen,
    }
    if seen:
        stage.say(f"    visible to the reader after P50 {seen.p50:.1f}, P99 {seen.p99:.1f}, max {seen.max:.1f} ms")
    if timings.unanswered or timings.refused or timings.unseen:
        stage.say(f"    {timings.unanswered} unanswered, {timings.refused} not applied, {timings.unseen} not seen")
    stage.expect(exactly("changes answered, applied and seen", len(timings.milliseconds), len(changes)))
    for name, target in CHANGE_MS.items():
        measured = getattr(seen, name) if seen else None
        stage.expect(within_ms(f"change → reader, {name.upper() if name != 'max' else name}", measured, target))


def _send(change: Change, addresses: dict[str, str], stage: Stage) -> None:
    registrar = stage.ledger.registrar
    if change.op == "weight":
        registrar.update(change.service, change.instance, weight=change.weight)
    elif change.op == "drain":
        registrar.drain(change.service, change.instance)
    else:
        address, _, port = addresses[change.instance].rpartition(":")
        attributes = stage.specs[change.instance].attributes(address, int(port))
        registrar.register(change.service, change.instance, attributes)


_ACTS: dict[type[Any], Callable[[Any, Stage], None]] = {
    Arrive: arrive,
    Quiet: quiet,
    Kill: kill,
    Drain: drain,
    Deregister: deregister,
    Silence: silence,
    Flap: flap,
    Roll: roll,
    Burst: burst,
}
