"""What is published is what the ConfigMaps say, a change set at a time, once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.config_objects import SCOPE, SOURCE, T0, Topic, a_config_map
from waypost.model.change_sets import MAX_SET_OBJECTS, SOME_REMOVED, Plan, set_name
from waypost.model.configs import MAX_VALUE_BYTES, ConfigObject, Content, ObjectKey, Published, Scope, checksum


def reasons(plan: Plan) -> dict[str, str]:
    return {refusal.object.key.name: refusal.reason for refusal in plan.refusals}


# --- examples ---------------------------------------------------------------------------------


def test_every_key_of_a_config_map_is_a_configuration_of_one_change_set() -> None:
    topic = Topic()

    [change_set] = topic.sync(a_config_map(limits="10", mode="fast")).change_sets

    assert topic.texts() == {"shop/app/limits": "10", "shop/app/mode": "fast"}
    assert change_set.id == f"shop@{T0}"
    assert {(change.revision, change.previous) for change in change_set.changes} == {(T0, 0)}


def test_only_what_is_different_is_written_again() -> None:
    topic = Topic()
    topic.sync(a_config_map(limits="10", mode="fast"))

    [change_set] = topic.sync(a_config_map(limits="11", mode="fast"), now_ms=T0 + 5).change_sets

    [change] = change_set.changes
    assert (change.name, change.revision, change.previous) == ("shop/app/limits", T0 + 5, T0)


def test_a_key_that_went_away_is_a_tombstone_beside_what_changed() -> None:
    topic = Topic()
    topic.sync(a_config_map(limits="10", mode="fast"))

    [change_set] = topic.sync(a_config_map(limits="11")).change_sets

    assert {change.name: change.content for change in change_set.changes} == {
        "shop/app/limits": Content("11"),
        "shop/app/mode": None,
    }


def test_a_config_map_that_went_away_takes_its_configurations_along() -> None:
    topic = Topic()
    topic.sync(a_config_map("app", a="1"), a_config_map("other", a="1"))

    topic.sync(a_config_map("other", a="1"))

    assert topic.texts() == {"shop/other/a": "1"}


def test_members_of_a_change_set_are_published_when_all_are_there() -> None:
    topic = Topic()
    one = a_config_map("one", change_set="r1", size=2, a="1")
    two = a_config_map("two", change_set="r1", size=2, a="1")

    first = topic.sync(one)
    second = topic.sync(one, two)

    assert first.change_sets == ()
    assert reasons(first) == {"one": "incomplete"}
    assert [refusal.waits for refusal in first.refusals] == [True]
    [change_set] = second.change_sets
    assert set_name(change_set.id) == "shop/r1"
    assert topic.texts() == {"shop/one/a": "1", "shop/two/a": "1"}


def test_a_member_that_is_the_same_is_published_again_with_its_revision() -> None:
    topic = Topic()
    topic.sync(a_config_map("one", change_set="r1", size=2, a="1"), a_config_map("two", change_set="r1", size=2, a="1"))

    [change_set] = topic.sync(
        a_config_map("one", change_set="r2", size=2, a="2"), a_config_map("two", change_set="r2", size=2, a="1")
    ).change_sets

    assert {change.name: change.revision for change in change_set.changes} == {
        "shop/one/a": T0 + 1,
        "shop/two/a": T0,
    }


def test_a_published_change_set_cannot_change_under_the_same_name() -> None:
    topic = Topic()
    two = a_config_map("two", change_set="r1", size=2, a="1")
    topic.sync(a_config_map("one", change_set="r1", size=2, a="1"), two)

    plan = topic.sync(a_config_map("one", change_set="r1", size=2, a="2"), two)

    assert reasons(plan) == {"one": "change-set-reused", "two": "change-set-reused"}
    assert topic.texts()["shop/one/a"] == "1"


def test_a_name_is_known_also_when_one_of_its_members_was_the_same() -> None:
    topic = Topic()
    topic.sync(a_config_map("one", change_set="r1", size=2, a="1"), a_config_map("two", change_set="r1", size=2, a="1"))
    topic.sync(a_config_map("one", change_set="r2", size=2, a="2"), a_config_map("two", change_set="r2", size=2, a="1"))

    # the first half of an edit of both
    plan = topic.sync(
        a_config_map("one", change_set="r2", size=2, a="2"), a_config_map("two", change_set="r2", size=2, a="3")
    )

    assert plan.change_sets == ()
    assert reasons(plan)["two"] == "change-set-reused"


def test_an_earlier_change_set_may_come_back() -> None:
    topic = Topic()
    releases = [
        [a_config_map(name, change_set=release, size=2, a=release) for name in ("one", "two")]
        for release in ("r1", "r2")
    ]  # fmt: skip

    for release in (*releases, releases[0]):
        topic.sync(*release)

    assert set(topic.texts().values()) == {"r1"}
    assert len(set(topic.ids)) == 3


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([a_config_map(change_set="r1", a="1")], "bad-size"),
        ([a_config_map(change_set="r1", size="two", a="1")], "bad-size"),
        ([a_config_map(change_set="r1", size="²", a="1")], "bad-size"),
        ([a_config_map(change_set="r1", size=0, a="1")], "bad-size"),
        ([a_config_map(change_set="r1", size="9" * 5000, a="1")], "bad-size"),
        ([a_config_map(change_set="r1", size=MAX_SET_OBJECTS + 1, a="1")], "bad-size"),
        ([a_config_map("a", change_set="r", size=1, a="1"), a_config_map("b", change_set="r", size=2)], "bad-size"),
        ([a_config_map("a", change_set="r", size=1, a="1"), a_config_map("b", change_set="r", size=1)], "bad-size"),
        ([a_config_map(change_set="r 1", size=1, a="1")], "bad-change-set"),
        ([a_config_map(change_set="", size=1, a="1")], "bad-change-set"),
        ([a_config_map(change_set="r" * 41, size=1, a="1")], "bad-change-set"),
        ([a_config_map(a="x" * (MAX_VALUE_BYTES + 1))], "too-large"),
        ([a_config_map(a='"' * (MAX_VALUE_BYTES // 2))], "too-large"),
        ([a_config_map(**{f"k{n}": "x" for n in range(1_001)})], "too-large"),
        ([a_config_map("control", namespace="repair", enabled="true")], "reserved-name"),
        ([a_config_map("approval", namespace="repair", abcd="yes")], "reserved-name"),
        ([a_config_map("n" * 253, namespace="n" * 63, **{"k" * 253: "1"})], "bad-name"),
    ],
)
def test_what_cannot_be_published_is_refused_with_its_reason(objects: list[ConfigObject], reason: str) -> None:
    plan = Topic().plan(objects)

    assert plan.change_sets == ()
    assert set(reasons(plan).values()) == {reason}


def test_a_refused_config_map_keeps_what_it_published_before() -> None:
    topic = Topic()
    topic.sync(a_config_map(a="1", b="1"))

    plan = topic.sync(a_config_map(a="2", b="x" * (MAX_VALUE_BYTES + 1)))

    assert reasons(plan) == {"app": "too-large"}
    assert topic.texts() == {"shop/app/a": "1", "shop/app/b": "1"}


def test_one_refused_member_stops_its_whole_change_set() -> None:
    one = a_config_map("one", change_set="r1", size=2, a="1")
    large = a_config_map("two", change_set="r1", size=2, a="x" * (MAX_VALUE_BYTES + 1))

    assert reasons(Topic().plan([one, large])) == {"one": "too-large", "two": "too-large"}


def test_a_prefix_leads_to_reserved_names_and_nothing_else_does() -> None:
    key = ObjectKey("ops", "repair")
    topic = Topic(Scope(source=SOURCE, prefixes={key: "repair"}))

    topic.sync(a_config_map("repair", namespace="ops", policies="version: 1"))

    assert topic.texts() == {"repair/policies": "version: 1"}
    topic.sync()
    assert topic.texts() == {}


def test_a_prefix_cannot_be_taken_by_a_namespace() -> None:
    scope = Scope(source=SOURCE, prefixes={ObjectKey("ops", "special"): "shop/app"})

    plan = Topic(scope).plan([a_config_map("app", namespace="shop", a="1")])

    assert reasons(plan) == {"app": "name-taken"}


def test_text_and_bytes_with_the_same_letters_are_not_the_same() -> None:
    topic = Topic()
    topic.sync(a_config_map(a="YQ=="))

    topic.sync(a_config_map(a=Content("YQ==", binary=True)))

    assert topic.contents["shop/app/a"].plain() == b"a"


def test_others_records_are_left_alone() -> None:
    topic = Topic()
    topic.published["repair/control"] = Published(revision=T0 + 100, checksum=checksum("{}"))
    topic.published["shop/app/a"] = Published(revision=5, checksum=checksum("1"), source="another")

    assert topic.plan([]) == Plan()


def test_many_missing_at_once_are_not_taken_for_deleted() -> None:
    topic = Topic()
    maps = [a_config_map(f"m{n}", a="1") for n in range(SOME_REMOVED + 1)]
    topic.sync(*maps)

    suspicious = topic.sync(maps[0])
    seen = topic.plan([maps[0]], deleted=[one.key for one in maps[1:]])

    assert len(suspicious.withheld) == SOME_REMOVED
    assert len(topic.texts()) == len(maps)
    assert seen.withheld == ()
    assert len(seen.change_sets) == SOME_REMOVED


def test_few_missing_are_deleted() -> None:
    topic = Topic()
    topic.sync(*[a_config_map(f"m{n}", a="1") for n in range(SOME_REMOVED - 1)])

    assert topic.sync().withheld == ()
    assert topic.texts() == {}


# --- properties -------------------------------------------------------------------------------

_TEXTS = st.sampled_from(["", "1", "2", "ü", '"'])
_CONTENTS = st.dictionaries(st.sampled_from("abc"), st.builds(Content, _TEXTS, st.booleans()), max_size=3)
_MAPS = st.builds(
    lambda name, contents, change_set, size: replace(
        a_config_map(name, change_set=change_set, size=size), contents=contents
    ),
    st.sampled_from(["m1", "m2", "m3", "m4"]),
    _CONTENTS,
    st.sampled_from([None, None, "r1", "r2", "r 3"]),
    st.sampled_from(["1", "2", "3", "x", None]),
)
_STATES = st.lists(st.lists(_MAPS, max_size=4, unique_by=lambda one: one.key), min_size=1, max_size=6)
_CLOCKS = st.integers(T0 - 100, T0 + 100)


@given(states=_STATES, clocks=st.lists(_CLOCKS, min_size=6, max_size=6))
def test_a_second_look_finds_nothing_to_write(states: list[list[ConfigObject]], clocks: list[int]) -> None:
    topic = Topic()
    for objects, now_ms in zip(states, clocks, strict=False):
        topic.sync(*objects, now_ms=now_ms)

        assert topic.plan(objects).change_sets == ()


@given(states=_STATES)
def test_the_topic_has_what_is_not_refused_and_keeps_what_is(states: list[list[ConfigObject]]) -> None:
    topic = Topic()
    for objects in states:
        before = dict(topic.contents)
        refused = {refusal.object.key for refusal in topic.sync(*objects).refusals}

        wanted = {}
        for one in objects:
            if one.key not in refused:
                wanted |= {SCOPE.name_of(one.key, entry): content for entry, content in one.contents.items()}
        kept = {name: content for name, content in before.items() if SCOPE.owner_of(name) in refused}
        assert topic.contents == wanted | kept


@given(states=_STATES, clocks=st.lists(_CLOCKS, min_size=6, max_size=6))
def test_revisions_grow_and_no_id_comes_twice_whatever_the_clock_says(
    states: list[list[ConfigObject]], clocks: list[int]
) -> None:
    topic = Topic()
    highest: dict[str, int] = {}
    for objects, now_ms in zip(states, clocks, strict=False):
        before = dict(topic.contents)
        for one in topic.sync(*objects, now_ms=now_ms).change_sets:
            for change in one.changes:
                same = change.content is not None and before.get(change.name) == change.content
                assert (
                    change.revision == highest[change.name] if same else change.revision > highest.get(change.name, 0)
                )
                highest[change.name] = max(change.revision, highest.get(change.name, 0))

    assert len(set(topic.ids)) == len(topic.ids)


@given(states=_STATES)
def test_a_configuration_is_in_one_change_set_of_a_plan(states: list[list[ConfigObject]]) -> None:
    topic = Topic()
    for objects in states:
        names = [change.name for one in topic.sync(*objects).change_sets for change in one.changes]

        assert len(names) == len(set(names))


@given(
    orders=st.lists(st.permutations(range(4)), min_size=1, max_size=5),
    looks=st.lists(st.booleans(), min_size=20, max_size=20),
    shared=st.sets(st.integers(0, 3)),
)
def test_no_moment_shows_half_of_a_change_set(orders: list[list[int]], looks: list[bool], shared: set[int]) -> None:
    """Releases of four ConfigMaps are applied one ConfigMap at a time, in any order, looked at whenever."""
    topic, applied, step = Topic(), dict[int, ConfigObject](), 0
    for release, order in enumerate(orders):
        for member in order:
            text = "same" if member in shared else str(release)
            applied[member] = a_config_map(f"m{member}", change_set=f"r{release}", size=4, a=text)
            if looks[step % len(looks)]:
                topic.sync(*applied.values())
            step += 1

            shown = {text for text in topic.texts().values() if text != "same"}
            assert len(shown) <= 1
            assert len(topic.texts()) in (0, 4)
        topic.sync(*applied.values())

        assert {topic.texts()[f"shop/m{n}/a"] for n in range(4) if n not in shared} <= {str(release)}
