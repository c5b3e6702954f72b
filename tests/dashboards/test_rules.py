"""The alert rules as Prometheus' own tool judges them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.dashboards.expressions import RULES

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool: scripts/monitoring.sh installs it")


@pytest.mark.parametrize("command", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
