"""What a repair can do, step by step, and with which parameters.

A step is data: the sink that executes it knows how. The register below is the only place that says which parameters
there are; policies are read by it, schemas and documents follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Do(str, Enum):
    """One kind of step. The last two only take back what we did ourselves; no policy can ask for them."""

    EVICT_POD = "evict-pod"
    RESTART = "restart"
    SCALE = "scale"
    ISOLATE = "isolate"
    CORDON = "cordon"
    DRAIN = "drain"
    WEBHOOK = "webhook"
    NOTIFY = "notify"
    UNCORDON = "uncordon"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a step. An integer has bounds, a text a pattern; without a default it is required."""

    default: int | str | None = None
    low: int = 0
    high: int = 0
    pattern: str = ""

    @property
    def is_number(self) -> bool:
        return not self.pattern


RESTART_INSTEAD = "restart"
REFUSE = "refuse"

_WORKLOAD = r"(?:(?:deployment|statefulset|daemonset)/[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)?"
_URL = r"https?://[A-Za-z0-9._~:/?#@!$&()+,;=%\[\]-]{1,2000}"

PARAMETERS: Mapping[Do, Mapping[str, Parameter]] = {
    # What to do when the alert names no pod.
    Do.EVICT_POD: {"when_unnamed": Parameter(default=RESTART_INSTEAD, pattern=rf"{RESTART_INSTEAD}|{REFUSE}")},
    # "": the owner of the service's pods, if it is one and the same.
    Do.RESTART: {"workload": Parameter(default="", pattern=_WORKLOAD)},
    Do.SCALE: {"by": Parameter(default=1, low=1, high=10), "at_most": Parameter(low=1, high=1_000)},
    # A forgotten isolation does not last for ever.
    Do.ISOLATE: {"for_seconds": Parameter(default=3_600, low=60, high=86_400)},
    Do.CORDON: {},
    Do.DRAIN: {"timeout_seconds": Parameter(default=600, low=10, high=900)},
    Do.WEBHOOK: {
        "url": Parameter(pattern=_URL),
        "timeout_seconds": Parameter(default=5, low=1, high=30),
    },
    Do.NOTIFY: {},
    Do.UNCORDON: {},
    Do.RELEASE: {},
}

OF_SERVICES = frozenset({Do.EVICT_POD, Do.RESTART, Do.SCALE, Do.ISOLATE, Do.WEBHOOK, Do.NOTIFY})
OF_NODES = frozenset({Do.CORDON, Do.ISOLATE, Do.DRAIN, Do.WEBHOOK, Do.NOTIFY})
"""What a policy about services, or about nodes, may ask for."""

HARMLESS = frozenset({Do.WEBHOOK, Do.NOTIFY, Do.UNCORDON, Do.RELEASE})
"""Takes nothing from anybody, so that no budget is asked."""

UNDONE_BY: Mapping[Do, Do] = {Do.CORDON: Do.UNCORDON, Do.ISOLATE: Do.RELEASE}
"""What can be taken back, and how. An evicted pod cannot."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step with all of its parameters."""

    do: Do
    parameters: Mapping[str, int | str] = field(default_factory=dict)

    @classmethod
    def of(cls, do: Do, **given: int | str) -> Step:
        """Return a step, its other parameters as by default. Raises ValueError when one is missing or unknown."""
        known = PARAMETERS[do]
        if unknown := given.keys() - known.keys():
            raise ValueError(f"{do.value} has no parameter {', '.join(sorted(unknown))}")
        found: dict[str, int | str] = {}
        for name, parameter in known.items():
            value = given.get(name, parameter.default)
            if value is None:
                raise ValueError(f"{do.value} needs {name}")
            found[name] = value
        return cls(do, found)


def undo(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return what takes the steps back, the last one first; empty when nothing can be."""
    return tuple(Step(UNDONE_BY[step.do]) for step in reversed(steps) if step.do in UNDONE_BY)
