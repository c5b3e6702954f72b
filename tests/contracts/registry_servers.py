"""Real etcd and NSD for the contract of registries; scripts/registries.sh installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from waypost.client.registry.etcd.gateway import EtcdGateway, Tls
from waypost.errors import RegistryUnavailable
from waypost.local.ports import free_ports

UP_S = 60.0


def needed(program: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(program, path=path)
    assert found is not None, f"{program} is missing: run scripts/registries.sh"
    return found


@dataclass(frozen=True)
class Certificates:
    """An authority, and one certificate of it for the server and one for a client."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @classmethod
    def made_in(cls, directory: Path) -> Certificates:
        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

        subject = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        openssl("req", "-x509", *subject, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca")
        (directory / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        for name in ("server", "client"):
            openssl("req", "-new", *subject, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            openssl(
                "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", "ext",
            )  # fmt: skip
        names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
        return cls(*(directory / name for name in names))


class EtcdServer:
    """One etcd. `kill` and `start` keep its data; `wipe` does not. With certificates it asks for one."""

    def __init__(self, directory: Path, certificates: Certificates | None = None) -> None:
        self._directory = directory
        self._port, self._peer = free_ports([None, None])
        self._certificates = certificates
        self.address = f"127.0.0.1:{self._port}"
        self.url = f"{'https' if certificates else 'http'}://{self.address}"
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
                    *self._tls(),
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        c = self._certificates
        gateway = EtcdGateway(self.url, tls=Tls(ca=c.ca, cert=c.client, key=c.client_key) if c else None)
        wait_for(lambda: gateway.list("/up/").cluster, RegistryUnavailable)
        gateway.close()

    def _tls(self) -> list[str]:
        c = self._certificates
        if c is None:
            return []
        files = {"cert-file": c.server, "key-file": c.server_key, "trusted-ca-file": c.ca}
        return ["--client-cert-auth", *(f"--{name}={file}" for name, file in files.items())]

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
