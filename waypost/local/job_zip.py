"""Build `waypost-job.zip`: the five packages at the archive root, for `flink run -pyfs`.

The same sources give the same bytes: fixed timestamps, sorted names. `waypost/_build.json` inside
names the content; a job that reports it says which code it is, which matters because thread mode can keep
an earlier job's modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import waypost
from waypost.errors import StackError

PACKAGES = ("waypost", "schemas", "sources", "sinks", "jobs")
NAME = "waypost-job.zip"
_BUILD_FILE = "waypost/_build.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LEFT_OUT = {".pyc", ".pyo", ".swp"}


def source_root() -> Path:
    """Return the source tree this package runs from; raises `StackError` when it was installed without the jobs."""
    root = Path(waypost.__file__).resolve().parent.parent
    if not (root / "jobs").is_dir():
        raise StackError(f"the stream jobs are not beside {root / 'waypost'}: give a job zip built from a source tree")
    return root


def build(root: Path, target: Path) -> str:
    """Write the archive to `target` (whole or not at all) and return its build id.

    The id is 12 hex digits of a hash over names and contents. Packages that do not exist are left out.
    """
    files = sorted(_files(root))
    if not files:
        raise StackError(f"nothing to pack in {root}")
    contents = [(name, (root / name).read_bytes()) for name in files]
    digest = hashlib.sha256()
    for name, data in contents:
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    build_id = digest.hexdigest()[:12]
    marker = json.dumps({"build": build_id, "version": metadata.version("waypost")}) + "\n"

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*contents, (_BUILD_FILE, marker.encode())]:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    scratch.replace(target)
    return build_id


def build_id_of(archive: Path) -> str:
    """Return the build id written into an archive; raises `StackError` when it is not one of ours."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return str(json.loads(opened.read(_BUILD_FILE))["build"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise StackError(f"{archive} is no Waypost job zip: {error}") from error


def _files(root: Path) -> Iterator[str]:
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            name = path.relative_to(root).as_posix()
            ours = "__pycache__" not in path.parts and path.suffix not in _LEFT_OUT and name != _BUILD_FILE
            if ours and path.is_file():
                yield name
