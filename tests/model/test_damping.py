"""Damping: who comes and goes stays away until it was calm for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.events import LAW, SERVICE, T0, a_fact, checked, registered
from tests.model.played import Fleet, Run, of, service
from waypost.model.damping import PENALTY, DampingRules, Flap, calm_after, departed
from waypost.model.events import LeaseFact
from waypost.model.gate import Gate, ShardTick, shard_tick
from waypost.model.leases import LeaseShard
from waypost.model.lifecycle import Health
from waypost.model.stamp import Stamp

RULES = DampingRules()
GENERATION = Stamp(T0)


def after(*departures: int, rules: DampingRules = RULES) -> Flap:
    flap = None
    for at in departures:
        flap = departed(flap, GENERATION, at, rules)
    assert flap is not None
    return flap


def test_a_penalty_is_halved_by_every_half_life() -> None:
    flap = after(0)

    assert flap.now(RULES, 0) == PENALTY
    assert flap.now(RULES, 60_000) == pytest.approx(PENALTY / 2)
    assert flap.now(RULES, 120_000) == pytest.approx(PENALTY / 4)


def test_three_departures_are_forgiven_and_the_fourth_is_not() -> None:
    assert not after(0, 10_000, 20_000).until
    assert after(0, 10_000, 20_000, 30_000).until > 30_000


def test_departures_far_apart_are_forgiven_for_ever() -> None:
    assert not after(*range(0, 100 * 60_000, 60_000)).until


@LAW
@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=200))
def test_however_much_one_flaps_it_is_back_soon_after_it_stopped(pauses: list[int]) -> None:
    at, flap = 0, None
    for pause in pauses:
        at += pause
        flap = departed(flap, GENERATION, at, RULES)
    assert flap is not None

    assert flap.now(RULES, at + RULES.longest_ms) <= RULES.reuse + 1e-6
    assert 1 <= calm_after(flap.penalty, RULES) <= RULES.longest_ms


def a_flapping_fleet(times: int) -> Fleet:
    """One of three goes silent for 10 s and beats for 10 s, over and over."""
    fleet = Fleet([3, 40], damping=RULES)
    for n in range(times):
        fleet.silence([(service(0), "s0-0")], 20 + 20 * n, 30 + 20 * n)
    return fleet


def test_a_hundred_flaps_are_a_bounded_number_of_changes() -> None:
    fleet = a_flapping_fleet(100)
    seconds = 20 + 20 * 100 + RULES.longest_ms // 1000 + 20
    run = Run(fleet, fleet.log(seconds))
    before = 0
    seen: list[set[str]] = []

    for _ in run.seconds(seconds):
        if not seen:
            before = run.changes
        if not seen or seen[-1] != of(run, 0):
            seen.append(of(run, 0))

    assert run.changes - before <= 16
    assert seen[-1] == {"s0-0", "s0-1", "s0-2"}
    assert run.job.gate.flaps.keys() <= {(service(0), "s0-0")}


def test_without_damping_each_flap_is_two_changes() -> None:
    fleet = a_flapping_fleet(10)
    fleet.damping = DampingRules(enabled=False)
    run = Run(fleet, fleet.log(240))
    before = 0

    for end in run.seconds(240):
        if end == T0 + 15_000:
            before = run.changes

    assert run.changes - before == 20


def test_a_restart_in_the_middle_forgets_no_flap() -> None:
    fleet = a_flapping_fleet(8)
    log = fleet.log(190)
    plain, restarted = Run(fleet, log), Run(fleet, log)

    for one, other in zip(plain.seconds(190), restarted.seconds(190), strict=True):
        assert one == other
        restarted.job = restarted.job.restart()
        assert plain.tables == restarted.tables

    assert plain.job.gate.flaps == restarted.job.gate.flaps


def test_flapping_beats_reporting_health_are_damped_too() -> None:
    gate = Gate(1, 1000)
    told = []
    for n in range(1, 11):
        word = Health.FAIL if n % 2 else Health.PASS
        fact = a_fact(LeaseFact.HEALTH, n - 0.5, 0, health=word)
        row = ShardTick(T0 + n * 1000, 0, T0 + n * 1000 - 500, T0 + n * 1000 - 500, renewals=(fact,))
        told += [t for d in gate.offer(row) for t in d.batches.get(SERVICE, []) if t.fact is LeaseFact.DAMPED]

    assert [bool(t.until) for t in told] == [True]


def test_flapping_checks_are_damped_too() -> None:
    shard, gate = LeaseShard(), Gate(1, 1000)
    shard.register(registered(0))
    told = []
    for n in range(1, 11):
        shard.register(checked(Health.FAIL if n % 2 else Health.PASS, n - 0.5))
        row = shard_tick(T0 + n * 1000, 0, shard.tick(T0 + n * 1000, ()))
        told += [t for d in gate.offer(row) for t in d.batches.get(SERVICE, []) if t.fact is LeaseFact.DAMPED]

    assert [bool(t.until) for t in told] == [True]
