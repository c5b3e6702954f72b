"""What etcd and Kubernetes know is in the tables: registry, mirror, Kafka, the route job and Redis, all real."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.registry_servers import EtcdServer
from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables
from tests.kubernetes.workloads import opened
from waypost.client.registry.instance import Instance
from waypost.client.registry.opening import open_registry
from waypost.local.kubernetes import Kubernetes
from waypost.local.kwok import HANDS_OFF
from waypost.local.state import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path)
    server.start()
    yield server
    server.kill()


def test_etcd_is_seen_by_gateways_and_others_keep_their_own(
    stack: Stack, server: EtcdServer, log: LogWriter, tables: Tables, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:8]
    pay, cart = f"pay-{name}", f"cart-{name}"
    command = [
        sys.executable, "-m", "waypost", "mirror", "etcd", "--from", f"etcd://{server.address}", "--source", name,
        f"--kafka={stack.kafka_bootstrap}", f"--redis={stack.redis_url}",
    ]  # fmt: skip
    log.register(pay, "not-mirrored", 9000)
    with open_registry(f"etcd://{server.address}") as registry, (tmp_path / "mirror.log").open("wb") as out:
        registry.register(Instance(id="p-1", name=pay, address="10.0.0.1", port=80))
        registry.register(Instance(id="c-1", name=cart, address="10.0.0.1", port=81))

        mirror = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            tables.wait_for(pay, "not-mirrored", "10.0.0.1:80")
            tables.wait_for(cart, "10.0.0.1:81")
            assert tables.instance(pay, "10.0.0.1:80")["source"] == name
            registry.register(Instance(id="p-2", name=pay, address="10.0.0.2", port=80))
            tables.wait_for(pay, "not-mirrored", "10.0.0.1:80", "10.0.0.2:80")
            mirror.kill()
            mirror.wait()

            # While nobody mirrors, the tables stay as they were.
            registry.deregister(cart, "c-1")
            registry.deregister(pay, "p-1")
            mirror = subprocess.Popen(command, stdout=out, stderr=out)
            tables.wait_for(pay, "not-mirrored", "10.0.0.2:80")
            tables.wait_for(cart)
            registry.deregister(pay, "p-2")
            tables.wait_for(pay, "not-mirrored")

            registry.register(Instance(id="c-2", name=cart, address="10.0.0.2", port=81))
            tables.wait_for(cart, "10.0.0.2:81")
            # What is in the tables already is not declared again.
            once = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False, timeout=120)
            assert (once.returncode, "declared" in once.stdout) == (0, False), once.stdout + once.stderr
            mirror.send_signal(signal.SIGTERM)
            assert mirror.wait(60) == 0
        finally:
            mirror.kill()
            mirror.wait()


def test_kubernetes_is_seen_by_gateways_and_others_keep_their_own(
    stack: Stack, kubernetes: Kubernetes, namespace: str, log: LogWriter, tables: Tables, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:8]
    pay, cart = f"pay-{name}", f"cart-{name}"
    command = [
        sys.executable, "-m", "waypost", "mirror", "kubernetes", "--selector", "mirrored=yes", "-n", "default",
        "--from", f"kubernetes:{namespace}?kubeconfig={kubernetes.kubeconfig}", "--source", name,
        f"--kafka={stack.kafka_bootstrap}", f"--redis={stack.redis_url}",
    ]  # fmt: skip
    log.register(pay, "not-mirrored", 9000)
    with opened(kubernetes, namespace) as room, (tmp_path / "mirror.log").open("wb") as out:

        def pods(app: str) -> set[str]:
            return {f"{pod.status.pod_ip}:8080" for pod in room.ready_pods(app)}

        def scale(app: str, replicas: int) -> None:
            kubernetes.kubectl("scale", f"deployment/{app}", f"--replicas={replicas}", "-n", namespace)
            kubernetes.wait_until(
                lambda: len(room.pods(app)) == len(room.ready_pods(app)) == replicas, f"{app} has {replicas} pods"
            )

        for app, replicas in ((pay, 2), (cart, 1)):
            room.deploy(app, replicas=replicas)
            room.core.patch_namespaced_service(app, namespace, {"metadata": {"labels": {"mirrored": "yes"}}})
        room.deploy(f"ours-{name}", replicas=1)  # has not the label

        first, second = (subprocess.Popen(command, stdout=out, stderr=out) for _ in range(2))
        try:
            tables.wait_for(pay, "not-mirrored", *pods(pay))
            tables.wait_for(cart, *pods(cart))
            assert tables.instance(pay, next(iter(pods(pay))))["source"] == name
            scale(pay, 3)
            tables.wait_for(pay, "not-mirrored", *pods(pay))

            # One that fails its readiness probe is not called; of two mirrors one is enough.
            first.kill()
            first.wait()
            annotation, off = HANDS_OFF
            failing, *_ = room.ready_pods(pay)
            pod = failing.metadata.name
            room.core.patch_namespaced_pod(pod, namespace, {"metadata": {"annotations": {annotation: off}}})
            conditions = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
            room.core.patch_namespaced_pod_status(pod, namespace, {"status": {"conditions": conditions}})
            kubernetes.wait_until(lambda: len(pods(pay)) == 2, "one is not ready")
            tables.wait_for(pay, "not-mirrored", *pods(pay))
            second.kill()
            second.wait()

            # While nobody mirrors, the tables stay as they were.
            kept = tables.ids(cart)
            scale(cart, 0)
            room.core.delete_namespaced_service(pay, namespace)
            assert tables.ids(cart) == kept
            first = subprocess.Popen(command, stdout=out, stderr=out)
            tables.wait_for(cart)
            tables.wait_for(pay, "not-mirrored")
            scale(cart, 1)
            tables.wait_for(cart, *pods(cart))
            assert tables.ids(f"ours-{name}") == set()
            # What is in the tables already is not declared again.
            once = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False, timeout=120)
            assert (once.returncode, "declared" in once.stdout) == (0, False), once.stdout + once.stderr
            first.send_signal(signal.SIGTERM)
            assert first.wait(60) == 0
        finally:
            for process in (first, second):
                process.kill()
                process.wait()
