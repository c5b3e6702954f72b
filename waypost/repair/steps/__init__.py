"""Every step by its name: how it is done, and how it is seen that it still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from waypost.model.repair_steps import Do
from waypost.repair.steps.drain import drain, is_empty
from waypost.repair.steps.evict import evict, replaced
from waypost.repair.steps.isolate import isolate, release
from waypost.repair.steps.nodes import cordon, is_cordoned, uncordon, was_cordoned
from waypost.repair.steps.progress import HOLDS, Check, Progress, Turn
from waypost.repair.steps.words import notify, webhook
from waypost.repair.steps.workloads import claimed, restart, scale, stands


def _holds(_turn: Turn) -> Check:
    return HOLDS


def _unknown(_turn: Turn) -> bool:
    return False


class Way(NamedTuple):
    """How a step is done, how it is verified, and how the object itself tells that it was begun."""

    do: Callable[[Turn], Progress]
    check: Callable[[Turn], Check] = _holds
    begun: Callable[[Turn], bool] = _unknown


WAYS: Mapping[Do, Way] = {
    Do.EVICT_POD: Way(evict, replaced, claimed),
    Do.RESTART: Way(restart, stands, claimed),
    Do.SCALE: Way(scale, stands, claimed),
    Do.ISOLATE: Way(isolate),
    Do.CORDON: Way(cordon, is_cordoned, was_cordoned),
    Do.DRAIN: Way(drain, is_empty),
    Do.WEBHOOK: Way(webhook),
    Do.NOTIFY: Way(notify),
    Do.UNCORDON: Way(uncordon),
    Do.RELEASE: Way(release),
}
