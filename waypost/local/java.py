"""Find Java 17.

Flink 2.3 and PemJa are tested on 17; a machine's default `java` may be much newer, so the default is
only the last thing looked at. The version is read from the `release` file, which costs no JVM start.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from waypost.errors import StackError

VERSION = 17


def java_home(environ: Mapping[str, str] = os.environ, roots: Iterable[Path] = (Path("/usr/lib/jvm"),)) -> Path:
    """Return the home of a Java 17: `JAVA_HOME` when it is one, then the system's, then the one on `PATH`.

    Raises `StackError` with the remedy when there is none.
    """
    candidates = [Path(environ["JAVA_HOME"])] if environ.get("JAVA_HOME") else []
    for root in roots:
        candidates += sorted(root.glob("*"))
    on_path = shutil.which("java", path=environ.get("PATH", os.defpath))
    if on_path:
        candidates.append(Path(on_path).resolve().parent.parent)
    for home in candidates:
        if (home / "bin" / "java").exists() and major_version(home) == VERSION:
            return home
    raise StackError(f"no Java {VERSION} found; run `make setup`, or point JAVA_HOME at one")


def major_version(home: Path) -> int | None:
    """Return the major version written in the home's `release` file, None when it says nothing."""
    try:
        found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) if found else None
