"""The self-healing show: it comes to its end, tells what it measured, and leaves nothing behind.

How fast things were is the show's own judgement, not asserted here: a test must not fail for a busy machine.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from waypost.demo.healing import FILE, ROOM
from waypost.local.process import belonging_to

pytestmark = [pytest.mark.e2e, pytest.mark.kubernetes, pytest.mark.timeout(900)]

A_TIME = re.compile(r"\d ms$")


def test_the_show_from_nothing_to_nothing(state_dir: Path, waypost: Any) -> None:
    demo = waypost("demo", "self-healing", "--state-dir", str(state_dir))

    result = json.loads((state_dir / FILE).read_text())
    assert (demo.returncode == 0) == result["held"], demo.stdout + demo.stderr
    missed = [e for e in result["expectations"] if not e["held"] and not A_TIME.search(e["wanted"])]
    assert missed == [], demo.stdout
    assert all(e["measured"] != "never" for e in result["expectations"]), demo.stdout
    for room in ("stack", "kubernetes"):
        assert belonging_to(state_dir / ROOM / room) == []
