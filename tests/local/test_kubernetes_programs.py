from pathlib import Path

import pytest

from waypost.errors import StackError
from waypost.local import kubernetes_programs
from waypost.local.kubernetes_programs import KUBERNETES_VERSION, KWOK_VERSION, kubernetes_program

MODULES = Path(__file__).resolve().parents[2] / "scripts" / "kubernetes"


def test_versions_are_those_of_the_go_modules() -> None:
    assert f"\tk8s.io/kubernetes v{KUBERNETES_VERSION} " in (MODULES / "go.mod").read_text()
    assert f"\tsigs.k8s.io/kwok v{KWOK_VERSION} " in (MODULES / "kwok" / "go.mod").read_text()


def test_the_libraries_are_of_the_same_release() -> None:
    release = KUBERNETES_VERSION.replace("1.", "0.", 1)
    replaced = [line.split(" => ")[1] for line in (MODULES / "go.mod").read_text().splitlines() if " => " in line]

    assert len(replaced) > 20
    assert {line.split()[1] for line in replaced} == {f"v{release}"}


def test_a_program_that_is_not_built_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_programs, "cache_dir", lambda: tmp_path)

    with pytest.raises(StackError, match="make kubernetes"):
        kubernetes_program("kube-apiserver")
