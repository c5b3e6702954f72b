"""The policies of the self-healing show are what it says they are, and it says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from waypost.cli import main
from waypost.model.repair_policy import Mode
from waypost.wire.policies import decode_policies

acts = pytest.importorskip("waypost.demo.healing_acts")


def test_its_policies_are_valid_and_act() -> None:
    policies = decode_policies(acts.DOCUMENT)

    assert {policy.mode for policy in policies.policies} == {Mode.ACT}


@pytest.mark.parametrize(("flag", "status"), [((), 1), (("--if-possible",), 0)])
def test_without_the_programs_it_says_how_to_get_them(
    flag: tuple[str, ...], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    ran = CliRunner().invoke(main, ["demo", "self-healing", *flag, "--state-dir", str(tmp_path / "state")])

    assert ran.exit_code == status, ran.output
    assert "make kubernetes" in ran.output
    assert not (tmp_path / "state").exists()
