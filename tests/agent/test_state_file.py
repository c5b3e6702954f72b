"""The file of an agent: written whole, read with suspicion, and owned by one agent at a time."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.agent.members import CART, P1, P2, a_member
from waypost.agent.checks import Check
from waypost.agent.roster import Roster, Stage, Told
from waypost.agent.state_file import only_agent, read_state, write_state
from waypost.errors import SettingsError
from waypost.model.lifecycle import Health

CHECKS = [
    Check(kind="http", path="/ready", port=81, timeout=timedelta(seconds=1.5)),
    Check(kind="exec", command=("/bin/true", "x y"), interval=timedelta(seconds=30)),
    Check(kind="grpc", service="pay.v1"),
]


def test_it_gives_back_what_was_written(tmp_path: Path) -> None:
    roster = Roster("shop", "agent", jitter=lambda: 1.0)
    for who, check in zip((P1, P2, CART), CHECKS, strict=True):
        roster.register(a_member(who, check=check, metadata={"version": "2"}, zone="a", node="n1"))
    roster.drain(P2)
    due = roster.due(0.0)
    roster.trying(due)
    roster.told(due, 0.0)
    file = tmp_path / "state"

    write_state(file, "shop", roster)

    expected = [replace(each, number=0, beat_at=0.0, period=0.0) for each in roster]
    assert read_state(file, "shop") == expected
    assert expected[1].told == Told(stage=Stage.DRAINING, health=Health.UNKNOWN, tried=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version":1,"namespace":"shop","instances":[{}]}', b"\xff"])
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "state"
    file.write_bytes(content)

    assert read_state(file, "shop") == []
    assert (tmp_path / "state.unreadable").read_bytes() == content


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state", "shop") == []


def test_the_instances_of_another_namespace_are_not_taken_over(tmp_path: Path) -> None:
    write_state(tmp_path / "state", "shop", [])

    assert read_state(tmp_path / "state", "other") == []


def test_there_is_one_agent_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_agent(lock), pytest.raises(SettingsError, match="another agent is running"), only_agent(lock):
        pass
    with only_agent(lock):
        pass
