"""A topic for tests: change sets, words of people and rubbish, in the order of the log."""

from __future__ import annotations

from waypost.client.config_feed import MemoryTopic
from waypost.model.change_sets import Change, ChangeSet
from waypost.model.configs import Content
from waypost.wire.config import ConfigRecord, encode_change_set, encode_config

T0 = 1_795_298_407_272


def a_change_set(revision: int, name: str = "shop/r", **texts: str | None) -> ChangeSet:
    """A change set of configurations `<key>`; None takes one away."""
    return ChangeSet(
        id=f"{name}@{revision}",
        changes=tuple(
            Change(name=key, revision=revision, content=None if text is None else Content(text))
            for key, text in sorted(texts.items())
        ),
    )


def commit(topic: MemoryTopic, *change_sets: ChangeSet) -> None:
    """Write a transaction."""
    topic.commit(record for one in change_sets for record in encode_change_set(one, "configmaps"))


def say(topic: MemoryTopic, name: str, text: str, revision: int = T0) -> None:
    """Write a record as people do: alone, without a header."""
    key, value = encode_config(ConfigRecord(name=name, revision=revision, value=text))
    topic.commit([(key, value, [])])
