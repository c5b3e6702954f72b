"""A flood of records made to break the job: each is folded or a dead letter, nothing restarts, good ones pass."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.e2e import hostile
from tests.e2e.flink_rest import restarts, running_job
from tests.e2e.log_writer import HEARTBEAT, REGISTRY, LogWriter
from tests.e2e.tables import CEILING_S, Tables
from waypost.errors import DecodeError
from waypost.local.state import Stack
from waypost.model.stamp import Stamp
from waypost.wire.beats import decode_beat, decode_heartbeat
from waypost.wire.registry import decode_registration

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RECORDS = int(os.environ.get("WAYPOST_FUZZ", "20000"))
FOR_THEIR_EFFECT = {"unknown-instance", "stale-last-updated", "ambiguous-service", "ambiguous-namespace"}
"""Reasons that are not in the record alone."""
Place = tuple[str, int, int]
NOW = 1_795_298_407_272


def why_unreadable(topic: str, key: bytes | None, value: bytes | None) -> set[str]:
    """Return the reasons for which the contract refuses a record by itself, none for a sound one. Of a beat with a bad
    key and a bad value, either may be told."""
    if topic == REGISTRY:
        return _reasons(lambda: decode_registration(value, Stamp(NOW)))
    reasons = _reasons(lambda: decode_heartbeat(key, value))
    return reasons | _reasons(lambda: decode_beat(value)) if reasons and value is not None else reasons


def _reasons(decode: Callable[[], Any]) -> set[str]:
    try:
        return {error.reason for error in getattr(decode(), "errors", ())[:1]}
    except DecodeError as error:
        return {error.reason}


def test_each_hostile_record_is_folded_or_a_dead_letter_and_good_ones_pass(
    stack: Stack, log: LogWriter, tables: Tables
) -> None:
    random = Random(20261122)
    job = running_job(stack)
    assert job is not None
    before = restarts(stack, job)
    log.register("among-poison", "good-0", 9700)
    tables.wait_for("among-poison", "good-0")
    expected: dict[Place, tuple[set[str], bytes | None, bytes | None]] = {}
    written: set[Place] = set()
    good = {"good-0"}

    for turn in range(1, 11):
        for topic in (REGISTRY, HEARTBEAT):
            sent = list(hostile.records(random, RECORDS // 20, beats=topic == HEARTBEAT))
            for place, (key, value) in zip(log.records(topic, sent), sent, strict=True):
                written.add(place)
                reasons = why_unreadable(topic, key, value)
                if reasons:
                    expected[place] = reasons, key, value
        good.add(f"good-{turn}")
        log.register("among-poison", f"good-{turn}", 9700 + turn)
        tables.wait_for("among-poison", *good)

    deadline = time.monotonic() + CEILING_S
    while not expected.keys() <= (letters := letters_of(log)).keys() and time.monotonic() < deadline:
        time.sleep(1)
    assert [(place, *expected[place]) for place in expected.keys() - letters.keys()] == []
    for place in written & letters.keys():
        reasons, key, value = expected.get(place, (set(), None, None))
        assert letters[place] <= reasons | FOR_THEIR_EFFECT, f"{place}: {key!r} {value!r}"
        assert not reasons or reasons & letters[place], f"{place}: {key!r} {value!r}"
    assert running_job(stack) == job
    assert restarts(stack, job) == before
    assert RECORDS / 3 < len(expected) < RECORDS


def letters_of(log: LogWriter) -> dict[Place, set[str]]:
    """Return the reasons of every dead letter so far. A node batch may have one of its own and others of its beats."""
    letters: dict[Place, set[str]] = {}
    for letter in log.dead_letters():
        letters.setdefault((letter["topic"], letter["partition"], letter["offset"]), set()).add(letter["reason"])
    return letters
