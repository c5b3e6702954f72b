"""What is so reaches the log, whatever was lost on the way, in as few words as it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.members import CART, NOBODY_LOOKS, P1, P2, a_member
from waypost.agent.checks import TCP
from waypost.agent.member import Who
from waypost.agent.roster import MAX_MEMBERS, Due, Roster, Stage, TooMany, UnknownMember
from waypost.client.health_checks import FAILS, PASSES
from waypost.model.events import InstanceEvent, Op
from waypost.model.lifecycle import Declared, Health

T0 = 1_000.0


def a_roster() -> Roster:
    return Roster("shop", "agent", jitter=lambda: 0.9)


def said(roster: Roster, now: float = T0) -> list[str]:
    """Tell all there is to tell and return it."""
    words = []
    while (due := roster.due(now)).words:
        words += [f"{who.instance} {word.op.value} {spoken(word)}".strip() for who, (_, word) in due.words.items()]
        roster.trying(due)
        roster.told(due, now)
    return words


def spoken(word: Any) -> str:
    fact = word.declared or word.health
    return str(fact.value) if fact is not None else ""


def look(roster: Roster, passed: bool, who: Who = P1, now: float = T0, times: int = 1) -> None:
    for _ in range(times):
        roster.note(who, roster.standing(who).number, passed, now)


def test_who_is_not_looked_at_is_up_at_once() -> None:
    roster = a_roster()
    roster.register(a_member())

    assert said(roster) == ["p-1 register UP"]
    assert roster.due(T0).words == {}


def test_who_is_looked_at_is_up_when_the_first_look_passed() -> None:
    roster = a_roster()
    roster.register(a_member(check=TCP))

    assert said(roster) == ["p-1 register STARTING"]
    look(roster, False)
    assert said(roster) == []
    look(roster, True)
    assert said(roster) == ["p-1 status UP"]


def test_a_first_look_that_passed_before_anybody_was_told_saves_a_word() -> None:
    roster = a_roster()
    roster.register(a_member(check=TCP))
    look(roster, True)

    assert said(roster) == ["p-1 register UP"]


def test_a_failure_is_told_after_three_and_over_after_two() -> None:
    roster = a_roster()
    roster.register(a_member(check=TCP))
    look(roster, True)
    said(roster)

    look(roster, False, times=FAILS - 1)
    assert said(roster) == []
    look(roster, False)
    assert said(roster) == ["p-1 status fail"]
    look(roster, True, times=PASSES - 1)
    assert said(roster) == []
    look(roster, True)
    assert said(roster) == ["p-1 status pass"]


def test_nobody_is_beaten_for_who_fails_and_at_once_again_when_he_passes() -> None:
    roster = a_roster()
    roster.register(a_member(check=TCP))
    look(roster, True)
    said(roster)
    later = T0 + 1_000

    look(roster, False, times=FAILS)
    assert roster.due(later).beats == ()
    assert roster.next_beat() is None
    look(roster, True, now=later, times=PASSES)
    assert roster.due(later).beats == (P1,)


def test_an_instance_flapping_through_an_outage_is_told_once() -> None:
    roster = a_roster()
    roster.register(a_member(check=TCP))
    look(roster, True)
    said(roster)

    for _ in range(10):
        look(roster, False, times=FAILS)
        look(roster, True, times=PASSES)
    look(roster, False, times=FAILS)

    assert said(roster) == ["p-1 status fail"]


def test_who_left_before_anybody_heard_of_him_is_not_mentioned() -> None:
    roster = a_roster()
    roster.register(a_member())
    roster.deregister(P1)

    assert said(roster) == []
    assert len(roster) == 0


def test_who_drains_before_anybody_heard_of_him_is_never_called() -> None:
    roster = a_roster()
    roster.register(a_member())
    roster.drain(P1)

    assert said(roster) == ["p-1 register DRAINING"]


def test_who_may_have_been_heard_of_is_deregistered() -> None:
    roster = a_roster()
    roster.register(a_member())
    roster.trying(roster.due(T0))  # and no acknowledgement comes

    roster.drain(P1)
    roster.deregister(P1)

    assert said(roster) == ["p-1 deregister"]
    assert len(roster) == 0


def test_registering_again_is_told_again_also_after_a_drain() -> None:
    roster = a_roster()
    roster.register(a_member())
    said(roster)
    roster.drain(P1)
    assert said(roster) == ["p-1 drain"]

    roster.register(a_member(port=9090))

    due = roster.due(T0)
    assert said(roster) == ["p-1 register UP"]
    event = roster.event(P1, due.words[P1][1])
    assert event.attributes is not None
    assert event.attributes.port == 9090
    assert event.service.namespace == "shop"


def test_an_acknowledgement_of_the_registration_before_says_nothing_of_this_one() -> None:
    roster = a_roster()
    roster.register(a_member())
    due = roster.due(T0)
    roster.trying(due)
    roster.register(a_member(port=9090))

    roster.told(due, T0)

    assert said(roster) == ["p-1 register UP"]


def test_a_look_at_the_registration_before_says_nothing_of_this_one() -> None:
    roster = a_roster()
    roster.register(a_member(check=TCP))
    before = roster.standing(P1).number
    roster.register(a_member(check=TCP))

    assert roster.note(P1, before, True, T0) is False
    assert roster.standing(P1).stage is Stage.STARTING


def test_many_are_beaten_for_together() -> None:
    roster = a_roster()
    for who in (P1, P2, CART):
        roster.register(a_member(who, lease_seconds=90))
        said(roster, now=T0)
    due_at = roster.next_beat()
    assert due_at == T0 + 27.0

    assert roster.due(due_at - 1).beats == ()
    assert roster.due(due_at).beats == (P1, P2, CART)


def test_a_short_lease_does_not_make_the_long_ones_beat_as_often() -> None:
    roster = a_roster()
    roster.register(a_member(P1, lease_seconds=9))
    roster.register(a_member(P2, lease_seconds=900))
    said(roster)
    beats: dict[Who, int] = {P1: 0, P2: 0}

    now = T0
    for _ in range(100):
        now = roster.next_beat() or 0.0
        due = roster.due(now)
        for who in due.beats:
            beats[who] += 1
        roster.told(due, now)

    assert beats[P1] == 100
    assert beats[P2] <= 3


def test_a_third_of_the_lease_never_passes_without_a_beat() -> None:
    roster = a_roster()
    for n in range(5):
        roster.register(a_member(Who("s", f"i-{n}"), lease_seconds=10 * (n + 1)))
    said(roster)
    last = {each.member.who: T0 for each in roster}

    now = T0
    for _ in range(200):
        now = roster.next_beat() or 0.0
        due = roster.due(now)
        for who in due.beats:
            last[who] = now
        roster.told(due, now)
        assert all(now - last[s.member.who] <= s.member.attributes.lease_seconds / 3 for s in roster)


def test_there_are_not_more_than_there_may_be() -> None:
    roster = a_roster()
    for n in range(MAX_MEMBERS):
        roster.register(a_member(Who("s", f"i-{n}")))

    with pytest.raises(TooMany):
        roster.register(a_member())
    roster.register(a_member(Who("s", "i-7"), port=9))


def test_a_drain_of_nobody_is_an_error_and_a_deregistration_is_not() -> None:
    roster = a_roster()
    with pytest.raises(UnknownMember):
        roster.drain(P1)
    roster.deregister(P1)


def test_who_takes_over_beats_at_once_and_registers_nobody_again() -> None:
    before = a_roster()
    before.register(a_member(P1))
    before.register(a_member(P2, check=TCP))
    look(before, True, P2)
    said(before)
    look(before, False, P2, times=FAILS)
    said(before)
    before.register(a_member(CART))

    after = a_roster()
    after.restore(before)

    assert after.due(5.0).beats == (P1,)
    assert said(after, now=5.0) == ["c-1 register UP"]
    look(after, True, P2, times=PASSES - 1)
    assert said(after) == []
    look(after, True, P2)
    assert said(after) == ["p-2 status pass"]


def test_who_may_have_died_before_he_was_taken_over_is_beaten_for_when_he_was_seen() -> None:
    before = a_roster()
    before.register(a_member(check=TCP))
    look(before, True)
    said(before)

    after = a_roster()
    after.restore(before)

    assert after.next_beat() is None
    assert after.due(5.0).beats == ()
    look(after, False, now=5.0)
    assert after.due(5.0).beats == ()
    look(after, True, now=6.0)
    assert after.due(6.0).beats == (P1,)


@dataclass
class Log:
    """What somebody who reads the log knows."""

    known: dict[Who, tuple[int, Declared, Health]] = field(default_factory=dict)

    def take(self, who: Who, event: InstanceEvent) -> None:
        if event.op is Op.REGISTER:
            assert event.attributes is not None
            assert event.declared is not None
            self.known[who] = event.attributes.port, event.declared, Health.UNKNOWN
        elif event.op is Op.DEREGISTER:
            self.known.pop(who, None)
        elif who in self.known:
            port, declared, health = self.known[who]
            if event.op is Op.DRAIN:
                declared = Declared.DRAINING
            self.known[who] = port, event.declared or declared, event.health or health


ACTS = st.one_of(
    st.tuples(st.just("register"), st.sampled_from([P1, P2]), st.integers(1, 9), st.booleans()),
    st.tuples(st.just("drain"), st.sampled_from([P1, P2])),
    st.tuples(st.just("deregister"), st.sampled_from([P1, P2])),
    st.tuples(st.just("look"), st.sampled_from([P1, P2]), st.booleans(), st.integers(1, 4)),
    st.tuples(st.just("write"), st.sampled_from(["acknowledged", "lost", "written", "half"])),
    st.tuples(st.just("crash"), st.booleans()),
    st.tuples(st.just("between"), st.sampled_from(["register", "deregister", "drain"]), st.sampled_from([P1, P2])),
)


def write(roster: Roster, log: Log, due: Due, how: str) -> None:
    """Write a batch: it may reach the log or not, and the acknowledgement may be lost on its way."""
    roster.trying(due)
    events = [(who, roster.event(who, word)) for who, (_, word) in due.words.items()]
    reached = {"lost": [], "half": events[:1]}.get(how, events)
    for who, event in reached:
        log.take(who, event)
    if how == "acknowledged":
        roster.told(due, T0)


@given(st.lists(ACTS, max_size=40))
def test_the_log_ends_up_knowing_what_is_so(acts: list[tuple[Any, ...]]) -> None:
    roster, log = a_roster(), Log()
    for act, *more in acts:
        who = more[0] if more and isinstance(more[0], Who) else P1
        is_there = any(each.member.who == who for each in roster)
        if act == "register":
            roster.register(a_member(who, check=TCP if more[2] else NOBODY_LOOKS, port=more[1]))
        elif act == "drain" and is_there:
            roster.drain(who)
        elif act == "deregister":
            roster.deregister(who)
        elif act == "look" and is_there:
            look(roster, more[1], who, times=more[2])
        elif act == "write":
            write(roster, log, roster.due(T0), more[0])
        elif act == "crash":
            # The file has what the roster had: it is written whenever that changes.
            after = a_roster()
            after.restore(roster)
            roster = after
        elif act == "between" and is_there:
            # Something changes while a batch is under way.
            due = roster.due(T0)
            roster.trying(due)
            for each, (_, word) in due.words.items():
                log.take(each, roster.event(each, word))
            if more[0] == "register":
                roster.register(a_member(more[1], port=7))
            elif more[0] == "deregister":
                roster.deregister(more[1])
            elif any(each.member.who == more[1] for each in roster):
                roster.drain(more[1])
            roster.told(due, T0)

    for _ in range(4):  # at most: register, status, health
        write(roster, log, roster.due(T0), "acknowledged")

    assert roster.due(T0).words == {}
    assert log.known == {s.member.who: (s.member.attributes.port, Declared(s.stage.value), s.health) for s in roster}
