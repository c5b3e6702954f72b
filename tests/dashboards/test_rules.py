"""The alert rules as Prometheus' own tool judges them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dashboards.expressions import RULES
from tests.docs.pages import ROOT

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool: scripts/monitoring.sh installs it")


@pytest.mark.parametrize("command", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_containers_prometheus_is_configured_with_these_rules(tmp_path: Path) -> None:
    config = (ROOT / "docker" / "monitoring" / "prometheus.yml").read_text(encoding="utf-8")
    assert "/etc/prometheus/rules/rules.yml" in config
    copy = tmp_path / "prometheus.yml"
    copy.write_text(config.replace("/etc/prometheus/rules", str(RULES.parent)))

    done = subprocess.run(["promtool", "check", "config", copy], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
