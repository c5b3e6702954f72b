"""The law of an instance's life, sentence by sentence."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from waypost.model.lifecycle import (
    BEAT_WORDS,
    DECLARED_VIEW,
    HEALTH_WORDS,
    UP_VIEW,
    Declared,
    Health,
    Lease,
    Status,
    is_routable,
    view,
)

ROOT = Path(__file__).resolve().parents[2]
EVERY_FACT = list(product(Declared, Health, Lease))


@pytest.mark.parametrize(("declared", "health", "lease"), EVERY_FACT)
def test_every_combination_of_facts_is_seen_as_something(declared: Declared, health: Health, lease: Lease) -> None:
    for held, isolated in product((False, True), repeat=2):
        status, reason = view(declared, health, lease, held=held, isolated=isolated)
        assert isinstance(status, Status)
        assert reason


@pytest.mark.parametrize(("declared", "health", "lease"), EVERY_FACT)
def test_routable_is_declared_up_and_not_failed_and_not_lapsed_and_not_isolated_unless_held(
    declared: Declared, health: Health, lease: Lease
) -> None:
    for held, isolated in product((False, True), repeat=2):
        assert is_routable(declared, health, lease, held=held, isolated=isolated) == (
            declared is Declared.UP
            and (held or (health is not Health.FAIL and lease is not Lease.LAPSED and not isolated))
        )


@pytest.mark.parametrize("declared", [d for d in Declared if d is not Declared.UP])
def test_what_is_not_declared_up_is_seen_as_declared_whatever_else_holds(declared: Declared) -> None:
    seen = {
        view(declared, health, lease, held=held, isolated=isolated)
        for health, lease, held, isolated in product(Health, Lease, (False, True), (False, True))
    }

    assert [status.value for status, _ in seen] == [declared.value]


@pytest.mark.parametrize("lease", [Lease.LIVE, Lease.NONE])
def test_health_moves_an_up_instance_between_up_and_down(lease: Lease) -> None:
    assert view(Declared.UP, Health.FAIL, lease)[0] is Status.DOWN
    assert view(Declared.UP, Health.PASS, lease)[0] is Status.UP


def test_a_reason_says_which_fact_speaks() -> None:
    reasons = {reason for _, reason in [*UP_VIEW.values(), *DECLARED_VIEW.values()]}

    assert reasons == {
        "up", "health-failed", "lease-lapsed", "starting", "declared-down", "out-of-service", "draining", "deregistered"
    }  # fmt: skip


def test_a_held_instance_says_so_and_one_that_needs_no_hold_does_not() -> None:
    assert view(Declared.UP, Health.PASS, Lease.LAPSED, held=True) == (Status.UP, "held")
    assert view(Declared.UP, Health.FAIL, Lease.LIVE, held=True) == (Status.UP, "held")
    assert view(Declared.UP, Health.PASS, Lease.LIVE, held=True) == (Status.UP, "up")


def test_an_isolated_instance_says_so_whatever_its_health_and_its_lease_are() -> None:
    for health, lease, damped in product(Health, Lease, (False, True)):
        seen = view(Declared.UP, health, lease, damped=damped, isolated=True)
        assert seen == (Status.OUT_OF_SERVICE, "isolated")
        assert view(Declared.UP, health, lease, damped=damped, isolated=True, held=True) == (Status.UP, "held")


def test_a_beat_has_no_word_for_a_declaration() -> None:
    assert set(HEALTH_WORDS) <= set(BEAT_WORDS)
    assert {BEAT_WORDS[word] for word in ("starting", "out_of_service", "draining")} == {None}
    assert {word for status in Status if status is not Status.REMOVED for word in [status.value.lower()]} <= set(
        BEAT_WORDS
    )


def test_the_diagram_is_the_one_generated_from_the_tables() -> None:
    subprocess.run([sys.executable, "scripts/lifecycle_diagram.py", "--check"], cwd=ROOT, check=True)
