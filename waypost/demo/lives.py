"""The acts about one instance: it dies, drains, is deregistered, falls silent, flaps."""

from __future__ import annotations

import signal
import time

from waypost.demo import instance as signals
from waypost.demo.figures import at_most, exactly, happened, removed_after_lease, within_ms
from waypost.demo.script import Deregister, Drain, Flap, Kill, Silence
from waypost.demo.stage import PATIENCE_S, Stage

REMOVAL_MARGIN_S = 2.0
"""Silent death → removed: lease + this."""
REMOVAL_MS = 500.0
"""The longest an explicit change may take, ibid."""


def kill(act: Kill, stage: Stage) -> None:
    stage.excused.add(act.instance)
    stage.next_beat(act.instance)
    stage.say(f"SIGKILL for {act.instance}: it says nothing, its lease of {stage.script.cast.lease_s} s has to")
    began = time.monotonic()
    stage.fleet.signal(act.instance, signal.SIGKILL)
    gone = stage.until_gone(act.instance, began)
    member = stage.member(act.instance)
    since_beat = gone - member.last_beat if gone and member.last_beat else None
    since_kill = gone - member.killed if gone and member.killed else None
    failed = [c for c in stage.observed.failed_calls if c.instance == act.instance and c.attempt == 1]
    if since_beat is not None and since_kill is not None:
        stage.say(f"    removed {since_beat:.2f} s after its last beat, {since_kill:.2f} s after its death; "
                  f"{len(failed)} calls met it meanwhile")  # fmt: skip
    stage.figures["silent_death"] = {
        "lease_s": stage.script.cast.lease_s,
        "removed_s_after_last_beat": since_beat,
        "removed_s_after_kill": since_kill,
        "first_tries_that_met_it": len(failed),
    }
    stage.expect(
        removed_after_lease(
            "killed: removed after its last beat", since_beat, stage.script.cast.lease_s, REMOVAL_MARGIN_S
        )
    )


def drain(act: Drain, stage: Stage) -> None:
    stage.excused.add(act.instance)
    stage.say(
        f"SIGTERM for {act.instance}: it drains, serves on for {stage.script.cast.grace_s:g} s, stops, deregisters"
    )
    began = time.monotonic()
    stage.fleet.signal(act.instance, signals.LEAVE)
    gone = stage.until_gone(act.instance, began)
    member = stage.member(act.instance)
    stage.watch(lambda: member.exited is not None)
    failed = [c for c in stage.observed.failed_calls if c.instance == act.instance and c.at >= began]
    ahead = member.stopping - gone if gone and member.stopping else None
    stage.say(f"    out of the table {_seconds(ahead)} before it stopped serving; {len(failed)} failed calls")
    stage.figures["drained"] = {"removed_s_before_it_stopped": ahead, "failed_calls": len(failed)}
    stage.expect(
        happened(
            "drained: leaves the table, then stops",
            "table first",
            "table first" if ahead and ahead > 0 else "not so",
            bool(ahead and ahead > 0),
        )
    )
    stage.expect(exactly("drained: failed calls to it", len(failed), 0))
    stage.expect(happened("drained: its process ended well", "status 0", f"status {member.status}", member.status == 0))


def deregister(act: Deregister, stage: Stage) -> None:
    stage.excused.add(act.instance)
    member = stage.member(act.instance)
    stage.say(f"{act.instance} is deregistered by an operator; its process knows nothing and goes on beating")
    began = time.monotonic()
    stage.ledger.registrar.deregister(member.service, act.instance)
    gone = stage.until_gone(act.instance, began)
    timings = stage.ledger.settle(stage.observed, PATIENCE_S)
    beats = member.beats
    stage.watch(lambda: member.beats >= beats + act.beats)
    stage.observed.pause(2.0)  # two ticks: the last beat is folded
    returns = 0 if gone is None else len(stage.observed.moves_of(act.instance, gone)) - 1
    took = timings.milliseconds[0] if timings.milliseconds else None
    stage.say(f"    gone after {_ms(took)}; {member.beats - beats} beats later it is still out")
    stage.figures["deregistered"] = {"removed_ms": took, "late_beats": member.beats - beats, "returns": returns}
    stage.expect(within_ms("deregistered: visible to the reader", took, REMOVAL_MS))
    stage.expect(exactly("deregistered: returns by late beats", returns, 0))
    stage.fleet.signal(act.instance, signals.LEAVE)
    stage.watch(lambda: member.exited is not None)


def silence(act: Silence, stage: Stage) -> None:
    stage.excused.add(act.instance)
    member = stage.member(act.instance)
    stage.next_beat(act.instance)
    stage.say(f"{act.instance} falls silent past its lease but serves on, then beats again")
    began = time.monotonic()
    stage.fleet.signal(act.instance, signals.SILENCE)
    gone = stage.until_gone(act.instance, began)
    silent = gone - member.last_beat if gone and member.last_beat else None
    stage.fleet.signal(act.instance, signals.SPEAK)
    spoke = time.monotonic()
    back = stage.until_back(act.instance, spoke)
    stage.observed.pause(2.0)
    moves = stage.observed.moves_of(act.instance, began)
    return_s = back - spoke if back else None
    stage.say(
        f"    out {_seconds(silent)} after its last beat, back {_seconds(return_s)} after it spoke: {len(moves)} moves"
    )
    stage.figures["silent"] = {"removed_s_after_last_beat": silent, "back_s": return_s, "route_changes": len(moves)}
    stage.expect(
        removed_after_lease("silent: removed after its last beat", silent, stage.script.cast.lease_s, REMOVAL_MARGIN_S)
    )
    stage.expect(
        within_ms("silent: back in the table after its next beat", return_s * 1000 if return_s else None, 2000.0)
    )
    stage.expect(exactly("silent: route changes, out and in", len(moves), 2))


def flap(act: Flap, stage: Stage) -> None:
    stage.excused.add(act.instance)
    member = stage.member(act.instance)
    began, beats = time.monotonic(), member.beats
    stage.say(f"{act.instance} reports fail, pass, fail, pass … many times a second for {act.seconds:g} s")
    stage.fleet.signal(act.instance, signals.FLAP)
    flips = signals.flap_reports(act.seconds)
    stage.watch(lambda: member.beats >= beats + flips)
    took = time.monotonic() - began
    stage.observed.pause(2.5)

    def is_damped() -> bool:
        return stage.writes.reason(member.service, act.instance) == "damped"

    stage.watch(lambda: stage.observed.is_routed(act.instance) or is_damped())
    moves = stage.observed.moves_of(act.instance, began)
    # Beats are folded by ticks of a second: one change per tick, whatever happened in it, and the ends.
    limit = int(max(act.seconds, took)) + 2
    end = "in" if stage.observed.is_routed(act.instance) else "damped" if is_damped() else "out"
    stage.say(f"    {flips} reports made {len(moves)} route changes; at the end it is {end}")
    stage.figures["flapping"] = {"reports": flips, "route_changes": len(moves), "limit": limit}
    stage.expect(at_most("flapping: route changes", len(moves), limit))
    stage.expect(
        happened(
            "flapping: in the table at the end, or damped",
            "in or damped",
            end,
            end != "out",
        )
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} ms"
