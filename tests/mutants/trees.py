"""Copies of this project's tree, and runs of its tests in them.

One plain copy is made of what git tracks or would track. A mutant's tree shares its files with that copy by hard
links, compiled bytecode included, so that a run costs little more than pytest's start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.findings import read_findings
from tests.mutants.verdict import SuiteRun

ROOT = Path(__file__).resolve().parents[2]

PLUGINS = ("pytest_timeout", "_hypothesis_pytestplugin", "tests.mutants.findings")
"""All that a run needs. Others that are installed would load themselves, which takes longer than the tests."""

RUN_TIMEOUT_S = 800
"""For one run. A mutant may make a loop endless, which pytest ends by itself after its `timeout` for each test."""

WAIT_S = 900
"""What a test that waits for one run is given: more than that, so that no process is left behind."""


def copy_tree(target: Path) -> None:
    """Copy what is tracked, and what is new and not ignored: the tree as it would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        source = ROOT / name
        if source.is_file():  # not deleted since
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def link_tree(source: Path, target: Path) -> None:
    """Make a tree of the same files without copying them. Whoever changes one must write it anew."""
    shutil.copytree(source, target, copy_function=os.link)


def run_tests(root: Path, tests: Sequence[str], scratch: Path) -> SuiteRun:
    """Run tests of a tree with this interpreter. `scratch` is a directory for the run's own files."""
    scratch.mkdir()
    findings = scratch / "findings.jsonl"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    pytest = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
            *(word for plugin in PLUGINS for word in ("-p", plugin)),
            *(f"--findings={findings}", f"--basetemp={scratch / 'tmp'}"),
            *tests,
        ],
        cwd=root,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = pytest.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.send_signal(signal.SIGINT)  # and not at once SIGKILL: it may have servers to end
        output, _ = pytest.communicate(timeout=20)
    finally:
        pytest.kill()
    return SuiteRun(status=pytest.returncode, findings=read_findings(findings), output=output)
