"""A registry that lost its memory takes nobody away, and one that did not is believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waypost.mirror.memory import Memory
from waypost.mirror.sets import Endpoints

NAMES = st.sampled_from(["a", "b"])
ENDPOINTS = st.frozensets(st.tuples(st.just("10.0.0.1"), st.integers(1, 4)), max_size=3)
CHANGES = st.lists(st.tuples(NAMES, ENDPOINTS), max_size=10)
SETS = st.dictionaries(NAMES, ENDPOINTS.filter(bool))
A, B = frozenset({("10.0.0.1", 1)}), frozenset({("10.0.0.1", 2)})


@given(CHANGES)
def test_without_an_accident_the_registry_is_believed(changes: list[tuple[str, Endpoints]]) -> None:
    memory, last = Memory(), dict[str, Endpoints]()
    for service, endpoints in changes:
        memory.change(service, endpoints)
        last[service] = endpoints

    assert memory.all() == {service: those for service, those in last.items() if those}


@given(SETS, CHANGES)
def test_during_the_grace_nobody_is_lost_whatever_comes_back(
    before: dict[str, Endpoints], changes: list[tuple[str, Endpoints]]
) -> None:
    memory = Memory()
    for service, endpoints in before.items():
        memory.change(service, endpoints)
    memory.replaced()
    for service, endpoints in changes:
        memory.change(service, endpoints)
        assert all(before.get(s, frozenset()) <= memory.of(s) for s in before)


@given(SETS, CHANGES, CHANGES)
def test_after_the_grace_only_services_without_anybody_are_kept(
    before: dict[str, Endpoints], during: list[tuple[str, Endpoints]], after: list[tuple[str, Endpoints]]
) -> None:
    memory, last = Memory(before), dict[str, Endpoints]()
    for service, endpoints in during:
        memory.change(service, endpoints)
        last[service] = endpoints
    memory.end_grace()
    came_back = {service for service, those in last.items() if those}
    for service, endpoints in after:
        memory.change(service, endpoints)
        last[service] = endpoints
        came_back |= {service} if endpoints else set()

    for service in before.keys() | last.keys():
        kept = before.get(service, frozenset()) if service not in came_back else frozenset()
        assert memory.of(service) == last.get(service, frozenset()) | kept


def test_what_is_deleted_in_front_of_our_eyes_is_gone_at_once() -> None:
    memory = Memory({"a": A | B})
    memory.change("a", A)
    assert memory.of("a") == A | B
    memory.change("a", frozenset(), deleted=A)
    assert memory.of("a") == B
