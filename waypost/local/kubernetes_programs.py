"""Where `scripts/kubernetes.sh` put the programs of a control plane, and where the system's etcd is.

The versions are those of `scripts/kubernetes/go.mod` and `scripts/kubernetes/kwok/go.mod`; a test compares them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from waypost.errors import StackError
from waypost.local.jars import cache_dir

KUBERNETES_VERSION = "1.34.4"
KWOK_VERSION = "0.8.0"


def kubernetes_program(name: str) -> Path:
    """Return `kube-apiserver`, `kube-controller-manager`, `kube-scheduler` or `kubectl`.

    Raises `StackError` when it has not been built. A `kubectl` of the machine is not used: its version is anybody's.
    """
    return _built(cache_dir() / f"kubernetes-{KUBERNETES_VERSION}" / name)


def kwok_program() -> Path:
    """Return kwok; raises `StackError` when it has not been built."""
    return _built(cache_dir() / f"kwok-{KWOK_VERSION}" / "kwok")


def etcd_program() -> Path:
    """Return the system's etcd; raises `StackError` when it is not installed."""
    found = shutil.which("etcd") or shutil.which("etcd", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise StackError("etcd is missing; run `make kubernetes` (Debian's package is etcd-server)")
    return Path(found)


def _built(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        raise StackError(f"{path} does not exist; run `make kubernetes` (it builds it, once per version)")
    return path
