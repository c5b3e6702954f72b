"""The read-only kubectl commands of the guides work against what k8s/ installs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, shell_lines
from waypost.errors import StackError
from waypost.local.kubernetes import Kubernetes

PAGES = [ROOT / "docs" / name for name in ("troubleshooting.md", "operations.md", "controller.md")]
READING = ("get", "describe", "explain", "auth")


def commands() -> list[str]:
    lines = [line for page in PAGES for line in shell_lines(page) if line.startswith("kubectl ")]
    return sorted({line.removeprefix("kubectl ") for line in lines if line.split()[1] in READING})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_guides_works(installed: Kubernetes, command: str) -> None:
    try:
        said = installed.kubectl(*shlex.split(command))
    except StackError as error:
        # Only the Lease may be missing: the controllers in these pods are nobody.
        if command.startswith("get lease ") and "NotFound" in str(error):
            return
        raise

    if command.startswith("auth can-i"):
        assert said.strip() == "yes"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_directories_that_are_applied_exist(page: Path) -> None:
    for line in shell_lines(page):
        words = shlex.split(line)
        if words[0] == "kubectl" and "-k" in words:
            assert (ROOT / words[words.index("-k") + 1] / "kustomization.yaml").exists(), line
