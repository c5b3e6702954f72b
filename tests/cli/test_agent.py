"""`waypost agent` and `waypost mirror`: what is wrong is said at once, in one line, before anything is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from waypost.cli import main


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        (["--namespace", "Shop"], 1, "bad-namespace"),
        (["--node", "a b"], 1, "bad-node"),
        (["--proxy", "8792"], 1, "HOST:PORT"),
        (["--proxy", "127.0.0.1:8792"], 1, "--proxy needs --redis"),
        (["--socket-mode", "999"], 2, "no mode"),
        (["--grace", "5"], 2, "not a duration"),
        (["--batch-from", "0"], 2, "batch-from"),
    ],
)
def test_an_agent_that_cannot_be_is_refused(tmp_path: Path, options: list[str], status: int, why: str) -> None:
    here = ["--service-registry", str(tmp_path / "s"), "--state-dir", str(tmp_path)]

    found, output = said("agent", "--upstream", "127.0.0.1:1", *here, *options)

    assert found == status
    assert why in output


def test_an_agent_without_kafka_says_where_to_name_it(tmp_path: Path) -> None:
    status, output = said("agent", "--service-registry", str(tmp_path / "s"), "--state-dir", str(tmp_path))

    assert status == 1
    assert "WAYPOST_KAFKA_BOOTSTRAP" in output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--from", "consul://h"], "etcd://"),
        (["--from", "etcd://h?layout=nacos"], "a layout is one of"),
        (["--from", "etcd://h", "--source", "a b"], "bad-source"),
        (["--from", "etcd://h", "-n", "Shop"], "bad-namespace"),
    ],
)
def test_a_mirror_that_cannot_be_is_refused(options: list[str], why: str) -> None:
    status, output = said("mirror", "etcd", "--kafka", "127.0.0.1:1", "--redis", "redis://127.0.0.1:1", *options)

    assert status == 1
    assert why in output
