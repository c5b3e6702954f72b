"""The execution of repairs on Flink: per target, the actions under way and the timer of their next turn.

A turn blocks its subtask for as long as the API server takes to answer; other targets of the subtask wait. Repairs are
few, by their budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import orjson
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, OutputTag, RuntimeContext

from jobs.operators.keyed_state import StateValue
from jobs.operators.meters import Meters
from jobs.operators.one_timer import OneTimer
from schemas.flink_types import OUTPUT_RECORD
from schemas.repair_types import ACT, CANCEL, received
from waypost.metrics import REPAIR_ALARMS, REPAIR_OUTCOMES
from waypost.model.isolation import Isolation
from waypost.repair.execution import Execution
from waypost.repair.execution_state import TargetWork, decode_work, encode_work, read_around
from waypost.repair.executor import Given
from waypost.wire.isolation import encode_isolation, isolation_key
from waypost.wire.repair_decisions import decode_decision
from waypost.wire.repair_results import encode_result

log = logging.getLogger(__name__)

SETTLE_MS = 10_000
"""After a start: so long nothing that was under way before has its next turn. What was said meanwhile is still being
read, the end of its alert too. Doubled, a repair stands still for longer after each restart."""

ISOLATIONS = OutputTag("isolations", OUTPUT_RECORD)
"""Records of `service-isolation`."""


class Open(Protocol):
    """What gives turns: `sinks.kubernetes_repair.OpenSink`."""

    def advance(self, execution: Execution, isolated_by: Callable[[str], tuple[Isolation, ...]], now: int) -> Given: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Makes one: `sinks.kubernetes_repair.KubernetesRepairSink`."""

    def open(self, alarm: Callable[[str], None]) -> Open: ...


class RepairExecution(KeyedProcessFunction):
    """Input: REPAIR_INPUT rows of kind ACT, CANCEL and TABLE, by target. Output: results as records; isolations."""

    def __init__(self, sink: Sink, settle_ms: int = SETTLE_MS) -> None:
        self._sink = sink
        self._settle_ms = settle_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = Meters(runtime_context, REPAIR_OUTCOMES, REPAIR_ALARMS)
        self._state: StateValue[TargetWork] = StateValue(runtime_context, "work", encode_work, decode_work, TargetWork)
        self._timer = OneTimer(runtime_context)
        self._open = self._sink.open(self._alarm)
        self._settled_at = 0
        self._fresh: set[str] = set()

    def close(self) -> None:
        self._open.close()

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> None:
        now = ctx.timer_service().current_processing_time()
        self._settles(now)
        kind, body = value[1], value[2]
        before = work = self._state.get()
        if kind == ACT:
            told, around = orjson.loads(received(body))
            action = decode_decision(told.encode()).action
            assert action is not None
            if not work.knows(action.id):
                self._fresh.add(action.id)
                work = work.having(Execution.of(action, read_around(around), now))
        elif kind == CANCEL:
            action = decode_decision(received(body)).action
            running = work.running.get(action.id) if action is not None else None
            if running is not None:
                work = work.having(replace(running, cancelled=True, wake_at=now))
        else:
            for one in work.running.values():
                work = work.having(replace(one, table=int(body)))
        if work is not before:
            self._keep(work, now, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        if not self._timer.fires(timestamp):
            return
        now = max(timestamp, ctx.timer_service().current_processing_time())
        self._settles(now)
        work = self._state.get()
        for execution in list(work.running.values()):
            if execution.wake_at > now:
                continue
            if now < self._settled_at and execution.action.id not in self._fresh:
                work = work.having(replace(execution, wake_at=self._settled_at))
                continue
            given = self._open.advance(execution, work.isolated_by, now)
            work = work.having(given.execution)
            for word in given.isolations:
                yield ISOLATIONS, Row(isolation_key(word), encode_isolation(word))
            if given.result is not None:
                work = work.ended(given.execution)
                self._fresh.discard(given.result.id)
                self._meters.count(REPAIR_OUTCOMES, given.result.outcome.value)
                log.info("repair %s of %s: %s, %s", given.result.id, given.result.target,
                         given.result.outcome.value, given.result.detail)  # fmt: skip
                yield Row(str(given.result.target).encode(), encode_result(given.result))
        self._keep(work, now, ctx)

    def _settles(self, now: int) -> None:
        """Count the time to settle from the first thing that is heard."""
        self._settled_at = self._settled_at or now + self._settle_ms

    def _keep(self, work: TargetWork, now: int, ctx: Any) -> None:
        self._state.set(work)
        wake_at = work.wake_at
        self._timer.set(None if wake_at is None else max(wake_at, now + 1), ctx)

    def _alarm(self, text: str) -> None:
        log.error("a call that names nothing was not made: %s", text)
        self._meters.count(REPAIR_ALARMS)
