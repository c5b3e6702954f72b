"""`waypost config` shows what the topic has, and options are understood or refused with a sentence."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from tests.client.config_topics import T0, a_change_set, commit, say
from waypost.cli import config as command
from waypost.cli import main
from waypost.cli.config_sync import read_object_key, read_scope
from waypost.client.config_feed import MemoryTopic
from waypost.errors import SettingsError
from waypost.model.configs import ObjectKey


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> MemoryTopic:
    topic = MemoryTopic(clock=lambda: T0)
    monkeypatch.setattr(command, "KafkaFeed", lambda bootstrap, name: topic.feed())
    commit(topic, a_change_set(T0, **{"shop/app/a": "1\n2\n", "shop/app/b": "1"}))
    say(topic, "repair/control", "{}")
    commit(topic, a_change_set(T0 + 1, **{"shop/app/a": "1\n3\n", "shop/app/b": None}))
    return topic


def waypost_config(*words: str) -> Result:
    return CliRunner().invoke(main, ["config", *words, "--kafka", "broker:9092"])


@pytest.mark.usefixtures("topic")
def test_history_lists_every_version_with_its_change_set() -> None:
    lines = waypost_config("history", "shop/app").output.splitlines()

    assert lines[0].split() == ["TIME", "NAME", "REVISION", "CHANGE-SET", "BYTES", "SHA256"]
    assert [line.split()[1:5] for line in lines[1:]] == [
        ["shop/app/a", str(T0), f"shop/r@{T0}", "4"],
        ["shop/app/b", str(T0), f"shop/r@{T0}", "1"],
        ["shop/app/a", str(T0 + 1), f"shop/r@{T0 + 1}", "4"],
        ["shop/app/b", "<gone>", f"shop/r@{T0 + 1}", "0"],
    ]


@pytest.mark.usefixtures("topic")
def test_history_for_programs_has_the_values() -> None:
    found = json.loads(waypost_config("history", "-o", "json").output)

    assert [(one["name"], one["value"]) for one in found][2:4] == [("repair/control", "{}"), ("shop/app/a", "1\n3\n")]


def test_a_record_that_is_none_is_told_and_the_rest_is_shown(topic: MemoryTopic) -> None:
    topic.commit([(b"shop/app/a", b"{", [])])

    done = waypost_config("history")

    assert done.exit_code == 0
    assert "offset 5 is no configuration: bad-json" in done.stderr
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.usefixtures("topic")
def test_diff_shows_lines_of_text() -> None:
    lines = waypost_config("diff", f"shop/r@{T0 + 1}").output.splitlines()

    assert [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")] == ["-2", "+3", "-1"]


@pytest.mark.usefixtures("topic")
def test_a_dry_rollback_shows_the_way_back() -> None:
    done = waypost_config("rollback", f"shop/r@{T0 + 1}", "--dry-run")

    assert done.exit_code == 0
    assert {"-3", "+2", "+1"} <= set(done.output.splitlines())


@pytest.mark.usefixtures("topic")
def test_what_cannot_be_taken_back_is_said() -> None:
    again, unknown = waypost_config("rollback", f"shop/r@{T0}"), waypost_config("diff", "shop/r@1")

    assert (again.exit_code, unknown.exit_code) == (1, 1)
    assert "changed again" in again.output
    assert "knows no change set" in unknown.output


def test_a_scope_is_read_from_its_words() -> None:
    scope = read_scope("configmaps", ("ops/repair=repair", "shop/app.v2=a/b"))

    assert scope.prefixes == {ObjectKey("ops", "repair"): "repair", ObjectKey("shop", "app.v2"): "a/b"}


@pytest.mark.parametrize(
    ("source", "publish"),
    [
        ("Upper", ()), ("", ()), ("a b", ()), ("s", ("ops/repair",)), ("s", ("repair=repair",)), ("s", ("ops/x=",)),
        ("s", ("ops/x=a/",)), ("s", ("ops/x=a", "ops/y=a")), ("s", ("OPS/x=a",)),
    ],
)  # fmt: skip
def test_words_that_are_no_scope_are_refused(source: str, publish: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        read_scope(source, publish)


def test_a_lease_is_a_namespace_and_a_name() -> None:
    assert read_object_key("waypost-system/config-sync") == ObjectKey("waypost-system", "config-sync")
    with pytest.raises(SettingsError):
        read_object_key("config-sync")
