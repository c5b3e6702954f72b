"""What a savepoint holds of repairs under way: a later build reads it, or says that it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.repair.test_nodes import STEPS, a_cluster, repairing
from waypost.errors import StateVersionError
from waypost.model.isolation import REPAIR, Isolation, Verb
from waypost.model.names import ServiceKey
from waypost.model.surroundings import Spared, Surroundings
from waypost.repair.execution_state import TargetWork, decode_work, encode_work

GOLDEN = Path(__file__).with_name("work_v1.json")


def some_work() -> TargetWork:
    """A drain in its middle, beside an action that is over."""
    played = a_cluster()
    around = Surroundings(
        instances=("a",), services=(ServiceKey("shop", "web"),), spared=(Spared("shop", "db-0"),), healthy=2
    )
    played.give(repairing(*STEPS, excluded=(ServiceKey("shop", "db"),)), around)
    while not played.evictions():
        played.turn()
    word = Isolation(verb=Verb.ISOLATE, node="n1", cause="c", by=REPAIR, expires_at=7, request_id="r")
    return TargetWork(running=played.work.running, over={"f" * 32: (word,)})


def test_it_comes_back_as_it_was() -> None:
    [execution] = some_work().running.values()
    work = some_work().having(replace(execution, denied_since=9))

    assert decode_work(encode_work(work)) == work


def test_the_first_version_stays_readable() -> None:
    blob = GOLDEN.read_bytes().rstrip(b"\n")

    assert decode_work(blob) == some_work()


def test_the_first_version_knew_a_table_by_its_changes_only() -> None:
    [execution] = some_work().running.values()
    version, [fields], over = orjson.loads(encode_work(TargetWork().having(replace(execution, table=-1))))
    fields[1] = fields[1][:4]  # it did not say what an action takes, either

    [read] = decode_work(orjson.dumps((1, [fields], over))).running.values()

    assert version == 3
    assert (read.table, read.around.healthy, read.around.takes) == (2, 2, 0)


def test_the_second_version_knew_no_denial() -> None:
    [execution] = some_work().running.values()
    _, [fields], over = orjson.loads(encode_work(TargetWork().having(replace(execution, denied_since=9))))

    [read] = decode_work(orjson.dumps((2, [fields[:-1]], over))).running.values()

    assert read == execution


def test_another_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(StateVersionError, match="restore the savepoint with the release that wrote it"):
        decode_work(b"[4,[],[]]")


def test_ended_actions_are_forgotten_one_by_one() -> None:
    [execution] = some_work().running.values()
    work = TargetWork()
    for n in range(70):
        one = replace(execution, action=replace(execution.action, id=f"{n:032x}"))
        work = work.having(one).ended(one)

    assert len(work.over) == 64
    assert not work.knows(f"{5:032x}")
    assert work.knows(f"{69:032x}")
    assert work.wake_at is None
