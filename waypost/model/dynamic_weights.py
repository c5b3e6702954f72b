"""Weights that follow the load: an instance busier than its peers gets a smaller share of new requests.

Opt-in by instance: metadata `waypost.io/weight: load`. Once per window each such instance's mean cpu is compared with
the mean of its peers; nothing is known of the unit, so only the ratio counts.

    load ratio ──► smoothed (half of the old, half of the new)
               ──► further from 1 than START? move, until nearer than STOP: a step per window, a fifth of the error
    share      ──► differs by 5 % of the declared weight or more from what readers have? publish it

It is a slow integrator on purpose. Load follows weights a window or two later, and a controller that corrects the same
error again before it sees its own effect swings for ever. With steps of a fifth of the error, a delay of two windows
and the smoothing, errors shrink; and what has come near enough rests until it is far off again, so noise between the
two bounds changes nothing.

What it never does: a share below a tenth or above the whole; a weight of 0 (unless declared); anything to an instance
that says no cpu, or to a fleet that has nothing to do. An instance alone among its peers keeps what it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from waypost.model.stamp import Stamp

METADATA_KEY = "waypost.io/weight"
BY_LOAD = "load"

WHOLE = 1_000
"""Shares and ratios are in thousandths: whole numbers give one result on every machine."""

LEAST = 100
"""A share never falls below this: an overloaded instance must still get requests, or nobody would see it recover."""

START, STOP = 250, 100
"""A share begins to move when the ratio is further from 1 than the first, and rests when it is nearer than the second.
One bound for both would make it move with every noise around that bound."""

GAIN = 200
"""What part of the error one step corrects. Twice as much swings when load follows weights two windows late; half as
much takes twice as long. Simulated in `tests/model/test_dynamic_weights.py`."""

MAX_ERROR = 1_000
"""Errors beyond count as this, so that one absurd reading moves a share by a fifth at most."""

MIN_CHANGE = 50
"""Smaller changes of a share are not published: each is a change of the table."""

IDLE_MILLI = 50
"""Below a mean of 0.05 (of a core, as most say it) ratios are noise, and there is nothing to balance."""

FORGET_AFTER = 3
"""Windows without a word of its cpu after which an instance has its declared weight again."""


def follows_load(metadata: Mapping[str, str]) -> bool:
    """Tell whether an instance asked for it."""
    return metadata.get(METADATA_KEY) == BY_LOAD


@dataclass(frozen=True, slots=True)
class LoadWeight:
    """How one registration's weight stands. `share` is where the integrator is, `published` what readers have;
    `ratio` is the smoothed load against that of the peers, `moving` whether the share follows it; `silent` counts
    windows without a word of cpu."""

    generation: Stamp
    share: int = WHOLE
    published: int = WHOLE
    ratio: int = WHOLE
    moving: bool = False
    silent: int = 0
    window: int = 0
    """End of the newest window that was taken into account: one that is told again is not."""

    def weigh(self, declared: int) -> int:
        """Return the effective weight: 0 only when 0 was declared."""
        return max(1, (declared * self.published + WHOLE // 2) // WHOLE) if declared else 0


def adjust(before: Mapping[str, LoadWeight], cpu: Mapping[str, int], window: int) -> dict[str, LoadWeight]:
    """Return the weights that changed in any way after a window that ended at `window` (epoch ms of the log).

    `before` has every instance of the service that follows its load and is in the table; `cpu` is the mean of those
    that said any, in thousandths.
    """
    fresh = {instance: weight for instance, weight in before.items() if weight.window < window}
    said = {instance: cpu[instance] for instance in fresh if instance in cpu}
    mean = sum(said.values()) // len(said) if said else 0
    after = {}
    for instance, weight in fresh.items():
        if instance not in said:
            after[instance] = _silent(weight, window)
        elif mean < IDLE_MILLI or len(said) < 2:
            after[instance] = replace(weight, silent=0, window=window)
        else:
            after[instance] = _step(weight, said[instance] * WHOLE // mean, window)
    return {instance: weight for instance, weight in after.items() if weight != before[instance]}


def _silent(weight: LoadWeight, window: int) -> LoadWeight:
    if weight.silent + 1 < FORGET_AFTER:
        return replace(weight, silent=weight.silent + 1, window=window)
    return LoadWeight(weight.generation, silent=FORGET_AFTER, window=window)


def _step(weight: LoadWeight, ratio: int, window: int) -> LoadWeight:
    smoothed = (weight.ratio + min(ratio, WHOLE + MAX_ERROR)) // 2
    error = max(-MAX_ERROR, min(smoothed - WHOLE, MAX_ERROR))
    share = weight.share
    moving = abs(error) > (STOP if weight.moving else START)
    if moving:
        share = max(LEAST, min(share * (WHOLE * WHOLE - GAIN * error) // (WHOLE * WHOLE), WHOLE))
    published = weight.published
    if abs(share - published) >= MIN_CHANGE or (share != published and share in (LEAST, WHOLE)):
        published = share
    return LoadWeight(weight.generation, share, published, smoothed, moving, 0, window)
