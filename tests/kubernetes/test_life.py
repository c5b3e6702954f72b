"""A cluster starts empty, survives outages of its servers, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from waypost.errors import StackError
from waypost.local.kubernetes import Kubernetes
from waypost.local.process import belonging_to

pytestmark = pytest.mark.kubernetes

_ORPHAN = """
import sys
from waypost.local.kubernetes import Kubernetes
cluster = Kubernetes(sys.argv[1], nodes=1)
cluster.start()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    """A cluster that nobody else uses."""
    with Kubernetes(tmp_path_factory.mktemp("own"), nodes=1) as cluster:
        yield cluster


def names_of_nodes(cluster: Kubernetes) -> list[str]:
    with cluster.api_client() as api:
        return [node.metadata.name for node in client.CoreV1Api(api).list_node().items]


def test_it_starts_with_the_nodes_asked_for_and_says_how_long_it_took(own: Kubernetes) -> None:
    assert names_of_nodes(own) == ["node-1"]
    assert own.ready_after_s is not None
    assert own.ready_after_s > 0


def test_a_directory_holds_one_cluster_at_a_time(own: Kubernetes) -> None:
    with pytest.raises(StackError, match=r"runs in .* already"):
        Kubernetes(own.state_dir).start()

    assert names_of_nodes(own) == ["node-1"]


def test_it_comes_back_from_an_outage_with_what_it_knew(own: Kubernetes) -> None:
    for name in ("kube-apiserver", "etcd"):
        own.stop_server(name)
    with pytest.raises(StackError, match="refused"):
        own.kubectl("get", "nodes")

    for name in ("etcd", "kube-apiserver"):
        own.start_server(name)

    own.wait_until(lambda: is_served(own), "the API server answers again")
    assert names_of_nodes(own) == ["node-1"]


def is_served(cluster: Kubernetes) -> bool:
    try:
        return cluster.kubectl("get", "--raw=/readyz") == "ok"
    except StackError:
        return False


def test_waiting_ends_when_a_server_has_ended(own: Kubernetes) -> None:
    [scheduler] = [p for p in belonging_to(own.state_dir) if program(p.pid) == "kube-scheduler"]
    os.kill(scheduler.pid, signal.SIGKILL)

    with pytest.raises(StackError, match="kube-scheduler ended"):
        own.wait_until(lambda: False, "never")

    own.stop_server("kube-scheduler")
    own.start_server("kube-scheduler")


def test_a_server_that_is_unknown_is_named_with_those_there_are(own: Kubernetes) -> None:
    with pytest.raises(StackError, match=r"'kubelet'.*kube-apiserver"):
        own.stop_server("kubelet")


def test_nothing_is_left_when_it_stops(own: Kubernetes) -> None:
    running = {program(process.pid) for process in belonging_to(own.state_dir)}
    assert running == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}

    own.stop()

    assert belonging_to(own.state_dir) == []
    own.stop()  # once more is no error


def test_nothing_is_left_when_its_process_is_killed(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    owner = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN, str(state_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        assert len(belonging_to(state_dir)) == 5

        owner.kill()

    deadline = time.monotonic() + 30
    while belonging_to(state_dir):
        assert time.monotonic() < deadline, "they outlive their owner"
        time.sleep(0.05)


def program(pid: int) -> str:
    return Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()).name
