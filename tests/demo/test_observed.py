"""What the show believes is exactly what its processes told it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from waypost.demo.observed import Observed
from waypost.errors import StackError


def seen(at: float, *events: tuple[str, str], **revisions: int) -> dict[str, Any]:
    moves = [
        {"kind": kind, "service": "orders", "instance": instance, "address": "127.0.0.1:80", "weight": 100}
        for kind, instance in events
    ]
    return {"what": "seen", "at": at, "revisions": revisions, "events": moves}


def test_a_revision_is_seen_when_the_copy_reached_it_or_passed_it() -> None:
    observed = Observed()
    observed.take(seen(1.0, orders=5))
    observed.take(seen(2.0, orders=9))

    assert observed.seen_at("orders", 5) == 1.0
    assert observed.seen_at("orders", 7) == 2.0
    assert observed.seen_at("orders", 10) is None
    assert observed.seen_at("users", 1) is None


def test_the_table_follows_the_reader() -> None:
    observed = Observed()
    observed.take(seen(1.0, ("add", "a"), ("add", "b")))
    observed.take(seen(2.0, ("delete", "a"), ("update", "b")))
    observed.take(seen(3.0, ("add", "a")))
    observed.take(seen(4.0, ("delete", "a")))

    assert observed.tables["orders"] == {"b"}
    assert not observed.is_routed("a")
    assert [(m.kind, m.at) for m in observed.moves_of("a", after=2.0)] == [
        ("delete", 2.0),
        ("add", 3.0),
        ("delete", 4.0),
    ]
    assert observed.moves_of("b", after=1.5) == []
    move = observed.first_move("a", "delete", after=2.5)
    assert move is not None
    assert move.at == 4.0


def test_a_member_is_what_its_process_told() -> None:
    observed = Observed()
    life = [
        {"what": "started", "service": "orders", "pid": 7},
        {"what": "registered", "port": 80},
        {"what": "beat"},
        {"what": "beat"},
        {"what": "signalled", "signal": 10},
        {"what": "signalled", "signal": 9},
        {"what": "exited", "status": -9},
    ]
    for at, line in enumerate(life):
        observed.take({**line, "instance": "a", "at": float(at)})
    observed.take({"what": "beat", "instance": "never heard of", "at": 9.0})

    member = observed.members["a"]
    assert (member.pid, member.registered, member.beats, member.last_beat) == (7, 1.0, 2, 3.0)
    assert (member.killed, member.exited, member.status) == (5.0, 6.0, -9)
    assert observed.beats == 2


def test_first_tries_and_failovers_are_told_apart() -> None:
    observed = Observed()
    for attempt, reason in ((1, "timeout"), (1, "timeout"), (2, "connection refused")):
        observed.take(
            {"what": "call-failed", "at": 0.0, "service": "s", "instance": "a", "attempt": attempt, "reason": reason}
        )

    assert observed.reasons() == {"timeout": 2}


def test_waiting_ends_when_it_holds() -> None:
    observed = Observed()
    late = threading.Timer(0.01, lambda: observed.take({"what": "called", "at": 0.0, "calls": 3}))
    late.start()

    assert observed.wait(lambda: observed.calls == 3, timeout_s=30)
    assert not observed.wait(lambda: observed.calls == 4, timeout_s=0)
    late.join()


def test_waiting_for_a_process_that_ended_is_an_error_unless_it_should_end() -> None:
    observed = Observed()
    observed.take({"what": "gone", "worker": "fleet"})

    with pytest.raises(StackError, match="fleet"):
        observed.wait(lambda: False, timeout_s=30)

    observed.end_expected("fleet")
    assert not observed.wait(lambda: False, timeout_s=0)
