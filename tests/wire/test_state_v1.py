"""State of version 1, as the release before the brake wrote it (`state_v1.json`: hexadecimal where it is not JSON)."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.events import LeaseFact, Op, Target
from waypost.model.gate import Clock, Gate, Phase, ShardTick
from waypost.model.leases import LeaseShard
from waypost.model.lifecycle import Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer
from waypost.model.service_state import DeclaredSet, Marks, Position, Published
from waypost.model.stamp import ORIGIN, Cause, Stamp
from waypost.wire import fold_state, transitions

T = 1_700_000_000_000
STORED: dict[str, str] = json.loads(Path(__file__).with_name("state_v1.json").read_text())
PAYMENTS = ServiceKey("default", "payments")


def blob(name: str) -> bytes:
    text = STORED[name]
    return bytes.fromhex(text) if name in ("last_beats", "tallies") else text.encode()


def a_shard() -> LeaseShard:
    return fold_state.decode_shard(blob("directory"), blob("last_beats"), blob("unknown"), 4, blob("tallies"))


def test_facts_of_version_1_are_neither_held_nor_damped() -> None:
    facts = fold_state.decode_facts(blob("facts"))

    assert (facts.effective_lease, facts.effective_health, facts.lease_stamp) == (
        Lease.LAPSED,
        Health.PASS,
        Stamp(T + 10_000),
    )
    assert facts.effective_attributes.weight == 7
    assert not facts.is_held(ORIGIN)
    assert not facts.effective_damped
    assert fold_state.decode_facts(fold_state.encode_facts(facts)) == facts


def test_the_other_parts_of_the_route_fold_are_read() -> None:
    assert fold_state.decode_set(blob("set")) == DeclaredSet(
        Stamp(T, 0, 4), 12, True, {"10.0.0.9:80": ("10.0.0.9", 80)}
    )
    assert fold_state.decode_published(blob("published")) == Published(2**64 - 5, T)
    assert fold_state.decode_weight(blob("weight")) == LoadWeight(Stamp(T, 0, 1))
    header = fold_state.decode_header(blob("header"))
    assert (header.revision, header.digest, header.endpoints, header.sets) == (T * 1000, 2**64 - 5, 3, 1)
    assert header.position == Position(Stamp(T, 0, 4), T + 10_000)
    assert (header.marks, header.departure, header.released) == (Marks(), ORIGIN, ORIGIN)
    pending = fold_state.decode_pending(blob("pending"))
    assert (pending.causes, pending.answers) == ([Cause("service-registry", 0, 2)], [Answer("r-1", True, "applied")])


def test_a_shard_of_version_1_tells_the_gate_once_how_many_leases_live() -> None:
    shard = a_shard()
    assert set(shard.leases) == {"p-1", "p-2"}
    assert set(shard.unknown) == {"p-9"}

    assert shard.tick(T + 12_000, ()).counts == {PAYMENTS: 1}
    assert shard.tick(T + 13_000, ()).counts == {}
    shard.arrange()
    again = fold_state.decode_shard(fold_state.encode_directory(shard, 4), None, None, 4)
    assert again.tick(T + 14_000, ()).counts in ({}, {PAYMENTS: -1})  # never again what it told already


def test_a_gate_of_version_1_goes_on_with_its_deferrals_and_rows() -> None:
    assert fold_state.decode_clock(blob("clock")) == Clock(T + 10_000, T + 1_000, T + 9_500)
    waiting = transitions.decode_waiting(blob("deferred"))
    assert (waiting.phase, waiting.until, waiting.lapse.instance) == (Phase.DEFERRED, T + 30_000, "p-2")
    row = transitions.decode_row(blob("row"))
    assert (row.end, row.shard, row.counts, row.settled, row.failed, row.released) == (T + 11_000, 3, {}, (), (), {})
    assert [t.fact for t in transitions.decode_transitions(blob("transitions"))] == [
        LeaseFact.LAPSED,
        LeaseFact.RENEWED,
    ]
    gate = Gate(1, 1000, Clock(T + 29_000, T, T + 28_500), {Target(PAYMENTS, "p-2"): waiting})
    [decision] = gate.offer(ShardTick(T + 30_000, 0, T + 29_500, T + 29_500))
    assert [t.fact for t in decision.batches[PAYMENTS]] == [LeaseFact.LAPSED]


@pytest.mark.parametrize("name", sorted(set(STORED) - {"last_beats", "tallies"}))
def test_what_was_stored_really_is_of_version_1(name: str) -> None:
    assert orjson.loads(STORED[name])[0] == 1
    assert (fold_state.VERSION, transitions.VERSION) == (3, 2)
    assert Op.UNPROTECT.value not in STORED[name]
