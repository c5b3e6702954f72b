from itertools import pairwise

import pytest
import yaml
from click.testing import CliRunner

from waypost.cli import main
from waypost.errors import SettingsError
from waypost.flink.settings import job_settings, parse_settings, settings_text


def test_every_entry_is_flat_text_as_flink_spells_it() -> None:
    settings = job_settings()

    assert settings["taskmanager.numberOfTaskSlots"] == "1"
    assert settings["classloader.check-leaked-classloader"] == "false"
    assert all(isinstance(value, str) and value for value in settings.values())


def test_every_group_of_entries_says_why() -> None:
    lines = settings_text().splitlines()
    after_a_gap = [line for gap, line in pairwise(lines) if not gap and line]

    assert after_a_gap
    assert all(line.startswith("#") for line in after_a_gap)


@pytest.mark.parametrize("text", ["heartbeat:\n  timeout: 10 s", "- a", "just words", "a: [1", "a:\n"])
def test_what_is_no_list_of_lines_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="FLINK_PROPERTIES"):
        parse_settings(text, "FLINK_PROPERTIES")


def test_nothing_is_no_entries() -> None:
    assert parse_settings("", "x") == {}
    assert parse_settings("# only a remark\n", "x") == {}


def test_the_command_prints_ours_and_lets_the_users_entries_win() -> None:
    own = "heartbeat.timeout: 20 s\nmy.note: it's"

    plain = CliRunner().invoke(main, ["flink-settings"], env={"FLINK_PROPERTIES": ""})
    merged = CliRunner().invoke(main, ["flink-settings"], env={"FLINK_PROPERTIES": own})

    assert plain.output == settings_text()
    expected = {**job_settings(), "heartbeat.timeout": "20 s", "my.note": "it's"}
    assert yaml.safe_load(merged.output) == expected


def test_the_command_refuses_what_would_not_work() -> None:
    done = CliRunner().invoke(main, ["flink-settings", "--merge", "heartbeat:\n  timeout: 1 s"])

    assert done.exit_code == 1
    assert "key: value" in done.output
