"""What travels between the folds inside the job."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import NOW
from waypost.errors import StateVersionError
from waypost.model.damping import Flap
from waypost.model.events import Hold, LeaseFact, LeaseTransition, Target
from waypost.model.gate import Phase, ShardTick, Waiting
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
    until=TIMES,
    hold=st.none() | st.sampled_from(Hold),
)
SERVICES = st.builds(ServiceKey, st.sampled_from(["default", "shop"]), st.sampled_from(["a", "b.c"]))
MANY = st.lists(TRANSITIONS, max_size=5)
CODEC = settings(derandomize=True, deadline=None, max_examples=60)


@CODEC
@given(MANY)
def test_a_batch_comes_back(batch: list[LeaseTransition]) -> None:
    assert codec.decode_transitions(codec.encode_transitions(batch)) == batch


@CODEC
@given(
    st.builds(
        ShardTick,
        TIMES,
        st.integers(0, 127),
        TIMES,
        TIMES,
        MANY.map(tuple),
        MANY.map(tuple),
        st.dictionaries(SERVICES, st.integers(-9, 9)),
        st.lists(st.builds(Target, SERVICES, st.just("i-1")), max_size=2).map(tuple),
        MANY.map(tuple),
        st.dictionaries(SERVICES, TIMES),
    )
)
def test_a_row_comes_back(row: ShardTick) -> None:
    assert codec.decode_row(codec.encode_row(row)) == row


@CODEC
@given(st.builds(Waiting, TRANSITIONS, st.sampled_from(Phase), TIMES, TIMES))
def test_what_waits_comes_back(waiting: Waiting) -> None:
    assert codec.decode_waiting(codec.encode_waiting(waiting)) == waiting


@CODEC
@given(st.builds(Flap, st.floats(0, 1e9), TIMES, STAMPS, TIMES))
def test_a_flap_comes_back(flap: Flap) -> None:
    assert codec.decode_flap(codec.encode_flap(flap)) == flap


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
