"""However a log is cut and thinned out, what is given out belongs together and ends in the same state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.client.config_topics import T0, a_change_set, commit, say
from waypost.client.change_log import ChangeLog, LoggedConfig, read_logged
from waypost.client.config_feed import MemoryTopic, RawConfig
from waypost.errors import DecodeError


def given_out(records: list[RawConfig], log: ChangeLog | None = None) -> list[list[LoggedConfig]]:
    log = log or ChangeLog()
    return [
        visible
        for raw in records
        if raw.offset >= 0
        if (visible := log.take(read_logged(raw.key, raw.value, raw.headers, raw.offset, raw.at)))
    ]


def test_a_change_set_is_given_out_whole_at_its_last_part() -> None:
    topic = MemoryTopic()
    commit(topic, a_change_set(T0, a="1", b="1", c=None))
    log = ChangeLog()

    assert given_out(topic.records[:2], log) == []
    assert log.is_open
    [visible] = given_out(topic.records[2:], log)
    assert [one.name for one in visible] == ["a", "b", "c"]
    assert not log.is_open


def test_change_sets_of_two_writers_may_be_interleaved() -> None:
    one, other = MemoryTopic(), MemoryTopic()
    commit(one, a_change_set(T0, a="1", b="1"))
    commit(other, a_change_set(T0, "ops/x", c="1", d="1"))
    mixed = [one.records[0], other.records[0], one.records[1], other.records[1]]

    found = given_out([raw._replace(offset=number) for number, raw in enumerate(mixed)])

    assert [[part.name for part in visible] for visible in found] == [["a", "b"], ["c", "d"]]


def test_what_people_say_does_not_wait() -> None:
    topic = MemoryTopic()
    commit(topic, a_change_set(T0, a="1", b="1"))
    say(topic, "repair/control", "{}")
    log = ChangeLog()

    given_out(topic.records[:1], log)
    [[word]] = given_out(topic.records[2:], log)

    assert word.name == "repair/control"
    assert log.is_open


def test_a_record_that_cannot_be_read_does_not_hold_up_its_change_set() -> None:
    topic = MemoryTopic()
    commit(topic, a_change_set(T0, a="1", b="1"))
    log = ChangeLog()

    assert log.refuse(topic.records[0].headers, DecodeError("bad-json")) == []
    [[one]] = given_out(topic.records[1:], log)

    assert one.name == "b"


_SETS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.none() | st.sampled_from("12"), min_size=1), min_size=1, max_size=6
)


@given(sets=_SETS)
def test_compaction_changes_nothing_about_the_end(sets: list[dict[str, str | None]]) -> None:
    topic = MemoryTopic()
    for number, texts in enumerate(sets):
        commit(topic, a_change_set(T0 + number, **texts))

    def state(records: list[RawConfig]) -> dict[str, str]:
        log = ChangeLog()
        visible = [one for group in given_out(records, log) for one in group] + log.end()
        assert not log.is_open
        last: dict[str, LoggedConfig] = {}
        for one in visible:
            if one.name not in last or last[one.name].offset < one.offset:
                last[one.name] = one
        return {name: one.record.value for name, one in last.items() if one.record is not None}

    whole = state(topic.records)
    topic.compact()

    assert state(topic.records) == whole
