"""The gate on Flink: one key, so that one place sees the whole fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor

from jobs.operators.collector import spare_what_stays
from jobs.operators.keyed_state import BYTES, StateMap, StateValue
from jobs.operators.meters import Meters
from schemas.flink_types import DECIDED, LEASES
from waypost.metrics import DAMPINGS, HELD, LAPSES, RENEWALS, SILENCE, TICK_LAG, TICKS, WAITING
from waypost.model.brake import BrakeRules
from waypost.model.damping import DampingRules, Flap
from waypost.model.events import LeaseFact, Target
from waypost.model.gate import Clock, Decision, Gate, Waiting
from waypost.model.names import ServiceKey
from waypost.settings import Leases
from waypost.wire.fold_state import decode_clock, decode_live, encode_clock, encode_live
from waypost.wire.transitions import (
    decode_flap,
    decode_row,
    decode_waiting,
    encode_flap,
    encode_transitions,
    encode_waiting,
)

T = TypeVar("T")


class _WriteThrough(dict[Target, T]):
    """Instances' entries, in memory for the gate to look through, and written through to keyed state."""

    def __init__(self, state: StateMap[T]) -> None:
        super().__init__()
        self._state = state
        for name in state:
            service, _, instance = name.rpartition("\n")
            super().__setitem__(Target(ServiceKey.parse(service), instance), state[name])
        state.forget()

    def __setitem__(self, target: Target, value: T) -> None:
        super().__setitem__(target, value)
        self._state[f"{target.service}\n{target.instance}"] = value
        self._state.forget()

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

    Rows wait in keyed state until their tick is complete. If a shard's row does not come within `lease.batch_grace_ms`
    (nobody sends its witness), the good news of the others passes; lapses keep waiting.

    Who writes the tables anew, after a restore or in the place of another job, waits until it knows as much as the
    store shows, and of lapses the route folds know only what they are told here. So each service is told twice a minute
    that everything until now is decided: for the first time when the ticks have come to the time of the restart, for
    what the store shows is older. (A broker whose clock is behind ours delays that by as much.) Who began without state
    waits `catch_up_ms` longer, for the lapses of all times are still to be found out.
    """

    _TELL_EACH_MS = 30_000
    _TOLD_AT_ONCE = 64
    """Services told with one row: a few ms, and 10,000 services within ten seconds."""

    def __init__(self, lease: Leases, brake: BrakeRules, damping: DampingRules, catch_up_ms: int) -> None:
        self._shards = lease.shards
        self._tick_ms = lease.tick_ms
        self._grace_ms = lease.batch_grace_ms
        self._brake = brake
        self._damping = damping
        self._catch_up_ms = catch_up_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        spare_what_stays()
        self._rows = runtime_context.get_map_state(MapStateDescriptor("rows", Types.STRING(), BYTES))
        self._clock = StateValue(runtime_context, "clock", encode_clock, decode_clock, Clock)
        # Of the time when nothing but deferred lapses had to wait; a savepoint of then must find it.
        self._waiting: StateMap[Waiting] = StateMap(runtime_context, "deferred", encode_waiting, decode_waiting)
        self._flaps: StateMap[Flap] = StateMap(runtime_context, "flaps", encode_flap, decode_flap)
        self._live: StateValue[dict[ServiceKey, int]] = StateValue(
            runtime_context, "live", encode_live, decode_live, dict
        )
        self._gate: Gate | None = None
        self._since: dict[int, int] = {}
        self._tell_at = 0
        self._untold: list[ServiceKey] = []
        self._meters = Meters(runtime_context, DAMPINGS, HELD, LAPSES, RENEWALS, SILENCE, TICK_LAG, TICKS, WAITING)

    def _load(self, ctx: KeyedProcessFunction.Context) -> Gate:
        if self._gate is None:
            self._gate = Gate(
                self._shards,
                self._tick_ms,
                self._clock.get(),
                _WriteThrough(self._waiting),
                live=self._live.get(),
                flaps=_WriteThrough(self._flaps),
                brake_rules=self._brake,
                damping=self._damping,
            )
            restored = self._gate.clock.last_tick > 0
            self._tell_at = ctx.timer_service().current_processing_time() + (0 if restored else self._catch_up_ms)
            for blob in self._rows.values():
                row = decode_row(bytes(blob))
                self._gate.rows.setdefault(row.end, {})[row.shard] = row
        return self._gate

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        gate = self._load(ctx)
        blob = bytes(value)
        row = decode_row(blob)
        before = set(gate.rows)
        decisions = list(gate.offer(row))
        if row.end in gate.rows:
            self._rows.put(f"{row.end}:{row.shard}", blob)
        for end in before - set(gate.rows):
            self._drop(end)
        if decisions:
            self._save(gate, decisions)
            self._count(gate, decisions, ctx.timer_service().current_processing_time())
        if row.end in gate.rows and row.end not in self._since:
            now = ctx.timer_service().current_processing_time()
            self._since[row.end] = now
            ctx.timer_service().register_processing_time_timer(now + self._grace_ms)
        yield from _batches(decisions)
        yield from self._decided(gate)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        gate = self._load(ctx)
        for end in sorted(gate.rows):
            if self._since.setdefault(end, timestamp - self._grace_ms) + self._grace_ms <= timestamp:
                decisions = list(gate.release(end))
                self._count(gate, decisions, timestamp)
                yield from _batches(decisions)
                self._drop(end)
                self._save(gate, decisions)

    def _decided(self, gate: Gate) -> Iterator[Row]:
        """Tell some of the services that have leases how far decisions have come."""
        if gate.clock.last_tick >= self._tell_at:
            self._tell_at = gate.clock.last_tick + self._TELL_EACH_MS
            self._untold = [service for service in gate.live if not gate.defers(service)]
        for service in self._untold[: self._TOLD_AT_ONCE]:
            yield Row(str(service), DECIDED, str(gate.clock.last_tick).encode())
        del self._untold[: self._TOLD_AT_ONCE]

    def _save(self, gate: Gate, decisions: list[Decision]) -> None:
        self._clock.set(gate.clock)
        if any(decision.counted for decision in decisions):
            self._live.set(gate.live)

    def _count(self, gate: Gate, decisions: list[Decision], now: int) -> None:
        meters = self._meters
        for decision in decisions:
            meters.count(TICKS, "complete" if decision.complete else "incomplete")
            self._count_lapses(gate, decision)
            if decision.complete:
                meters.set(TICK_LAG, now - decision.end)
        meters.set(WAITING, gate.deferred)
        meters.set(SILENCE, gate.clock.silence)

    def _count_lapses(self, gate: Gate, decision: Decision) -> None:
        meters = self._meters
        for word, n in decision.lapses.items():
            meters.count(LAPSES, word, n)
        for transitions in decision.batches.values():
            for transition in transitions:
                if transition.fact in (LeaseFact.RENEWED, LeaseFact.HEALTH):
                    meters.count(RENEWALS, transition.fact.value)
                elif transition.fact is LeaseFact.DAMPED and transition.until:
                    meters.count(DAMPINGS)
        meters.set(HELD, gate.held)

    def _drop(self, end: int) -> None:
        self._since.pop(end, None)
        for shard in range(self._shards):
            self._rows.remove(f"{end}:{shard}")


def _batches(decisions: Iterable[Decision]) -> Iterator[Row]:
    for decision in decisions:
        for service, transitions in decision.batches.items():
            yield Row(str(service), LEASES, encode_transitions(transitions))
