"""docs/settings.md says what waypost/settings.py says."""

from __future__ import annotations

import runpy

from tests.docs.pages import ROOT
from waypost.settings import register


def test_the_settings_page_is_current() -> None:
    render = runpy.run_path(str(ROOT / "scripts" / "settings_doc.py"))["render"]

    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == render(), "run scripts/settings_doc.py"


def test_every_setting_says_unit_and_reason() -> None:
    for name, _, info in register():
        assert info["unit"], name
        assert info["why"], name
