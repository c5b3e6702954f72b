"""Debian's Prometheus and Alertmanager, and `waypost bridge` behind them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.gateway.conftest import Process
from waypost.local.gateways import answers
from waypost.local.ports import LOOPBACK, free_ports, is_listening

TOKEN = "correct-horse-battery"


@dataclass
class BridgeProcess:
    """`waypost bridge` and its addresses."""

    process: Process
    url: str
    metrics: str

    def post(self, content: bytes, token: str = TOKEN) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(trust_env=False, timeout=60) as client:
            return client.post(f"{self.url}/alertmanager", content=content, headers=headers).status_code

    def requests(self, status: str) -> float:
        """Return how many notifications were answered so."""
        with httpx.Client(trust_env=False, timeout=60) as client:
            lines = client.get(self.metrics).text.splitlines()
        [line] = [x for x in lines if x.startswith(f'waypost_bridge_requests_total{{status="{status}"}}')]
        return float(line.split()[-1])


def start_bridge(directory: Path, bootstrap: str) -> BridgeProcess:
    port, metrics = free_ports([None, None])
    (directory / "token").write_text(TOKEN)
    command = [
        sys.executable, "-m", "waypost", "bridge", "--kafka", bootstrap, "--listen", f"{LOOPBACK}:{port}",
        "--token-file", str(directory / "token"), "--metrics-port", str(metrics),
    ]  # fmt: skip
    url = f"http://{LOOPBACK}:{port}"
    process = Process(lambda: command, lambda: answers(f"{url}/healthz"), directory / "bridge.log")
    try:
        process.start()
    except BaseException:
        process.kill()
        raise
    return BridgeProcess(process, url, f"http://{LOOPBACK}:{metrics}/metrics")


@dataclass
class Monitoring:
    """A Prometheus whose rules the test writes, and an Alertmanager that tells the bridge."""

    directory: Path
    bridge: BridgeProcess
    processes: list[Process] = field(default_factory=list)
    url: str = ""

    def start(self) -> None:
        prometheus, alertmanager = free_ports([None, None])
        self.url = f"http://{LOOPBACK}:{prometheus}"
        self._write_alertmanager()
        self._write_prometheus(alertmanager)
        self.fire()
        server = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        of = self.directory
        self._start(
            lambda: [
                str(server), f"--config.file={of / 'alertmanager.yml'}", f"--storage.path={of / 'am'}",
                f"--web.listen-address={LOOPBACK}:{alertmanager}", "--cluster.listen-address=",
            ],
            lambda: answers(f"http://{LOOPBACK}:{alertmanager}/-/ready"),
            of / "alertmanager.log",
        )  # fmt: skip
        self._start(
            lambda: [
                "prometheus", f"--config.file={of / 'prometheus.yml'}", f"--storage.tsdb.path={of / 'tsdb'}",
                f"--web.listen-address={LOOPBACK}:{prometheus}", "--web.enable-lifecycle",
                # Otherwise an alert raised before it has found its Alertmanager waits for a minute.
                "--rules.alert.resend-delay=1s",
            ],
            lambda: answers(f"{self.url}/-/ready"),
            of / "prometheus.log",
        )  # fmt: skip

    def _start(self, command: Callable[[], list[str]], probe: Callable[[], bool], log: Path) -> None:
        self.processes.append(Process(command, probe, log))
        self.processes[-1].start()

    def fire(self, *alerts: dict[str, str]) -> None:
        """Let these alerts fire, and no others."""
        rules = [
            {
                "alert": labels["alertname"],
                "expr": "vector(1)",
                "labels": {name: value for name, value in labels.items() if name != "alertname"},
                "annotations": {"summary": "it fell"},
            }
            for labels in alerts
        ]
        document = {"groups": [{"name": "test", "interval": "1s", "rules": rules}]}
        (self.directory / "rules.yml").write_text(yaml.safe_dump(document))
        if self.url and is_listening(int(self.url.rpartition(":")[2])):
            with httpx.Client(trust_env=False, timeout=60) as client:
                assert client.post(f"{self.url}/-/reload").status_code == 200

    def close(self) -> None:
        for process in self.processes:
            process.kill()

    def _write_alertmanager(self) -> None:
        webhook = {
            "url": f"{self.bridge.url}/alertmanager",
            "send_resolved": True,
            "http_config": {"authorization": {"credentials_file": str(self.directory / "token")}},
        }
        route = {
            "receiver": "waypost", "group_by": ["..."], "group_wait": "100ms", "group_interval": "1s",
            "repeat_interval": "1h",
        }  # fmt: skip
        document = {"route": route, "receivers": [{"name": "waypost", "webhook_configs": [webhook]}]}
        (self.directory / "alertmanager.yml").write_text(yaml.safe_dump(document))

    def _write_prometheus(self, alertmanager: int) -> None:
        targets = [{"targets": [f"{LOOPBACK}:{alertmanager}"]}]
        document: dict[str, Any] = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": targets}]},
        }
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(document))


@contextmanager
def watching(directory: Path, bootstrap: str) -> Iterator[Monitoring]:
    """Run all three of them, until the end of the block. Skips the test where they are not installed."""
    if not shutil.which("prometheus") or not (shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")):
        pytest.skip("prometheus, alertmanager: scripts/monitoring.sh installs them")
    bridge = start_bridge(directory, bootstrap)
    monitoring = Monitoring(directory, bridge)
    try:
        monitoring.start()
        yield monitoring
    finally:
        monitoring.close()
        bridge.process.kill()
