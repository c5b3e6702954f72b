"""Isolation: the newest word about an instance or its node counts, and every one of them ends."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from waypost.model.isolation import LONGEST_MS, Isolation, Isolations, Verb
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

T0 = 1_795_298_400_000
PAY = ServiceKey("default", "payments")
MINUTE = 60_000


def isolate(at: int = 0, *, node: str = "n1", instance: str = "", for_ms: int = 10 * MINUTE) -> Isolation:
    return Isolation(
        verb=Verb.ISOLATE,
        service=PAY if instance else None,
        instance=instance,
        node="" if instance else node,
        by="repair",
        expires_at=T0 + at + for_ms,
        stamp=Stamp(T0 + at, 0, at),
    )


def release(at: int, **about: str) -> Isolation:
    return replace(isolate(at, **about), verb=Verb.RELEASE, expires_at=0)  # type: ignore[arg-type]


def after(*words: Isolation) -> Isolations:
    found = Isolations()
    for word in words:
        found = found.with_word(word)
    return found


def test_a_node_takes_everybody_on_it_and_nobody_else() -> None:
    found = after(isolate())

    assert found.of("a", "n1") == isolate()
    assert found.of("b", "n2") is None
    assert found.of("c", "") is None


def test_an_instance_called_as_a_node_is_not_meant() -> None:
    assert after(isolate(instance="n1")).of("a", "n1") is None


def test_a_release_ends_it_and_an_older_one_does_not() -> None:
    assert after(isolate(), release(5)).of("a", "n1") is None
    assert after(isolate(5), release(0)).of("a", "n1") is not None


def test_releasing_the_node_does_not_release_an_instance_on_it() -> None:
    found = after(isolate(instance="a"), isolate(), release(5))

    assert found.of("a", "n1") == isolate(instance="a")


def test_an_operators_word_about_the_node_is_stricter_than_a_repairs_about_the_instance() -> None:
    of_node = replace(isolate(), by="operator:anna")

    assert after(isolate(instance="a"), of_node).of("a", "n1") == of_node
    assert after(replace(isolate(instance="a"), by="operator:anna"), of_node).of("a", "n1") != of_node


def test_it_ends_by_itself_to_the_millisecond() -> None:
    found = after(isolate(for_ms=MINUTE), isolate(instance="a", for_ms=2 * MINUTE))

    assert found.next_end == T0 + MINUTE
    assert found.at(T0 + MINUTE - 1) is found
    assert found.at(T0 + MINUTE).of("b", "n1") is None
    assert found.at(T0 + MINUTE).next_end == T0 + 2 * MINUTE
    assert found.at(T0 + 2 * MINUTE).next_end is None


def test_a_clock_that_is_set_back_isolates_nobody_again() -> None:
    assert after(isolate(for_ms=MINUTE)).at(T0 + MINUTE).at(T0).of("a", "n1") is None


ANNA = "operator:anna"


def test_a_repair_ends_and_replaces_nobody_else_s_isolation() -> None:
    by_anna = replace(isolate(1, for_ms=60 * MINUTE), by=ANNA)
    for later in (release(2), isolate(2, for_ms=MINUTE)):
        for words in ([isolate(), by_anna, later], [later, by_anna], [by_anna, isolate(), later]):
            assert after(*words).of("a", "n1") == by_anna

    overtaken = after(by_anna, isolate(2, for_ms=120 * MINUTE))
    assert overtaken.at(T0 + 61 * MINUTE).of("a", "n1") == isolate(2, for_ms=120 * MINUTE)


def test_anybody_else_ends_a_repair_s_isolation() -> None:
    by_anna = replace(release(5), by=ANNA)

    assert after(isolate(), by_anna).of("a", "n1") is None
    assert after(by_anna, isolate()).of("a", "n1") is None
    assert after(by_anna, isolate(6)).of("a", "n1") == isolate(6)


WORDS = st.lists(
    st.builds(
        lambda isolates, at, name, of_node, minutes, by: replace(
            isolate(at, node=name, for_ms=minutes * MINUTE)
            if of_node
            else isolate(at, instance=name, for_ms=minutes * MINUTE),
            verb=Verb.ISOLATE if isolates else Verb.RELEASE,
            by=by,
        ),
        st.booleans(),
        st.integers(0, 60 * MINUTE),
        st.sampled_from(["n1", "n2", "a"]),
        st.booleans(),
        st.integers(1, 120),
        st.sampled_from(["repair", ANNA, "operator:bob"]),
    ),
    max_size=12,
    unique_by=lambda word: word.stamp,
)


def who(found: Isolations, now: int) -> list[Isolation | None]:
    return [found.at(now).of(instance, node) for instance in ("a", "b") for node in ("n1", "n2", "")]


@given(WORDS, st.randoms(), st.integers(0, 200 * MINUTE))
def test_any_order_and_any_repetition_ends_the_same(words: list[Isolation], chance: Random, later: int) -> None:
    told = words + chance.sample(words, len(words) // 2)
    chance.shuffle(told)

    assert who(after(*told), T0 + later) == who(after(*words), T0 + later)


@given(WORDS, st.randoms(), st.lists(st.integers(0, 200 * MINUTE), max_size=12))
def test_when_time_passes_between_the_words_does_not_matter(
    words: list[Isolation], chance: Random, later: list[int]
) -> None:
    steps: list[Isolation | int] = [*words, *(T0 + ms for ms in later)]
    chance.shuffle(steps)
    found, now = Isolations(), T0
    for step in steps:
        if isinstance(step, int):
            now = max(now, step)
            found = found.at(now)
        else:
            found = found.with_word(step.at(now))

    assert found.at(now) == after(*words).at(now)
    assert who(found, now) == who(after(*words), now)


@given(WORDS, st.integers(0, 200 * MINUTE))
def test_repairs_take_nothing_from_anybody_else(words: list[Isolation], later: int) -> None:
    """Whoever is isolated by people alone is isolated by them with all words of repairs among theirs too."""
    now = T0 + later
    people = after(*(word for word in words if not word.spares_the_last)).at(now)
    everybody = after(*words).at(now)

    for instance in ("a", "b"):
        for node in ("n1", "n2", ""):
            by_people = people.of(instance, node)
            assert by_people is None or everybody.of(instance, node) == by_people


@given(WORDS, st.integers(0, LONGEST_MS * 2))
def test_forgetting_changes_nothing_for_anybody(words: list[Isolation], later: int) -> None:
    now = T0 + later
    found = after(*words).at(now)

    assert who(found.without_old(now), now) == who(found, now)
    much_later = now + LONGEST_MS * 2
    assert not found.at(much_later).without_old(much_later)


@given(WORDS, st.integers(0, 200 * MINUTE))
def test_nobody_is_isolated_for_ever(words: list[Isolation], later: int) -> None:
    found, now, steps = after(*words), T0 + later, 0
    found = found.at(now)
    while (end := found.next_end) is not None:
        assert end > now
        now, steps = end, steps + 1
        found = found.at(now)

    assert who(found, now) == [None] * 6
    assert steps <= len(words)
