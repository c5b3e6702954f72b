"""The decisions about one target on Flink: `waypost.model.alert_processor` on keyed state and a timer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, OutputTag, RuntimeContext

from jobs.operators.keyed_state import StateValue
from jobs.operators.meters import Meters
from jobs.operators.one_timer import OneTimer
from schemas.flink_types import OUTPUT_RECORD
from schemas.repair_types import ALERT, ASK, CANCEL, PART, RESULT, carried, received
from waypost.metrics import REPAIR_CONFIG, REPAIR_REFUSALS
from waypost.model.alert_processor import AlertProcessor, Cancelled, Processed
from waypost.model.repair import Observed
from waypost.model.repair_state import EMPTY, TargetState
from waypost.repair.configuration import Configured
from waypost.wire.alerts import decode_alert
from waypost.wire.config import ConfigRecord
from waypost.wire.repair_config import ApprovalFor, decode_word
from waypost.wire.repair_decisions import cancel_record, decision_record, encode_decision
from waypost.wire.repair_results import decode_result
from waypost.wire.repair_state import decode_target, encode_target

DECISIONS = OutputTag("decisions", OUTPUT_RECORD)
"""Records of `repair-actions`."""


class TargetFold(KeyedProcessFunction):
    """Input: REPAIR_INPUT rows of kind ALERT, PART, RESULT and WORD, by target. Output: ASK and CANCEL rows for the
    budget, and every decision as a record."""

    def __init__(self, configured: Callable[[], Configured]) -> None:
        self._connect = configured

    def open(self, runtime_context: RuntimeContext) -> None:
        self._configured = self._connect()
        self._state: StateValue[TargetState] = StateValue(
            runtime_context, "target", encode_target, decode_target, lambda: EMPTY
        )
        self._timer = OneTimer(runtime_context)
        self._meters = Meters(runtime_context, REPAIR_REFUSALS, REPAIR_CONFIG)

    def close(self) -> None:
        self._configured.close()

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        now = ctx.timer_service().current_processing_time()
        key, kind, body = value[0], value[1], received(value[2])
        state = self._state.get()
        processor, observed = self._seen(state)
        if kind == ALERT:
            alert = decode_alert(body)
            processed = processor.on_alert(observed, alert, now)
        elif kind == PART:
            incident, fingerprints = orjson.loads(body)
            processed = processor.on_part(observed, incident, fingerprints, now)
        elif kind == RESULT:
            result = decode_result(body)
            processed = processor.on_result(state, result.id, result.outcome, now)
        else:
            name, text = orjson.loads(body)
            said = decode_word(ConfigRecord(name=name, revision=0, value=text))
            if isinstance(said, ApprovalFor):
                processed = processor.on_approval(observed, said.approval, now)
            else:
                processed = processor.on_resume(state, now)
        yield from self._after(key, state, processed, now, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        if not self._timer.fires(timestamp):
            return
        now = max(timestamp, ctx.timer_service().current_processing_time())
        state = self._state.get()
        processor, observed = self._seen(state)
        yield from self._after(str(ctx.get_current_key()), state, processor.on_time(observed, now), now, ctx)

    def _seen(self, state: TargetState) -> tuple[AlertProcessor, Observed]:
        configuration = self._configured.current()
        self._meters.set(REPAIR_CONFIG, int(bool(configuration.problem)))
        return AlertProcessor(configuration.policies), Observed(control=configuration.control, state=state)

    def _after(self, key: str, before: TargetState, processed: Processed, now: int, ctx: Any) -> Iterator[Any]:
        if processed.state != before:
            self._state.set(processed.state)
        self._timer.set(processed.ask_at, ctx)
        for told in processed.told:
            if isinstance(told, Cancelled):
                kind, decided = CANCEL, cancel_record(told.action, now)
            else:
                kind, decided = ASK, decision_record(told.alert, told.decision, now)
            record = encode_decision(decided)
            yield DECISIONS, Row(key.encode(), record)
            if decided.reason is not None:
                self._meters.count(REPAIR_REFUSALS, decided.reason.value)
            else:
                yield Row(key, kind, carried(record))
