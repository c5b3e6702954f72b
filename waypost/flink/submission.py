"""One `flink run`: which job, from which snapshot, by which command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """What a keeper keeps running, and the last time it was submitted."""

    name: str
    module: str
    zip: str
    build: str
    arguments: tuple[str, ...] = ()
    id: str | None = None
    restored_from: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> JobRecord:
        """Return the record that JSON has."""
        return cls(**{**data, "arguments": tuple(data["arguments"])})


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Where the cluster writes what a job resumes from; the keeper must see the same directories."""

    checkpoints: Path
    savepoints: Path

    def of(self, name: str) -> tuple[Path, Path]:
        """Return the directories of the jobs of one name, so that the newest found there is one of its own."""
        return self.checkpoints / name, self.savepoints / name


def run_command(
    flink: Path,
    record: JobRecord,
    *,
    addresses: Sequence[str],
    checkpoints: Path,
    snapshot: Path | None,
    allow_non_restored: bool = False,
) -> list[str]:
    """Return the `flink run` that submits the job; what a user would type on a cluster of their own.

    `flink` is Flink's command; which cluster it talks to says its configuration directory.
    """
    return [
        str(flink),
        "run",
        "--detached",
        *(["--fromSavepoint", snapshot.as_uri()] if snapshot else []),
        *(["--allowNonRestoredState"] if snapshot and allow_non_restored else []),
        # Per job, so that the newest snapshot found on disk is one of this job's.
        f"-Dexecution.checkpointing.dir={checkpoints.as_uri()}",
        "-pym",
        record.module,
        "-pyfs",
        record.zip,
        *addresses,
        # The user's last, so that they win.
        *record.arguments,
    ]
