"""The gate on Flink: one key, so that one place sees the whole fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor

from jobs.operators.keyed_state import BYTES, StateMap, StateValue
from jobs.operators.meters import Meters
from schemas.flink_types import LEASES
from waypost.metrics import LAPSES, RENEWALS, SILENCE, TICK_LAG, TICKS, WAITING
from waypost.model.events import LeaseFact
from waypost.model.gate import Clock, Decision, Deferred, Gate, Target
from waypost.model.names import ServiceKey
from waypost.wire.fold_state import decode_clock, encode_clock
from waypost.wire.transitions import (
    decode_deferred,
    decode_row,
    encode_deferred,
    encode_transitions,
)


class _DeferredLapses(dict[Target, Deferred]):
    """All deferrals, in memory for the once-a-tick look at each, and written through to keyed state."""

    def __init__(self, state: StateMap[Deferred]) -> None:
        super().__init__()
        self._state = state
        for name in state:
            service, _, instance = name.rpartition("\n")
            super().__setitem__(Target(ServiceKey.parse(service), instance), state[name])

    def __setitem__(self, target: Target, value: Deferred) -> None:
        super().__setitem__(target, value)
        self._state[f"{target.service}\n{target.instance}"] = value

    def __delitem__(self, target: Target) -> None:
        super().__delitem__(target)
        del self._state[f"{target.service}\n{target.instance}"]

    def pop(self, target: Target, *default: Any) -> Any:
        if target not in self:
            return super().pop(target, *default)
        value = self[target]
        del self[target]
        return value


class LapseGate(KeyedProcessFunction):
    """Input: one encoded row per shard and tick. Output: one batch of transitions per tick and service.

    Rows wait in keyed state until their tick is complete. If a shard's row does not come within `grace_ms`
    (nobody sends its witness), the good news of the others passes; lapses keep waiting.
    """

    def __init__(self, shards: int, tick_ms: int, grace_ms: int) -> None:
        self._shards = shards
        self._tick_ms = tick_ms
        self._grace_ms = grace_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self._rows = runtime_context.get_map_state(MapStateDescriptor("rows", Types.STRING(), BYTES))
        self._clock = StateValue(runtime_context, "clock", encode_clock, decode_clock, Clock)
        self._deferred: StateMap[Deferred] = StateMap(runtime_context, "deferred", encode_deferred, decode_deferred)
        self._gate: Gate | None = None
        self._since: dict[int, int] = {}
        self._meters = Meters(runtime_context, LAPSES, RENEWALS, SILENCE, TICK_LAG, TICKS, WAITING)

    def _load(self) -> Gate:
        if self._gate is None:
            self._gate = Gate(self._shards, self._tick_ms, self._clock.get(), _DeferredLapses(self._deferred))
            for blob in self._rows.values():
                row = decode_row(bytes(blob))
                self._gate.rows.setdefault(row.end, {})[row.shard] = row
        return self._gate

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        gate = self._load()
        blob = bytes(value)
        row = decode_row(blob)
        before = set(gate.rows)
        decisions = list(gate.offer(row))
        if row.end in gate.rows:
            self._rows.put(f"{row.end}:{row.shard}", blob)
        for end in before - set(gate.rows):
            self._drop(end)
        if decisions:
            self._clock.set(gate.clock)
            self._count(gate, decisions, ctx.timer_service().current_processing_time())
        if row.end in gate.rows and row.end not in self._since:
            now = ctx.timer_service().current_processing_time()
            self._since[row.end] = now
            ctx.timer_service().register_processing_time_timer(now + self._grace_ms)
        yield from _batches(decisions)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        gate = self._load()
        for end in sorted(gate.rows):
            if self._since.setdefault(end, timestamp - self._grace_ms) + self._grace_ms <= timestamp:
                decisions = list(gate.release(end))
                self._count(gate, decisions, timestamp)
                yield from _batches(decisions)
                self._drop(end)
                self._clock.set(gate.clock)

    def _count(self, gate: Gate, decisions: list[Decision], now: int) -> None:
        meters = self._meters
        for decision in decisions:
            meters.count(TICKS, "complete" if decision.complete else "incomplete")
            if decision.deferred:
                meters.count(LAPSES, "deferred", decision.deferred)
            for transitions in decision.batches.values():
                for transition in transitions:
                    if transition.fact is LeaseFact.LAPSED:
                        meters.count(LAPSES, "passed")
                    else:
                        meters.count(RENEWALS, transition.fact.value)
            if decision.complete:
                meters.set(TICK_LAG, now - decision.end)
        meters.set(WAITING, len(gate.deferred))
        meters.set(SILENCE, max(0, gate.clock.last_tick - gate.clock.last_beat) if gate.clock.last_beat else 0)

    def _drop(self, end: int) -> None:
        self._since.pop(end, None)
        for shard in range(self._shards):
            self._rows.remove(f"{end}:{shard}")


def _batches(decisions: Iterable[Decision]) -> Iterator[Row]:
    for decision in decisions:
        for service, transitions in decision.batches.items():
            yield Row(str(service), LEASES, encode_transitions(transitions))
