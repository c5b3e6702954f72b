"""What k8s/ holds, as kustomize builds it and as the API server takes it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from waypost.local.kubernetes import Kubernetes
from waypost.local.kubernetes_programs import kubernetes_program

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "k8s" / "base"
OVERLAYS = ROOT / "k8s" / "overlays"
DEFINITIONS = Path(__file__).parent / "crds"
BASES = sorted(directory.name for directory in BASE.iterdir() if (directory / "kustomization.yaml").exists())


@cache
def built(directory: Path) -> str:
    """Return what `kubectl kustomize` makes of a directory; a failure is an AssertionError with its complaint."""
    command = [str(kubernetes_program("kubectl")), "kustomize", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(directory: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(built(directory)) if body]


def apply(cluster: Kubernetes, text: str, *more: str) -> str:
    """Apply as the documentation says, by server-side apply; unknown fields are an error."""
    return cluster.kubectl("apply", "--server-side", "--validate=strict", *more, "-f", "-", stdin=text)


def define(cluster: Kubernetes) -> None:
    """Define the kinds of those operators that are presupposed."""
    for definition in sorted(DEFINITIONS.glob("*.yaml")):
        apply(cluster, definition.read_text())
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=240s")


def install(cluster: Kubernetes) -> None:
    """Apply the definitions and every base but the demo's KafkaServiceDiscovery, in an order that works."""
    define(cluster)
    apply(cluster, built(BASE / "crd"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=240s")
    for name in ["namespace", *(name for name in BASES if name not in ("crd", "discovery", "namespace"))]:
        apply(cluster, built(BASE / name))
