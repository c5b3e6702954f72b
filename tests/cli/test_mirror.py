"""`waypost mirror`: what is refused before anything runs, with what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.contracts.slices import write_kubeconfig
from waypost.cli import main

KAFKA_AND_REDIS = ("--kafka=127.0.0.1:1", "--redis=redis://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["etcd", "--from", "etcd://h?layout=nacos"], "a layout is one of"),
        (["etcd", "--from", "etcd://h", "--source", "a b"], "a source is"),
        (["etcd", "--from", "etcd://h", "-n", "Shop"], "a namespace is"),
        (["kubernetes", "--from", "etcd://h"], "say which namespace"),
        (["kubernetes", "--from", "kubernetes:shop?kubeconfig=/nowhere"], "KUBECONFIG"),
        (["kubernetes", "--from", "HERE&port=http"], "say --port instead"),
        (["kubernetes", "--from", "HERE", "--source", "a b"], "a source is"),
        (["kubernetes", "--from", "HERE", "-n", "Shop"], "a namespace is"),
        (["kubernetes", "--from", "HERE", "--from", "HERE"], "undo each other's"),
        (["kubernetes", "--from", "HERE", "--once", *KAFKA_AND_REDIS], "reading what kubernetes has declared"),
    ],
)
def test_what_is_refused_says_why(arguments: list[str], said: str, tmp_path: Path) -> None:
    here = f"kubernetes:shop?kubeconfig={write_kubeconfig(tmp_path / 'config', 'http://127.0.0.1:1')}"
    given = [word.replace("HERE", here) for word in arguments]

    result = CliRunner().invoke(main, ["mirror", *given])

    assert result.exit_code != 0
    assert said in " ".join(result.output.split())
