"""No probe empties a table: who fails last stays in it, `held`, until somebody is well or an operator speaks."""

from __future__ import annotations

import pytest

from tests.model.events import a_fact, checked, declared, deregistered, drained, registered, unprotected
from tests.model.test_last_endpoint import Reader, held, lapsed, reader
from waypost.model.events import Hold, LeaseFact, LeaseTransition, RouteEvent
from waypost.model.lifecycle import Declared, Health, Lease
from waypost.model.service import APPLIED
from waypost.wire.endpoint import decode_instance


def beats(health: Health, when: float, instance: str = "p-1") -> LeaseTransition:
    """A beat that says another health than the one before."""
    return a_fact(LeaseFact.HEALTH, when, 0, instance, health=health)


def two(*words: RouteEvent) -> Reader:
    return reader(registered(0), registered(0, "p-2"), *words)


@pytest.mark.parametrize("says", [checked, beats])
def test_a_failed_probe_does_not_take_the_last_endpoint_out(says) -> None:  # type: ignore[no-untyped-def]
    found = reader(registered(0), says(Health.FAIL, 10))
    assert found.table() == {"p-1": True}
    assert found.why() == ("held", Hold.FAILS)
    assert found.protected
    assert decode_instance(found.instances["p-1"]).held == (Hold.FAILS, 1_700_000_010_000, 0)

    found.tell(says(Health.PASS, 20))
    assert found.table() == {"p-1": False}
    assert not found.protected


def test_of_those_that_fail_one_after_the_other_the_last_stays() -> None:
    found = two(checked(Health.FAIL, 10, "p-2"))
    assert found.table() == {"p-1": False}

    found.tell(checked(Health.FAIL, 20))
    assert found.table() == {"p-1": True}


def test_the_first_that_is_well_again_takes_its_place() -> None:
    found = two(checked(Health.FAIL, 10), checked(Health.FAIL, 20, "p-2"), checked(Health.PASS, 30))

    assert found.table() == {"p-1": False}
    assert decode_instance(found.instances["p-2"]).reason == "health-failed"
    assert not found.protected


@pytest.mark.parametrize(
    "word", [deregistered(20), drained(20), declared(Declared.DOWN, 20), declared(Declared.OUT_OF_SERVICE, 20)]
)
def test_an_operator_takes_out_even_the_last_that_fails(word: RouteEvent) -> None:
    assert two(checked(Health.FAIL, 5, "p-2"), checked(Health.FAIL, 10), word).table() == {}


def test_an_operator_lets_the_last_that_fails_leave() -> None:
    found = reader(registered(0), checked(Health.FAIL, 10))

    assert found.fold.apply(unprotected(20)) == APPLIED
    assert found.tell().table() == {}
    assert found.tell(checked(Health.FAIL, 30)).table() == {}  # it fails still, that is no other incident
    assert found.tell(checked(Health.PASS, 40), checked(Health.FAIL, 50)).table() == {"p-1": True}


@pytest.mark.parametrize("again", [30, 40])
def test_one_that_goes_on_failing_is_not_brought_back_because_the_others_were_drained(again: float) -> None:
    found = two(checked(Health.FAIL, 10), drained(20, "p-2"))
    assert found.table() == {}

    assert found.tell(checked(Health.FAIL, again)).table() == {}


def test_a_word_that_is_read_late_and_says_it_was_well_in_between_counts() -> None:
    """Well until after p-2 was drained, it was the last when it failed."""
    words = [checked(Health.FAIL, 10), checked(Health.PASS, 25), checked(Health.FAIL, 30)]

    for order in (words, [words[0], words[2], words[1]]):
        assert two(drained(20, "p-2"), *order).table() == {"p-1": True}


def test_the_last_one_may_fall_silent_and_fail_and_leaves_when_its_hold_is_over() -> None:
    for order in ([lapsed(90), checked(Health.FAIL, 95)], [checked(Health.FAIL, 85), lapsed(90)]):
        found = reader(registered(0), *order)
        assert found.table() == {"p-1": True}
        assert found.why() == ("held", Hold.LAST)

        found.tell(lapsed(690, until=0))
        assert found.table() == {}
        assert found.why() == ("health-failed", None)


def test_of_one_that_fails_and_one_that_is_silent_the_last_to_leave_stays() -> None:
    assert two(checked(Health.FAIL, 10), lapsed(90, "p-2")).table() == {"p-2": True}
    assert two(lapsed(90, "p-2"), checked(Health.FAIL, 95)).table() == {"p-1": True}


def test_the_brake_holds_who_is_silent_and_not_who_fails() -> None:
    found = two(held(90), held(90, "p-2"), checked(Health.FAIL, 95))
    assert found.table() == {"p-2": True}

    found.tell(checked(Health.FAIL, 96, "p-2"))  # unless it is the last
    assert found.table() == {"p-2": True}
    found.tell(lapsed(690, until=0), lapsed(690, "p-2", until=0))
    assert found.table() == {}


def test_who_flaps_but_is_well_comes_before_who_fails() -> None:
    waits = a_fact(LeaseFact.DAMPED, 20, 0, until=1_700_000_400_000)
    found = two(checked(Health.FAIL, 10), waits, checked(Health.PASS, 15), checked(Health.FAIL, 30, "p-2"))

    assert found.table() == {"p-1": True}
    assert found.why() == ("held", Hold.FLAPS)


def test_the_lapse_of_one_that_is_out_because_it_fails_is_told_even_when_it_is_the_last_word() -> None:
    found = two(checked(Health.FAIL, 10), lapsed(90, until=0))

    assert decode_instance(found.instances["p-1"]).lease is Lease.LAPSED
