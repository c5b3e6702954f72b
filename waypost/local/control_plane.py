"""The three servers of a control plane: kube-apiserver, kube-controller-manager, kube-scheduler.

RBAC is on and everybody speaks with a token of their own: a missing permission shows here as it would anywhere.
Everything listens on loopback. What needs machines or a cloud is left out; kwok plays the kubelets.
"""

from __future__ import annotations

import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from waypost.local.certificates import Certificates, write_private
from waypost.local.kubeconfig import ApiAddress
from waypost.local.kubernetes_programs import kubernetes_program
from waypost.local.ports import LOOPBACK

ISSUER = "https://kubernetes.default.svc"
NODE_MONITOR_GRACE_S = 10
"""How old a node's lease gets before the node is NotReady. Kubernetes' own default is 50: too long to wait for.
Five renewals by kwok fit in; with fewer a busy machine would make healthy nodes fail."""
USERS: Mapping[str, tuple[str, ...]] = {
    "admin": ("system:masters",),
    # kwok stands in for every kubelet there will be, and a kubelet may touch its own node only.
    "kwok": ("system:masters",),
    "system:kube-controller-manager": (),
    "system:kube-scheduler": (),
}
"""Who has a token of the static file, and in which groups."""

_UNUSED_CONTROLLERS = (
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-cleaner-controller",
    "certificatesigningrequest-signing-controller",
    "node-ipam-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-expander-controller",
)
# Clients limit themselves to 20 requests/s; with hundreds of pods that would be what a test waits for.
_CLIENT_LIMITS = ["--kube-api-qps=200", "--kube-api-burst=400"]


@dataclass(frozen=True, kw_only=True)
class ApiServer:
    """kube-apiserver on an etcd, and the tokens of those it knows from the start."""

    directory: Path
    port: int
    etcd_url: str
    certificates: Certificates

    @property
    def address(self) -> ApiAddress:
        return ApiAddress(url=f"https://{LOOPBACK}:{self.port}", authority=self.certificates.authority)

    def prepare(self) -> dict[str, str]:
        """Write the token file; return the new token of each of `USERS`."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        tokens = {user: secrets.token_urlsafe(32) for user in USERS}
        lines = (f'{tokens[user]},{user},{user},"{",".join(groups)}"\n' for user, groups in USERS.items())
        write_private(self._tokens, "".join(lines).encode())
        return tokens

    def command(self) -> list[str]:
        return [
            str(kubernetes_program("kube-apiserver")),
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            # Nobody is told how to reach this server from pods. The address is one for documentation: without it the
            # machine's own would be looked for, and one without a network has none.
            "--endpoint-reconciler-type=none",
            "--advertise-address=192.0.2.1",
            f"--etcd-servers={self.etcd_url}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={self.certificates.serving}",
            f"--tls-private-key-file={self.certificates.serving_key}",
            f"--token-auth-file={self._tokens}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self.certificates.account_key}",
            f"--service-account-signing-key-file={self.certificates.account_key}",
            # Debian's etcd (3.4.23) cannot say how far a watch is, which a list by watch needs: the watches of kwok
            # (client-go 0.36) would end as they begin, and it would hear of a deletion only when it lists again.
            "--feature-gates=WatchList=false",
            "--profiling=false",
        ]

    def is_healthy(self) -> bool:
        """Return whether the server is ready: etcd reached, the roles that every cluster has are there."""
        return answers_safely(f"{self.address.url}/readyz", self.certificates.authority)

    @property
    def _tokens(self) -> Path:
        return self.directory / "tokens.csv"


@dataclass(frozen=True, kw_only=True)
class ControllerManager:
    """kube-controller-manager with every controller that works without machines or a cloud."""

    kubeconfig: Path
    port: int
    certificates: Certificates
    node_monitor_grace_s: int = NODE_MONITOR_GRACE_S

    def command(self) -> list[str]:
        return [
            str(kubernetes_program("kube-controller-manager")),
            *_serving_and_client(self.kubeconfig, self.port, self.certificates),
            f"--service-account-private-key-file={self.certificates.account_key}",
            f"--root-ca-file={self.certificates.authority}",
            # Each controller has the permissions of its own role, as in a real cluster.
            "--use-service-account-credentials=true",
            f"--controllers=*,{','.join(f'-{name}' for name in _UNUSED_CONTROLLERS)}",
            f"--node-monitor-grace-period={self.node_monitor_grace_s}s",
            "--node-monitor-period=1s",
        ]

    def is_healthy(self) -> bool:
        return answers_safely(f"https://{LOOPBACK}:{self.port}/healthz", self.certificates.authority)


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """kube-scheduler with its default profile."""

    kubeconfig: Path
    port: int
    certificates: Certificates

    def command(self) -> list[str]:
        return [
            str(kubernetes_program("kube-scheduler")),
            *_serving_and_client(self.kubeconfig, self.port, self.certificates),
        ]

    def is_healthy(self) -> bool:
        return answers_safely(f"https://{LOOPBACK}:{self.port}/healthz", self.certificates.authority)


def _serving_and_client(kubeconfig: Path, port: int, certificates: Certificates) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={certificates.serving}",
        f"--tls-private-key-file={certificates.serving_key}",
        # There is one of each.
        "--leader-elect=false",
        "--profiling=false",
        *_CLIENT_LIMITS,
    ]


def answers_safely(url: str, authority: Path, timeout: float = 2.0) -> bool:
    """Return whether a server of this machine, certified by `authority`, answers with 200."""
    try:
        context = ssl.create_default_context(cafile=str(authority))
        # No proxy of the environment: it is this machine.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except OSError:
        return False
