"""A flood of records made to break the job: each is folded or a dead letter, nothing restarts, good ones pass."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.e2e import hostile
from tests.e2e.log_writer import HEARTBEAT, REGISTRY, LogWriter
from tests.e2e.tables import Tables, eventually
from tests.e2e.test_route_job import restarts, running_job
from waypost.errors import DecodeError
from waypost.local.state import Stack
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_heartbeat
from waypost.wire.registry import decode_registration

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RECORDS = int(os.environ.get("WAYPOST_FUZZ", "20000"))
FOR_THEIR_EFFECT = {"unknown-instance", "stale-last-updated", "ambiguous-service", "ambiguous-namespace"}
"""Reasons that are not in the record alone."""
NOW = 1_795_298_407_272


def why_unreadable(topic: str, key: bytes | None, value: bytes | None) -> str | None:
    """Return the reason for which the contract refuses a record by itself."""
    try:
        if topic == REGISTRY:
            decode_registration(value, Stamp(NOW))
            return None
        if (key or b"").startswith(b"_witness/"):
            return "bad-instance-id"
        found = decode_heartbeat(key, value)
        return found.errors[0].reason if found.errors else None
    except DecodeError as error:
        return error.reason


def test_each_hostile_record_is_folded_or_a_dead_letter_and_good_ones_pass(
    stack: Stack, log: LogWriter, tables: Tables
) -> None:
    random = Random(20261122)
    job = running_job(stack)
    assert job is not None
    before = restarts(stack, job)
    log.register("among-poison", "good-0", 9700)
    tables.wait_for("among-poison", "good-0")
    expected: dict[tuple[str, int, int], str] = {}
    written: set[tuple[str, int, int]] = set()
    good = {"good-0"}

    for turn in range(1, 11):
        for topic in (REGISTRY, HEARTBEAT):
            sent = list(hostile.records(random, RECORDS // 20, beats=topic == HEARTBEAT))
            for place, (key, value) in zip(log.records(topic, sent), sent, strict=True):
                written.add(place)
                reason = why_unreadable(topic, key, value)
                if reason is not None:
                    expected[place] = reason
        good.add(f"good-{turn}")
        log.register("among-poison", f"good-{turn}", 9700 + turn)
        tables.wait_for("among-poison", *good)

    letters = eventually(lambda: _complete(log, written, expected))
    for place, reason in letters.items():
        assert reason == expected.get(place, reason)
        assert place in expected or reason in FOR_THEIR_EFFECT
    assert running_job(stack) == job
    assert restarts(stack, job) == before
    assert len(expected) > RECORDS // 3
    assert len(expected) < RECORDS


def _complete(
    log: LogWriter, written: set[tuple[str, int, int]], expected: dict[tuple[str, int, int], str]
) -> dict[tuple[str, int, int], str] | None:
    """Return the dead letters of what was written, None while some are missing."""
    letters = {(d["topic"], d["partition"], d["offset"]): d["reason"] for d in log.dead_letters()}
    found = {place: reason for place, reason in letters.items() if place in written}
    return found if expected.keys() <= found.keys() else None
