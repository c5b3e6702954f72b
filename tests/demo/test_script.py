"""The scripts can be played: everybody they name is in the cast, and nobody is used twice."""

from __future__ import annotations

import pytest

from waypost.demo.script import FULL, SCRIPTS, Arrive, Script
from waypost.model.events import MIN_LEASE_SECONDS
from waypost.model.names import is_instance, is_service


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_can_be_played(script: Script) -> None:
    cast = script.cast
    names = [name for _, name in cast.instances()]
    victims = [act.instance for act in script.acts if hasattr(act, "instance")]

    assert len(set(names)) == len(names) == cast.size
    assert all(is_service(service) and is_instance(name) for service, name in cast.instances())
    assert isinstance(script.acts[0], Arrive)
    assert set(victims) <= set(names)
    assert len(set(victims)) == len(victims)
    assert cast.lease_s >= MIN_LEASE_SECONDS
    assert 2 * cast.beat_s * 1.2 < cast.lease_s, "two lost beats must not end a lease"
    # The burst needs two of each service after everybody else has had an act.
    assert all(n - sum(v.startswith(s) for v in victims) >= 2 for s, n in cast.services.items())


def test_the_full_show_has_forty_instances_of_five_services() -> None:
    assert (FULL.cast.size, len(FULL.cast.services)) == (40, 5)


def test_services_take_turns_in_arriving() -> None:
    first = [service for service, _ in FULL.cast.instances()[:5]]

    assert first == list(FULL.cast.services)
