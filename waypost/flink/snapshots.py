"""Completed checkpoints and savepoints on disk, the newest first.

A checkpoint is complete when its `_metadata` exists: Flink writes that file last and renames it into place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

KEPT = 3
"""Snapshots kept when a job is submitted: the one it starts from, and two to go back to."""


def newest(directories: Iterable[Path]) -> Path | None:
    """Return the newest completed snapshot below the directories, None when there is none."""
    found = completed(directories)
    return found[0] if found else None


def completed(directories: Iterable[Path]) -> list[Path]:
    """Return all completed snapshots below the directories, the newest first."""
    dated: list[tuple[int, Path]] = []
    for directory in directories:
        for metadata in _metadata(directory):
            try:
                dated.append((metadata.stat().st_mtime_ns, metadata.parent))
            except FileNotFoundError:  # subsumed by a newer checkpoint while we look
                continue
    return [path for _, path in sorted(dated, reverse=True)]


def _metadata(directory: Path) -> Iterator[Path]:
    """Return every `_metadata` below a directory. `rglob` fails when what it has listed is deleted before it looks
    inside, as checkpoints are. Raises OSError when it cannot look: that nothing was found would mean that a job begins
    without its state, or that what it needs is deleted."""

    def passes(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
            raise error

    for where, _, files in os.walk(directory, onerror=passes):
        if "_metadata" in files:
            yield Path(where, "_metadata")


def prune(directories: Iterable[Path], keep: int = KEPT) -> None:
    """Delete all but the newest snapshots. Only while no job runs: a running job owns its checkpoints."""
    roots = list(directories)
    for old in completed(roots)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    for root in roots:
        # What is left of a job without a completed snapshot: `shared`, `taskowned`, a half-written chk-N.
        for directory in root.glob("*"):
            if not any(_metadata(directory)):
                shutil.rmtree(directory, ignore_errors=True)
