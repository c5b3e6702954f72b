"""A rolling replacement of a whole service, while requests come through the gateway."""

from __future__ import annotations

import time
from functools import partial

from waypost.demo import instance as signals
from waypost.demo.figures import exactly, spread
from waypost.demo.script import Roll
from waypost.demo.stage import Stage


def roll(act: Roll, stage: Stage) -> None:
    """Replace every instance of a service, one by one, as a rolling deployment does."""
    visits = stage.visits
    if visits is None:
        return
    observed = stage.observed
    leaving = sorted(observed.tables.get(act.service, ()))
    stage.say(f"all {len(leaving)} instances of {act.service} are replaced, one by one, "
              f"at {act.per_second:g} requests/s through {visits.kind}")  # fmt: skip
    visits.aim(act.service, act.per_second)
    began, before = time.monotonic(), observed.visits
    failed_before = len(observed.failed_visits)
    arrived = []
    for number, old in enumerate(leaving, 1):
        new = f"{act.service}-new-{number}"
        stage.excused.add(old)
        stage.start(act.service, new)
        if not stage.watch(partial(observed.is_routed, new)):
            break
        arrived.append(new)
        left = time.monotonic()
        stage.fleet.signal(old, signals.LEAVE)
        stage.until_gone(old, left)
    stage.watch(lambda: all(observed.members[old].exited is not None for old in leaving))
    stage.watch(lambda: observed.met.keys() >= set(arrived))
    seconds = time.monotonic() - began
    visits.aim()
    stage.observed.pause(1.0)
    made, failed = observed.visits - before, len(observed.failed_visits) - failed_before
    moves = {new: observed.first_move(new, "add", began) for new in arrived}
    seen = spread((observed.met[new] - move.at) * 1000 for new, move in moves.items() if move and new in observed.met)
    if seen:
        stage.say(f"    {made} requests in {seconds:.1f} s, {failed} failed; a new instance is called "
                  f"P50 {seen.p50:.0f}, max {seen.max:.0f} ms after the reader has seen it")  # fmt: skip
    stage.figures["rolling_replacement"] = {
        "service": act.service,
        "replaced": len(arrived),
        "seconds": seconds,
        "requests": made,
        "requests_per_second": made / seconds,
        "failed": failed,
        "reader_to_gateway_ms": {"p50": seen.p50, "max": seen.max} if seen else None,
    }
    stage.expect(exactly("rolling replacement: instances replaced", len(arrived), len(leaving)))
    stage.expect(exactly(f"rolling replacement: failed requests at {act.per_second:g}/s", failed, 0))
