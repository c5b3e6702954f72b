import zipfile
from pathlib import Path

import pytest

from waypost.errors import StackError
from waypost.local import job_zip


def a_tree(root: Path) -> Path:
    for name, text in {"waypost/__init__.py": "", "jobs/__init__.py": "", "jobs/route_table.py": "x = 1\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")

    first = job_zip.build(root, tmp_path / "a.zip")
    (root / "jobs" / "__pycache__").mkdir()
    (root / "jobs" / "__pycache__" / "route_table.cpython-311.pyc").write_bytes(b"junk")
    second = job_zip.build(root, tmp_path / "b.zip")

    assert first == second
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_changed_file_is_another_build(tmp_path: Path) -> None:
    root = a_tree(tmp_path / "tree")
    before = job_zip.build(root, tmp_path / "a.zip")

    (root / "jobs" / "route_table.py").write_text("x = 2\n")

    assert job_zip.build(root, tmp_path / "a.zip") != before


def test_packages_are_at_the_root_and_the_build_is_inside(tmp_path: Path) -> None:
    build = job_zip.build(a_tree(tmp_path / "tree"), tmp_path / "a.zip")

    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert set(archive.namelist()) == {
            "waypost/__init__.py",
            "waypost/_build.json",
            "jobs/__init__.py",
            "jobs/route_table.py",
        }
    assert job_zip.build_id_of(tmp_path / "a.zip") == build


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")

    with pytest.raises(StackError, match="no Waypost job zip"):
        job_zip.build_id_of(tmp_path / "a.zip")
