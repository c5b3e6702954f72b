"""The budget of all repairs on Flink: one key, with the live tables beside it.

What waits and what was granted is stored by id, so that one more in a storm costs one write; the trust in domains and
what holds a place are one small value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream import OutputTag as Tag

from jobs.operators.alerts import DECISIONS
from jobs.operators.keyed_state import StateMap, StateValue
from jobs.operators.meters import Meters
from jobs.operators.one_timer import OneTimer
from schemas.flink_types import OUTPUT_RECORD
from schemas.repair_types import ACT, ASK, CANCEL, CHANGE, RESULT, TABLE, carried, received
from waypost.errors import DecodeError
from waypost.metrics import DEAD_LETTERS, REPAIR_GRANTS, REPAIR_REFUSALS, REPAIR_TABLES, REPAIRS_WAITING
from waypost.model.budget import Budget, BudgetState, Judged
from waypost.model.impact import Impact, Place, impact
from waypost.model.live_tables import LiveTables
from waypost.model.names import ServiceKey
from waypost.model.refusals import Reason
from waypost.model.repair_action import Outcome, RepairAction, is_undo_of
from waypost.model.surroundings import surroundings
from waypost.repair.configuration import Configured
from waypost.repair.execution_state import around_fields
from waypost.wire.live_tables import decode_table, encode_table, places
from waypost.wire.repair_action import action_fields, read_action
from waypost.wire.repair_decisions import action_record, decode_decision, encode_decision
from waypost.wire.repair_results import RepairResult, decode_result, encode_result
from waypost.wire.repair_state import decode_budget, encode_budget
from waypost.wire.route_changes import ChunkJoiner, RestartMarker, RouteRecord, decode_route_change

RESULTS = Tag("results", OUTPUT_RECORD)
"""Records of `repair-results` about what was never begun."""

RETRY_MS = 10_000
"""How often what waits is asked for again, besides after each outcome."""

SETTLE_MS = 10_000
"""After a start, and after a change that is older than this: so long nobody is granted anything that the tables have to
allow, because they are still being read. Doubled, repairs begin later after each restart."""

_Stored = tuple[int, dict[str, Place] | None]


class BudgetStage(KeyedProcessFunction):
    """Input: REPAIR_INPUT rows of kind ASK, CANCEL, RESULT and CHANGE. Output: ACT, CANCEL and TABLE rows for the
    executors, every decision as a record, and a result for each action that is given up."""

    def __init__(self, configured: Callable[[], Configured], settle_ms: int = SETTLE_MS) -> None:
        self._connect = configured
        self._settle_ms = settle_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self._configured = self._connect()
        self._head: StateValue[BudgetState] = StateValue(
            runtime_context, "head", encode_budget, decode_budget, BudgetState
        )
        self._waiting: StateMap[RepairAction] = StateMap(
            runtime_context, "waiting", lambda action: orjson.dumps(action_fields(action)),
            lambda blob: read_action(orjson.loads(blob)),
        )  # fmt: skip
        self._granted: StateMap[int] = StateMap(runtime_context, "granted", lambda at: b"%d" % at, int)
        self._stored: StateMap[_Stored] = StateMap(
            runtime_context, "tables", lambda stored: encode_table(*stored), decode_table
        )
        self._watched: StateMap[str] = StateMap(runtime_context, "watched", str.encode, bytes.decode)
        self._timer = OneTimer(runtime_context)
        self._meters = Meters(runtime_context, REPAIR_GRANTS, REPAIRS_WAITING, REPAIR_TABLES)
        self._joiner = ChunkJoiner()
        self._live: LiveTables | None = None
        self._state = BudgetState()
        self._watching: dict[str, str] = {}
        self._now = self._settled_at = 0

    def close(self) -> None:
        self._configured.close()

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        now = ctx.timer_service().current_processing_time()
        live = self._load(now)
        kind = value[1]
        if kind == CHANGE:
            if now - int(value[0]) > SETTLE_MS:
                self._settled_at = max(self._settled_at, now + self._settle_ms)
            yield from self._change(live, received(value[2]))
            return
        body = received(value[2])
        if kind == RESULT:
            yield from self._outcome(decode_result(body), now)
        else:
            action = decode_decision(body).action
            assert action is not None
            if kind == ASK:
                control = self._configured.control()
                state, judged = self._budget.ask(self._state, action, self._impact(action), control, now)
                self._keep(state)
                yield from self._told(judged, now)
            elif kind == CANCEL:
                yield from self._cancel(action, now)
        self._rest(now, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        if not self._timer.fires(timestamp):
            return
        now = max(timestamp, ctx.timer_service().current_processing_time())
        self._load(now)
        yield from self._retry(now)
        self._rest(now, ctx)

    # --- the budget ---------------------------------------------------------------------------

    def _retry(self, now: int) -> Iterator[Any]:
        assert self._live is not None
        if not self._state.waiting:
            return
        state, told = self._budget.retry(self._state, self._impact, self._configured.control(), now)
        self._keep(state)
        for judged in told:
            yield from self._told(judged, now)

    def _outcome(self, result: RepairResult, now: int) -> Iterator[Any]:
        before = self._state
        state = self._budget.settle(before, result.id, result.outcome, now)
        if result.outcome is Outcome.SUCCEEDED:
            for action in [name for name in state.held if is_undo_of(result.id, name)]:
                state = self._budget.release(state, action)
        self._keep(state)
        if result.id in self._watching:
            del self._watching[result.id]
            del self._watched[result.id]
        if result.id in before.held or len(state.held) != len(before.held):
            yield from self._retry(now)

    def _cancel(self, action: RepairAction, now: int) -> Iterator[Any]:
        state, judged = self._budget.cancel(self._state, action.id)
        self._keep(state)
        if judged is not None:
            yield from self._told(judged, now)
        elif action.id in state.granted:
            record = encode_decision(action_record(action, now))
            yield Row(str(action.target), CANCEL, carried(record))

    def _told(self, judged: Judged, now: int) -> Iterator[Any]:
        action, refusal = judged.action, judged.refusal
        key = str(action.target)
        record = encode_decision(action_record(action, now, refusal))
        yield DECISIONS, Row(key.encode(), record)
        if refusal is None:
            self._meters.count(REPAIR_GRANTS, "undo" if action.undoes else "act")
            around = surroundings(action, self._tables_for(action))
            if around.healthy >= 0:
                self._watching[action.id] = self._watched[action.id] = key
            yield Row(key, ACT, carried(orjson.dumps((record.decode(), around_fields(around)))))
            return
        self._meters.count(REPAIR_REFUSALS, refusal.reason.value)
        if refusal.retry_at is None and refusal.reason is not Reason.ALREADY_GRANTED:
            result = RepairResult(
                id=action.id, target=action.target, outcome=Outcome.NOT_DONE, at=now, detail=refusal.reason.value
            )
            yield RESULTS, Row(key.encode(), encode_result(result))

    @property
    def _budget(self) -> Budget:
        assert self._live is not None
        # Nodes without an endpoint in a table are not counted: the share is of fewer, and so the limit lower.
        return Budget(policies=self._configured.current().policies, nodes=self._live.nodes)

    def _impact(self, action: RepairAction) -> Impact:
        found = impact(action, self._tables_for(action))
        if found.domains and self._now < self._settled_at:
            return replace(found, unknown=ServiceKey(*action.target))
        return found

    def _tables_for(self, action: RepairAction) -> Any:
        assert self._live is not None
        if action.service is None:
            return self._live.on(action.target.name)
        return self._live.beside(action.service, action.pod)

    # --- the tables ---------------------------------------------------------------------------

    def _change(self, live: LiveTables, value: bytes) -> Iterator[Any]:
        try:
            read = decode_route_change(value)
            record = None if isinstance(read, RestartMarker) else self._joiner.add(read)
            into = places(record) if record is not None else {}
        except DecodeError as error:
            # The job's own log; the next change of that service finds a gap and makes its table unknown.
            self._meters.count(DEAD_LETTERS, error.reason)
            return
        if record is None or not live.fold(
            record.service, record.op, record.revision, record.base, into, record.delta.delete
        ):
            return
        self._store(live, record)
        self._meters.set(REPAIR_TABLES, len(live.tables))
        key = str(record.service)
        if key in self._watching.values():
            healthy = len(live.tables.get(record.service, ()))
            yield Row(key, TABLE, str(healthy if record.service in live.tables else -1))

    def _store(self, live: LiveTables, record: RouteRecord) -> None:
        self._stored[str(record.service)] = record.revision, live.tables.get(record.service)
        self._stored.forget()

    # --- state --------------------------------------------------------------------------------

    def _load(self, now: int) -> LiveTables:
        self._now = now
        if self._live is None:
            self._settled_at = now + self._settle_ms
            self._live = LiveTables()
            for name in self._stored:
                self._live.load(ServiceKey.parse(name), *self._stored[name])
            self._stored.forget()
            self._state = replace(
                self._head.get(),
                waiting={name: self._waiting[name] for name in self._waiting},
                granted={name: self._granted[name] for name in self._granted},
            )
            self._state = replace(
                self._state, waiting=dict(sorted(self._state.waiting.items(), key=lambda one: one[1].decided_at))
            )
            self._watching = {name: self._watched[name] for name in self._watched}
        return self._live

    def _keep(self, after: BudgetState) -> None:
        """Store what is different."""
        before, self._state = self._state, after
        if after.domains != before.domains or after.held != before.held:
            self._head.set(BudgetState(domains=after.domains, held=after.held))
        for state, now, was in (
            (self._waiting, after.waiting, before.waiting),
            (self._granted, after.granted, before.granted),
        ):
            if now is not was:
                for name in was.keys() - now.keys():
                    del state[name]
                for name in now.keys() - was.keys():
                    state[name] = now[name]  # type: ignore[index]

    def _rest(self, now: int, ctx: Any) -> None:
        self._meters.set(REPAIRS_WAITING, len(self._state.waiting))
        if self._state.waiting:
            self._timer.set_once(now + RETRY_MS, ctx)
