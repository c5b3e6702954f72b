"""What to do about an object: only what we say counts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.discoveries import a_discovery
from waypost.controller.drift import FINGERPRINT, Step, covers, decide
from waypost.controller.objects import Images, parts

IMAGES = Images(waypost="waypost:1", flink="waypost-flink:1")
WITNESS = next(part.body for part in parts(a_discovery(), IMAGES) if part.part == "witness")


def observed() -> dict[str, Any]:
    """Return the witness as the API server gives it out: with what it adds."""
    body: dict[str, Any] = copy.deepcopy(dict(WITNESS or {}))
    body["metadata"] |= {"uid": "w", "generation": 1, "managedFields": []}
    body["spec"]["progressDeadlineSeconds"] = 600
    body["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    return body


def test_what_the_api_server_adds_is_no_drift() -> None:
    assert WITNESS
    assert decide(observed(), WITNESS, may_create=True) is Step.KEEP


def test_what_is_missing_is_made_when_it_may() -> None:
    assert WITNESS
    assert decide(None, WITNESS, may_create=True) is Step.CREATE
    assert decide(None, WITNESS, may_create=False) is Step.WAIT


def test_a_changed_field_is_healed() -> None:
    assert WITNESS
    there = observed()
    there["spec"]["replicas"] = 0

    assert decide(there, WITNESS, may_create=False) is Step.HEAL


def test_a_field_that_we_no_longer_say_is_noticed_by_the_fingerprint() -> None:
    assert WITNESS
    there = observed()
    there["metadata"]["annotations"][FINGERPRINT] = "of-another-wish"

    assert decide(there, WITNESS, may_create=True) is Step.HEAL


@pytest.mark.parametrize("owners", [None, [], [{"uid": "somebody-else"}]])
def test_what_is_not_ours_is_never_touched(owners: list[dict[str, str]] | None) -> None:
    assert WITNESS
    there = observed()
    there["metadata"]["ownerReferences"] = owners
    there["spec"]["replicas"] = 0

    assert decide(there, WITNESS, may_create=True) is Step.FOREIGN


def test_what_is_being_deleted_is_waited_for() -> None:
    assert WITNESS
    there = observed()
    there["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"

    assert decide(there, WITNESS, may_create=True) is Step.GOING


SCALARS = st.integers() | st.booleans() | st.text(max_size=3)
TREES = st.recursive(
    SCALARS, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=2), t, max_size=3), max_leaves=10
)


@given(TREES)
def test_everything_covers_itself(tree: Any) -> None:
    assert covers(tree, copy.deepcopy(tree))


@given(st.dictionaries(st.text(max_size=2), TREES, max_size=4), st.dictionaries(st.text(min_size=3), TREES, max_size=4))
def test_fields_of_others_do_not_matter(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert covers({**theirs, **ours}, ours)


@given(st.dictionaries(st.text(max_size=2), SCALARS, min_size=1, max_size=4), st.data())
def test_a_scalar_that_differs_is_seen(ours: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(ours)))

    assert not covers({**ours, key: f"not {ours[key]}"}, ours)
    assert not covers({k: v for k, v in ours.items() if k != key}, ours)


def test_one_is_not_true() -> None:
    assert not covers({"a": 1}, {"a": True})


def test_a_list_is_compared_element_by_element() -> None:
    assert covers([{"a": 1, "b": 2}], [{"a": 1}])
    assert not covers([{"a": 1}, {"a": 2}], [{"a": 1}])
    assert not covers([2, 1], [1, 2])
