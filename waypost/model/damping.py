"""Damping: an instance that comes and goes has to stay away until it was calm for a while.

Each departure (a lapse that took effect, or health turning to fail) costs `PENALTY`; the sum decays by half in every
half-life of log time. When it exceeds `suppress`, the next comings back wait until it has fallen to `reuse`. Two limits
and not one, or the end of a wait would be the beginning of the next.

    penalty
     3000 ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱╲┄┄┄┄┄┄┄┄┄ suppress
          ╱╲   ╱╲    ╱ ╲╱     ╲
     1000 ┄┄╲╱┄┄┄╲╱┄┄┄┄┄┄┄┄┄┄┄┄┄┄╲┄┄┄┄ reuse
                          away   │ back

Nobody is taken out of a table by this: the wait begins with a departure. A new registration is not waited with, and
the last endpoint of a service neither (`waypost.model.service`). Source: RFC 2439, which damps BGP routes the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp2, log2

from waypost.model.stamp import Stamp

PENALTY = 1_000
"""Of one departure: the unit of the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DampingRules:
    """The limits, in penalty and ms of log time. What each is for is said in `waypost.settings.Damping`."""

    enabled: bool = True
    half_life_ms: int = 60_000
    suppress: int = 3_000
    reuse: int = 1_000
    longest_ms: int = 300_000

    @property
    def ceiling(self) -> float:
        """No penalty grows beyond this: it decays to `reuse` within `longest_ms`."""
        return self.reuse * exp2(min(self.longest_ms / self.half_life_ms, 60))


@dataclass(frozen=True, slots=True)
class Flap:
    """The penalty of one instance as of `at`. `until`: its coming back waits until then; 0: it does not wait.
    `generation` is the registration that waits."""

    penalty: float
    at: int
    generation: Stamp
    until: int = 0

    def now(self, rules: DampingRules, at: int) -> float:
        """Return what is left of the penalty."""
        return self.penalty * exp2(-max(0, at - self.at) / rules.half_life_ms)


def departed(flap: Flap | None, generation: Stamp, at: int, rules: DampingRules) -> Flap:
    """Return the penalty after one more departure. `until` is set when the next coming back has to wait."""
    before = 0.0 if flap is None else flap.now(rules, at)
    penalty = min(before + PENALTY, max(rules.ceiling, rules.suppress + PENALTY))
    if flap is not None and flap.until and flap.generation == generation:
        return Flap(penalty, at, generation, flap.until)
    return Flap(penalty, at, generation, at + calm_after(penalty, rules) if penalty > rules.suppress else 0)


def calm_after(penalty: float, rules: DampingRules) -> int:
    """Return in how many ms a penalty will have fallen to `reuse`, at least one."""
    halves = log2(penalty / rules.reuse) if penalty > rules.reuse else 0.0
    return max(1, min(ceil(halves * rules.half_life_ms), rules.longest_ms))


def forgotten_after(penalty: float, rules: DampingRules) -> int:
    """Return in how many ms a penalty will not be worth remembering: half of `reuse`, as in RFC 2439."""
    return calm_after(penalty, rules) + rules.half_life_ms
