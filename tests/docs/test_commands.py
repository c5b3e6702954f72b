"""Commands and settings that the documents show exist as shown."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.docs.pages import PAGES, READMES, ROOT, prose, shell_lines, shown_commands
from waypost.cli import main
from waypost.settings import register
from waypost.topics import DEAD_LETTER, HEARTBEAT, ISOLATION, REGISTRY, ROUTE_CHANGES, default_topics

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@by_page
def test_waypost_commands_exist_with_their_options(page: Path) -> None:
    for words in shown_commands(page):
        command, path, rest = _resolve(words)

        assert CliRunner().invoke(main, [*path, "--help"]).exit_code == 0
        names = {name for p in command.params for name in [*p.opts, *p.secondary_opts]} | {"-h", "--help"}
        for word in rest:
            if re.match(r"--?[a-zA-Z]", word):
                assert word.partition("=")[0] in names, f"`waypost {' '.join(words)}`: no option {word}"


def _resolve(words: list[str]) -> tuple[click.Command, list[str], list[str]]:
    command: click.Command = main
    path: list[str] = []
    while isinstance(command, click.Group) and len(path) < len(words):
        name = words[len(path)]
        assert name in command.commands, f"there is no command `waypost {' '.join([*path, name])}`"
        command = command.commands[name]
        path.append(name)
    return command, path, words[len(path) :]


@by_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = [line for line in shell_lines(page) if line.startswith("make ")]
    shown += re.findall(r"`(make [a-z][a-z-]*)`", prose(page))

    for line in shown:
        assert set(line.split()[1:]) <= targets, line


@by_page
def test_settings_exist(page: Path) -> None:
    known = {name for name, _, _ in register()}
    groups = {name.partition(".")[0] for name in known}
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"--set ([a-z_]+\.[a-z_]+)=", text))
    shown |= {name for name in re.findall(r"`([a-z]+\.[a-z_]+)`", text) if name.partition(".")[0] in groups}

    assert shown <= known | {"lease.py"}, shown - known


@pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)
def test_the_topics_to_create_are_what_the_job_demands(page: Path) -> None:
    shown = {}
    for line in shell_lines(page):
        if line.startswith("kafka-topics.sh"):
            name = re.findall(r"--topic (\S+)", line)[0]
            shown[name] = dict(config.split("=", 1) for config in re.findall(r"--config (\S+)", line))

    topics = default_topics()
    wanted = {
        topics[role].name: {key: setting.value for key, setting in topics[role].settings.items()}
        for role in (REGISTRY, HEARTBEAT, ISOLATION, ROUTE_CHANGES, DEAD_LETTER)
    }
    assert shown == wanted


@pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)
def test_versions_are_those_that_are_installed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    pom = (ROOT / "scripts" / "jars" / "pom.xml").read_text()
    lock = (ROOT / "requirements.lock").read_text()
    flink = re.findall(r"^apache-flink==(\S+)$", lock, re.MULTILINE)[0]

    assert f"apache-flink=={flink}" in text
    assert f"flink-python-{flink}.jar" in text
    assert "flink-sql-connector-kafka-" + re.findall(r"<flink.kafka.version>(.*)<", pom)[0] + ".jar" in text
    assert "Kafka " + re.findall(r"<kafka.version>(.*)<", pom)[0] in text
