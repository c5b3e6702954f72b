"""Taking a change set back gives exactly what was before it, or says why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.model.config_history import CannotUndo, Version, undo
from waypost.model.configs import Content


def a_version(name: str, text: str | None, change_set: str, *, previous: int | None = 0) -> Version:
    content = None if text is None else Content(text)
    return Version(name=name, revision=1, content=content, change_set=change_set, at=0, previous=previous)


HISTORY = [
    a_version("a", "1", "r1"),
    a_version("b", "1", "r1"),
    a_version("a", "2", "r2", previous=1),
    a_version("b", None, "r2", previous=None),
    a_version("c", "2", "r2"),
]


def test_everything_is_as_before() -> None:
    assert undo(HISTORY, "r2") == {"a": Content("1"), "b": Content("1"), "c": None}


def test_what_was_changed_again_is_not_taken_back_unless_asked() -> None:
    history = [*HISTORY, a_version("a", "3", "r3", previous=1)]

    with pytest.raises(CannotUndo, match="r3"):
        undo(history, "r2")
    assert undo(history, "r2", force=True)["a"] == Content("1")


def test_what_compaction_took_away_is_not_taken_for_nothing() -> None:
    with pytest.raises(CannotUndo, match="any more"):
        undo(HISTORY[2:], "r2")
    with pytest.raises(CannotUndo, match="any more"):
        undo([a_version("b", None, "r2", previous=None)], "r2")


def test_an_unknown_change_set_is_told() -> None:
    with pytest.raises(CannotUndo, match="r9"):
        undo(HISTORY, "r9")


def test_a_change_set_that_changed_nothing_is_told() -> None:
    with pytest.raises(CannotUndo, match="nothing"):
        undo([a_version("a", "1", "r1"), a_version("a", "1", "r2", previous=1)], "r2")


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from("12"), min_size=1), max_size=6))
def test_undoing_the_last_change_set_gives_the_state_before_it(sets: list[dict[str, str | None]]) -> None:
    states: list[dict[str, Content]] = [{}]
    history = []
    for number, changes in enumerate(sets):
        state = dict(states[-1])
        for name, text in changes.items():
            if text is None and name not in state:
                continue
            history.append(a_version(name, text, str(number), previous=1 if name in state else 0))
            if text is None:
                del state[name]
            else:
                state[name] = Content(text)
        states.append(state)
    last = len(sets) - 1
    if not any(one.change_set == str(last) for one in history) or states[-1] == states[-2]:
        return

    undone = undo(history, str(last))

    after = {name: content for name, content in (states[-1] | undone).items() if content is not None}
    assert after == states[-2]
