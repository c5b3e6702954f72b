"""What is registered in etcd is in the tables: etcd, the mirror, Kafka, the route job and Redis, all of them real."""

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
from waypost.client.registry.instance import Instance
from waypost.client.registry.opening import open_registry
from waypost.local.state import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


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
