"""Everybody is looked at by his own check: at once when new, and then again and again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from tests.agent.members import CART, NOBODY_LOOKS, P1, a_member
from tests.contracts.conftest import eventually
from tests.gateway.backends import Backend
from waypost.agent.checks import Check
from waypost.agent.member import Who
from waypost.agent.prober import Prober
from waypost.agent.roster import Roster, Standing

OFTEN = timedelta(seconds=0.1)
HARDLY_EVER = timedelta(hours=1)


class Looks:
    """Counts what was seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seen: Counter[tuple[Who, int, bool]] = Counter()

    def __call__(self, who: Who, number: int, passed: bool) -> None:
        with self._lock:
            self.seen[who, number, passed] += 1

    def of(self, who: Who) -> set[bool]:
        with self._lock:
            return {passed for each, _, passed in self.seen if each == who}


@contextmanager
def probing(standings: Callable[[], list[Standing]], looks: Looks) -> Iterator[Prober]:
    prober = Prober(standings, looks)
    prober.start()
    try:
        yield prober
    finally:
        prober.close()


def test_each_is_looked_at_again_and_again() -> None:
    roster, looks, backend = Roster("shop", "agent", jitter=lambda: 1.0), Looks(), Backend("a")
    alive, dead, left_alone = (Who("s", name) for name in ("alive", "dead", "left-alone"))
    tcp = Check(interval=OFTEN)
    roster.register(a_member(alive, check=tcp, address="127.0.0.1", port=backend.port))
    roster.register(a_member(dead, check=tcp, address="127.0.0.1", port=1))
    roster.register(a_member(left_alone, check=NOBODY_LOOKS))
    try:
        with probing(lambda: list(roster), looks) as prober:
            eventually(lambda: looks.seen[alive, 1, True] >= 3 and looks.seen[dead, 2, False] >= 3)
            assert prober.passed >= 3
            assert prober.failed >= 3
    finally:
        backend.stop()
    assert looks.of(left_alone) == set()
    assert looks.of(alive) == {True}


def test_a_new_registration_is_looked_at_at_once_and_one_that_is_gone_no_more() -> None:
    roster, looks = Roster("shop", "agent", jitter=lambda: 1.0), Looks()
    seldom = Check(interval=HARDLY_EVER)
    with probing(lambda: list(roster), looks) as prober:
        for number in (1, 2):
            roster.register(a_member(P1, check=seldom, address="127.0.0.1", port=1))
            prober.wake()
            eventually(lambda number=number: looks.seen[P1, number, False] == 1)
        roster.deregister(P1)
        roster.register(a_member(CART, check=seldom, address="127.0.0.1", port=1))
        prober.wake()
        eventually(lambda: looks.of(CART) == {False})

    assert looks.seen[P1, 2, False] == 1


def test_a_check_that_cannot_be_made_fails_and_stops_nobody() -> None:
    roster, looks, backend = Roster("shop", "agent", jitter=lambda: 1.0), Looks(), Backend("a")
    roster.register(a_member(P1, check=Check(kind="exec", command=("/nowhere",), interval=OFTEN)))
    roster.register(a_member(CART, check=Check(interval=OFTEN), address="127.0.0.1", port=backend.port))
    try:
        with probing(lambda: list(roster), looks):
            eventually(lambda: looks.of(P1) == {False} and looks.seen[CART, 2, True] >= 2)
    finally:
        backend.stop()
