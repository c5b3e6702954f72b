"""Kubeconfig files: where an API server is, whom to trust, and as whom to speak."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import yaml

from waypost.local.certificates import write_private


@dataclass(frozen=True, kw_only=True)
class ApiAddress:
    """An API server's URL and the PEM file of the authority that signed its certificate."""

    url: str
    authority: Path


def write_kubeconfig(path: Path, address: ApiAddress, *, user: str, token: str, namespace: str = "default") -> None:
    """Write a kubeconfig with one bearer token, readable by this user only (mode 0600).

    The authority is inside the file, so it may be copied anywhere on this machine.
    """
    name = "local"
    authority = b64encode(address.authority.read_bytes()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": address.url, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user, "namespace": namespace}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
