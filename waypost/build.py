"""Which build of Waypost this is."""

from __future__ import annotations

import json
import pkgutil


def build_id() -> str:
    """Return the content hash that the job zip carries, `dev` when running from a checkout."""
    try:
        data = pkgutil.get_data("waypost", "_build.json")
    except OSError:
        return "dev"
    return str(json.loads(data)["build"]) if data else "dev"
