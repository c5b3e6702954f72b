"""What an executor keeps per target ↔ bytes: the actions under way, and what those that are over leave behind.

Explicit and versioned as in `waypost.wire.repair_state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.isolation import REPAIR, Isolation, Verb
from waypost.model.names import ServiceKey
from waypost.model.repair_steps import Do
from waypost.model.surroundings import Spared, Surroundings
from waypost.repair.execution import Execution, Phase
from waypost.wire.repair_action import action_fields, read_action
from waypost.wire.repair_results import StepOutcome, StepResult

VERSION = 3
"""1 knew a table only once it had changed, 2 not since when an action is denied."""
REMEMBERED = 64
"""Ended actions of one target: more than its policies allow in any time that a job is behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetWork:
    """`running` by action id. `over`: ended actions, the newest last, with what they had isolated."""

    running: Mapping[str, Execution] = field(default_factory=dict)
    over: Mapping[str, tuple[Isolation, ...]] = field(default_factory=dict)

    def knows(self, action: str) -> bool:
        return action in self.running or action in self.over

    def having(self, execution: Execution) -> TargetWork:
        return replace(self, running={**self.running, execution.action.id: execution})

    def ended(self, execution: Execution) -> TargetWork:
        running = {name: one for name, one in self.running.items() if name != execution.action.id}
        over = {**self.over, execution.action.id: execution.isolations}
        return TargetWork(running=running, over=dict(list(over.items())[-REMEMBERED:]))

    def isolated_by(self, action: str) -> tuple[Isolation, ...]:
        return self.over.get(action, ())

    @property
    def wake_at(self) -> int | None:
        return min((one.wake_at for one in self.running.values()), default=None)


def encode_work(work: TargetWork) -> bytes:
    """Encode what is kept of one target."""
    over = [(name, [_isolation_fields(word) for word in words]) for name, words in work.over.items()]
    return orjson.dumps((VERSION, [_fields(one) for one in work.running.values()], over))


def decode_work(blob: bytes) -> TargetWork:
    """Decode what `encode_work` wrote. Raises StateVersionError."""
    version, *fields = orjson.loads(blob)
    if not 1 <= version <= VERSION:
        raise StateVersionError(
            f"state of version {version}, but this build reads versions 1 to {VERSION}: "
            "restore the savepoint with the release that wrote it"
        )
    running, over = fields
    found = [_execution(one) for one in running]
    if version == 1:
        found = [one if one.table >= 0 else replace(one, table=one.around.healthy) for one in found]
    return TargetWork(
        running={one.action.id: one for one in found},
        over={name: tuple(_isolation(word) for word in words) for name, words in over},
    )


def around_fields(around: Surroundings) -> list[Any]:
    """Return the surroundings of an action as JSON has them."""
    spared = [(one.namespace, one.pod) for one in around.spared]
    return [around.instances, [str(service) for service in around.services], spared, around.healthy, around.takes]


def read_around(fields: Any) -> Surroundings:
    """Read what `around_fields` returned."""
    instances, services, spared, healthy, *takes = fields
    return Surroundings(
        instances=tuple(instances),
        services=tuple(ServiceKey.parse(service) for service in services),
        spared=tuple(Spared(*one) for one in spared),
        healthy=healthy,
        takes=takes[0] if takes else 0,
    )


def _fields(e: Execution) -> list[Any]:
    return [
        action_fields(e.action),
        around_fields(e.around),
        e.phase.value,
        [(r.do.value, r.outcome.value, r.detail) for r in e.results],
        [(index, dict(notes)) for index, notes in e.notes.items()],
        e.began_at,
        e.since,
        e.quiet_since,
        e.tries,
        e.good_since,
        e.detail,
        e.cancelled,
        e.table,
        [_isolation_fields(word) for word in e.isolations],
        e.wake_at,
        e.denied_since,
    ]


def _execution(fields: list[Any]) -> Execution:
    (
        action, around, phase, results, notes, began, since, quiet, tries, good, detail, cancelled, table, words, wake,
        *denied,
    ) = fields  # fmt: skip
    return Execution(
        action=read_action(action),
        around=read_around(around),
        phase=Phase(phase),
        results=tuple(
            StepResult(do=Do(do), outcome=StepOutcome(outcome), detail=detail) for do, outcome, detail in results
        ),
        notes=dict(notes),
        began_at=began,
        since=since,
        quiet_since=quiet,
        tries=tries,
        good_since=good,
        detail=detail,
        cancelled=cancelled,
        table=table,
        isolations=tuple(_isolation(word) for word in words),
        wake_at=wake,
        denied_since=denied[0] if denied else 0,
    )


def _isolation_fields(word: Isolation) -> list[Any]:
    service = str(word.service) if word.service is not None else None
    return [service, word.instance, word.node, word.cause, word.expires_at, word.request_id]


def _isolation(fields: list[Any]) -> Isolation:
    service, instance, node, cause, expires_at, request_id = fields
    return Isolation(
        verb=Verb.ISOLATE,
        service=ServiceKey.parse(service) if service is not None else None,
        instance=instance,
        node=node,
        cause=cause,
        by=REPAIR,
        expires_at=expires_at,
        request_id=request_id,
    )
