"""Reading the inputs of the repair job: who has to hear of a record, and which go to dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from jobs.operators.meters import Meters
from jobs.operators.outputs import dead_letter
from schemas.repair_types import ALERT, CHANGE, RESULT, WORD, carried, received
from waypost.errors import DecodeError
from waypost.metrics import DEAD_LETTERS
from waypost.wire.alerts import alert_key, decode_alert
from waypost.wire.config import decode_config, read_name
from waypost.wire.repair_config import PREFIX, decode_word
from waypost.wire.repair_results import decode_result


class _Decoder(ProcessFunction):
    """Takes RAW_TEXT rows of one topic, yields REPAIR_INPUT rows."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = Meters(runtime_context)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        key, body = (None if text is None else received(text) for text in (value[0], value[1]))
        try:
            found = self.read(key, body, value[4])
        except DecodeError as error:
            self._meters.count(DEAD_LETTERS, error.reason)
            yield dead_letter(self._topic, value[2], value[3], error.reason, key, body, error.detail)
            return
        if found is not None:
            yield found

    def read(self, key: bytes | None, body: bytes | None, at: int) -> Row | None:
        """Return what goes on of a record that was appended at `at`, None for nothing. Raises DecodeError."""
        raise NotImplementedError


def _its_own(body: bytes | None) -> bytes:
    """Return a record as it was read: written anew it may be longer than whoever reads it next accepts."""
    assert body is not None, "what was decoded is there"
    return body


class AlertDecoder(_Decoder):
    """Whatever key a record has, its own words say what it is about."""

    def read(self, key: bytes | None, body: bytes | None, at: int) -> Row | None:
        return Row(alert_key(decode_alert(body)).decode(), ALERT, carried(_its_own(body)))


class ResultDecoder(_Decoder):
    def read(self, key: bytes | None, body: bytes | None, at: int) -> Row | None:
        return Row(str(decode_result(body).target), RESULT, carried(_its_own(body)))


class WordDecoder(_Decoder):
    """Approvals and resumptions; every other configuration is for somebody else."""

    def read(self, key: bytes | None, body: bytes | None, at: int) -> Row | None:
        if not (key or b"").startswith(PREFIX.encode()):
            return None
        name = read_name(key)
        record = decode_config(key, body)
        said = decode_word(record) if record is not None else None
        if record is None or said is None:
            return None
        return Row(str(said.target), WORD, carried(orjson.dumps((name, record.value))))


class ChangeReader(_Decoder):
    """Hands over the changes of tables as they are: the budget decodes them, once."""

    def read(self, key: bytes | None, body: bytes | None, at: int) -> Row | None:
        if body is None:
            raise DecodeError("tombstone", "a null value is no change")
        return Row(str(at), CHANGE, carried(body))
