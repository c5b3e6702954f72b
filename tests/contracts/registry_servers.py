"""Real etcd and NSD for the contract of registries; scripts/registries.sh installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from waypost.client.registry.etcd.gateway import EtcdGateway
from waypost.errors import RegistryUnavailable
from waypost.local.ports import free_ports

UP_S = 60.0


def needed(program: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(program, path=path)
    assert found is not None, f"{program} is missing: run scripts/registries.sh"
    return found


class EtcdServer:
    """One etcd. `kill` and `start` keep its data; `wipe` does not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port, self._peer = free_ports([None, None])
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"http://{self.address}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self._peer}"
        with (self._directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    needed("etcd"),
                    "--data-dir", str(self._directory / "data"),
                    "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", f"default={peer}",
                    "--initial-cluster-token", f"token-{time.time_ns()}",
                    "--unsafe-no-fsync",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        gateway = EtcdGateway(self.url)
        wait_for(lambda: gateway.list("/up/").cluster, RegistryUnavailable)
        gateway.close()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        self.kill()
        shutil.rmtree(self._directory / "data")


class NsdServer:
    """An authoritative name server for one zone, `test.`"""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        [self.port] = free_ports([None])
        self._lock = threading.Lock()
        self._serial = 1
        self._records: dict[str, list[str]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        d = self._directory
        (d / "nsd.conf").write_text(
            f"server:\n  ip-address: 127.0.0.1@{self.port}\n  username: \"\"\n  zonesdir: {d}\n  database: \"\"\n"
            f"  pidfile: {d}/nsd.pid\n  xfrdfile: {d}/xfrd.state\n  zonelistfile: {d}/zone.list\n  xfrdir: {d}\n"
            f"  cookie-secret-file: {d}/cookies\n  server-count: 1\n"
            "remote-control:\n  control-enable: no\n"
            "zone:\n  name: test\n  zonefile: test.zone\n"
        )  # fmt: skip
        self._write()
        with (d / "nsd.log").open("ab") as log:
            self._process = subprocess.Popen([needed("nsd"), "-d", "-c", str(d / "nsd.conf")], stdout=log, stderr=log)

    def set(self, name: str, *records: str) -> None:
        """Replace what is written about a name below `test.`: `TTL TYPE DATA` each."""
        with self._lock:
            self._records[name] = list(records)
            self._serial += 1
            self._write()
            if self._process is not None:
                self._process.send_signal(1)

    def _write(self) -> None:
        lines = ["$ORIGIN test.", f"@ 1 SOA ns.test. root.test. {self._serial} 1 1 1 1", "@ 1 NS ns.test."]
        lines += ["ns 1 A 127.0.0.1"]
        lines += [f"{name} {record}" for name, records in self._records.items() for record in records]
        scratch = self._directory / "test.zone.new"
        scratch.write_text("\n".join(lines) + "\n")
        scratch.replace(self._directory / "test.zone")

    def kill(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def wait_for(condition: Callable[[], object], *ignored: type[Exception]) -> None:
    deadline = time.monotonic() + UP_S
    while True:
        try:
            if condition():
                return
        except ignored:
            pass
        assert time.monotonic() < deadline, "not up in time"
        time.sleep(0.02)
