"""State of version 2, as the build before isolations wrote it (`state_v2.json`: hexadecimal where it is not JSON)."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.events import Hold
from waypost.model.gate import Clock
from waypost.model.lifecycle import Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer
from waypost.model.service_state import DeclaredSet, Mark, Marks, Position, Published
from waypost.model.stamp import ORIGIN, Cause, Stamp
from waypost.wire import fold_state

T = 1_700_000_000_000
STORED: dict[str, str] = json.loads(Path(__file__).with_name("state_v2.json").read_text())
PAYMENTS = ServiceKey("default", "payments")
PACKED = {"last_beats", "tallies"}


def blob(name: str) -> bytes:
    return bytes.fromhex(STORED[name]) if name in PACKED else STORED[name].encode()


def test_a_header_of_version_2_has_folded_no_isolation() -> None:
    header = fold_state.decode_header(blob("header"))

    assert header.position == Position(Stamp(T, 0, 4), T + 10_000, ORIGIN)
    assert (header.revision, header.digest, header.endpoints, header.sets) == (T * 1000, 2**64 - 5, 3, 1)
    assert (header.marks, header.departure, header.released) == (Marks(1, 2, 1), Stamp(T + 5, 0, 5), Stamp(T + 6, 0, 6))
    assert fold_state.decode_header(fold_state.encode_header(header)) == header


def test_the_other_parts_of_the_route_fold_are_read() -> None:
    facts = fold_state.decode_facts(blob("facts"))
    assert (facts.effective_lease, facts.effective_health, facts.failed) == (
        Lease.LAPSED,
        Health.FAIL,
        Stamp(T + 2, 1, 1),
    )
    assert (facts.hold, facts.until, facts.effective_damped) == (Hold.SERVICE, T + 610_000, T + 70_000)
    assert (facts.effective_attributes.node, facts.effective_attributes.weight) == ("n1", 7)
    assert fold_state.decode_published(blob("published")) == Published(2**64 - 5, T, Mark.SPARE)
    assert fold_state.decode_weight(blob("weight")) == LoadWeight(Stamp(T, 0, 1))
    assert fold_state.decode_set(blob("set")) == DeclaredSet(
        Stamp(T, 0, 4), 12, True, {"10.0.0.9:80": ("10.0.0.9", 80)}
    )
    pending = fold_state.decode_pending(blob("pending"))
    assert (pending.causes, pending.answers) == ([Cause("service-registry", 0, 2)], [Answer("r-1", True, "applied")])


def test_the_leases_and_the_gates_numbers_are_read() -> None:
    shard = fold_state.decode_shard(blob("directory"), blob("last_beats"), blob("unknown"), 4, blob("tallies"))

    assert {i: (lease.lapsed, lease.health) for i, [lease] in shard.leases.items()} == {
        "p-1": (False, Health.PASS),
        "p-2": (True, Health.PASS),
    }
    assert set(shard.unknown) == {"p-9"}
    assert shard.tallies.take(shard.leases["p-1"][0].slot).beats == 1
    # It has told the gate of its leases already.
    assert shard.tick(T + 1_000, ()).counts == {}
    assert fold_state.decode_clock(blob("clock")) == Clock(T + 10_000, T + 1_000, T + 9_500)
    assert fold_state.decode_live(blob("live")) == {PAYMENTS: 1}


@pytest.mark.parametrize("name", sorted(set(STORED) - PACKED))
def test_what_was_stored_really_is_of_version_2(name: str) -> None:
    assert orjson.loads(STORED[name])[0] == 2
