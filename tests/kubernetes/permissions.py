"""What somebody may do, as `kubectl auth can-i --list` says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from waypost.local.kubernetes import Kubernetes


@dataclass(frozen=True, kw_only=True, order=True)
class Permission:
    """One verb on one kind of resource (`deployments.apps`, `pods/eviction`), or on one URL that is no resource."""

    verb: str
    resource: str = ""
    url: str = ""
    name: str = ""
    """Only the object of this name; empty for all."""


def permissions(cluster: Kubernetes, kubeconfig: Path, namespace: str) -> set[Permission]:
    """Return all that the owner of a kubeconfig may do in a namespace, cluster-wide grants included."""
    return parse(cluster.kubectl("auth", "can-i", "--list", "-n", namespace, kubeconfig=kubeconfig))


def parse(table: str) -> set[Permission]:
    """Read kubectl's table: four columns, three of them lists in brackets. An unknown heading is a ValueError."""
    heading, *rows = table.splitlines()
    if heading.split("  ")[0] != "Resources" or not heading.rstrip().endswith("Verbs"):
        raise ValueError(f"not a table of permissions: {heading!r}")
    found = set()
    for row in rows:
        match = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]\s*", row)
        if match is None:
            raise ValueError(f"not a row of permissions: {row!r}")
        resource, urls, names, verbs = match.groups()
        found |= {
            Permission(verb=verb, resource=resource, url=url, name=name)
            for verb in verbs.split()
            for url in urls.split() or [""]
            for name in names.split() or [""]
        }
    return found


EVERYBODY = {
    *(
        Permission(verb="create", resource=f"{review}.{group}")
        for review, group in (
            ("selfsubjectreviews", "authentication.k8s.io"),
            ("selfsubjectaccessreviews", "authorization.k8s.io"),
            ("selfsubjectrulesreviews", "authorization.k8s.io"),
        )
    ),
    *(
        Permission(verb="get", url=url)
        for path in ("api", "apis", "healthz", "livez", "openapi", "readyz", "version")
        for url in ([f"/{path}", f"/{path}/*"] if path in ("api", "apis", "openapi") else [f"/{path}"])
    ),
    Permission(verb="get", url="/version/"),
    Permission(verb="get", url="/.well-known/openid-configuration"),
    Permission(verb="get", url="/.well-known/openid-configuration/"),
    Permission(verb="get", url="/openid/v1/jwks"),
    Permission(verb="get", url="/openid/v1/jwks/"),
}
"""What every authenticated service account may: ask about itself and find out what the API offers. No object."""
