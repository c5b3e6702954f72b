"""kwok, which plays the kubelet of nodes that do not exist: it renews their leases and lets their pods run.

It looks after the nodes that carry `KUBELET_LABEL`. Taking the label away is therefore a dead kubelet, as the control
plane sees one: the lease ends, pods that are deleted stay Terminating, new ones stay Pending. What a pod would *do* is
not played: its IP answers nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from waypost.local.control_plane import NODE_MONITOR_GRACE_S
from waypost.local.gateways import answers
from waypost.local.kubernetes_programs import kwok_program
from waypost.local.ports import LOOPBACK

KUBELET_LABEL = "local.waypost.io/kubelet"
"""On a node: `KUBELET_RUNS`, or the node has no kubelet."""
KUBELET_RUNS = "kwok"
HANDS_OFF = (KUBELET_LABEL, "off")
"""Annotation of a pod: its status is the test's, kwok only removes it when it is deleted. (A crashing pod, say.)"""
STAGES = Path(__file__).with_name("kwok_stages.yaml")
_POD_NETWORK = "10.64.0.1/16"
_NODE_ADDRESS = "10.63.0.1"  # one for all: nobody is there to be reached


@dataclass(frozen=True, kw_only=True)
class Kwok:
    """How to start kwok and how to ask whether it runs."""

    kubeconfig: Path
    port: int
    node_monitor_grace_s: int = NODE_MONITOR_GRACE_S

    @property
    def lease_duration_s(self) -> int:
        """kwok renews a lease after a quarter of its duration: five times within the control plane's patience."""
        return max(1, self.node_monitor_grace_s * 4 // 5)

    def command(self) -> list[str]:
        return [
            str(kwok_program()),
            f"--kubeconfig={self.kubeconfig}",
            f"--config={STAGES}",
            f"--manage-nodes-with-label-selector={KUBELET_LABEL}={KUBELET_RUNS}",
            "--manage-all-nodes=false",
            f"--node-lease-duration-seconds={self.lease_duration_s}",
            f"--cidr={_POD_NETWORK}",
            f"--node-ip={_NODE_ADDRESS}",
            f"--server-address={LOOPBACK}:{self.port}",
        ]

    def is_healthy(self) -> bool:
        """Return whether kwok watches nodes and pods (it serves only then)."""
        return answers(f"http://{LOOPBACK}:{self.port}/healthz")
