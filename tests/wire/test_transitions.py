"""What travels between the folds inside the job."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import NOW
from waypost.errors import StateVersionError
from waypost.model.events import LeaseFact, LeaseTransition
from waypost.model.gate import Deferred, ShardTick
from waypost.model.lifecycle import Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire import transitions as codec

TIMES = st.integers(0, NOW)
STAMPS = st.builds(Stamp, TIMES, st.integers(-1, 99), st.integers(-1, 2**53 - 1))
TRANSITIONS = st.builds(
    LeaseTransition,
    fact=st.sampled_from(LeaseFact),
    service=st.builds(ServiceKey, st.just("default"), st.sampled_from(["a", "b.c"])),
    instance=st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True),
    generation=STAMPS,
    stamp=STAMPS,
    health=st.none() | st.sampled_from(Health),
    deadline=TIMES,
    last_beat=TIMES,
    lease_ms=st.integers(2_000, 86_400_000),
)
MANY = st.lists(TRANSITIONS, max_size=5)
CODEC = settings(derandomize=True, deadline=None, max_examples=60)


@CODEC
@given(MANY)
def test_a_batch_comes_back(batch: list[LeaseTransition]) -> None:
    assert codec.decode_transitions(codec.encode_transitions(batch)) == batch


@CODEC
@given(st.builds(ShardTick, TIMES, st.integers(0, 127), TIMES, TIMES, MANY.map(tuple), MANY.map(tuple)))
def test_a_row_comes_back(row: ShardTick) -> None:
    assert codec.decode_row(codec.encode_row(row)) == row


@CODEC
@given(st.builds(Deferred, TRANSITIONS, TIMES))
def test_a_deferral_comes_back(deferred: Deferred) -> None:
    assert codec.decode_deferred(codec.encode_deferred(deferred)) == deferred


@pytest.mark.parametrize(
    ("decode", "blob"),
    [
        (codec.decode_transitions, codec.encode_transitions([])),
        (codec.decode_row, codec.encode_row(ShardTick(0, 0, 0, 0))),
    ],
)
def test_another_version_is_refused(decode: Any, blob: bytes) -> None:
    version, *fields = orjson.loads(blob)

    with pytest.raises(StateVersionError, match=f"version {version + 1}"):
        decode(orjson.dumps([version + 1, *fields]))
