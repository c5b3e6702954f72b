import errno
import os
from pathlib import Path
from typing import Any

import pytest

from waypost.flink import snapshots


def a_snapshot(directory: Path, *, age: int, complete: bool = True) -> Path:
    directory.mkdir(parents=True)
    if complete:
        (directory / "_metadata").write_bytes(b"x")
        os.utime(directory / "_metadata", (1_000_000 - age, 1_000_000 - age))
    return directory


def test_newest_is_the_latest_complete_one_of_any_job_and_kind(tmp_path: Path) -> None:
    a_snapshot(tmp_path / "checkpoints" / "job-1" / "chk-9", age=30)
    savepoint = a_snapshot(tmp_path / "savepoints" / "savepoint-1", age=10)
    a_snapshot(tmp_path / "checkpoints" / "job-2" / "chk-1", age=0, complete=False)

    found = snapshots.newest([tmp_path / "checkpoints", tmp_path / "savepoints"])

    assert found == savepoint


def test_nothing_is_newest_where_nothing_is(tmp_path: Path) -> None:
    assert snapshots.newest([tmp_path / "missing"]) is None


def test_prune_keeps_the_newest_and_clears_husks(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    old = a_snapshot(root / "job-1" / "chk-1", age=50)
    (root / "job-1" / "shared").mkdir()
    kept = [a_snapshot(root / "job-2" / f"chk-{n}", age=10 - n) for n in (1, 2, 3)]
    a_snapshot(root / "job-3" / "chk-1", age=0, complete=False)

    snapshots.prune([root])

    assert not old.parent.exists()
    assert not (root / "job-3").exists()
    assert snapshots.completed([root]) == list(reversed(kept))


def test_where_nobody_can_look_nothing_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job would begin without its state, or lose the checkpoint it is to begin with."""
    root = tmp_path / "checkpoints"
    kept = a_snapshot(root / "job-1" / "chk-1", age=5)
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == kept:
            raise OSError(errno.ESTALE, "stale file handle")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="stale"):
        snapshots.newest([root])
    with pytest.raises(OSError, match="stale"):
        snapshots.prune([root])

    monkeypatch.undo()
    assert snapshots.newest([root]) == kept
