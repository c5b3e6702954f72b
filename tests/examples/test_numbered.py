"""The numbered examples run as programs: against a file, and against a real etcd."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.contracts.registry_servers import EtcdServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name / "main.py"), *arguments]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, check=False, timeout=120)


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(name, *arguments), stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    assert process.stdout is not None
    try:
        return process.wait(60)
    finally:
        process.kill()
        process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    server = EtcdServer(tmp_path)
    server.start()
    yield f"etcd://{server.address}"
    server.kill()


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_lookup(tmp_path: Path) -> None:
    services = tmp_path / "services.yaml"
    services.write_text("payments: [{id: p-1, address: 10.1.2.3, port: 8080, weight: 7}]")

    assert run("02-lookup", f"file:{services}", "payments").stdout == "p-1 10.1.2.3 8080 7\n"
    unknown = run("02-lookup", f"file:{services}", "cart")
    assert unknown.returncode == 1
    assert "knows no service 'cart'" in unknown.stderr


def test_failover_passes_over_the_dead(tmp_path: Path) -> None:
    web, gone = (ThreadingHTTPServer(("127.0.0.1", 0), Answering) for _ in range(2))
    gone.server_close()
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    services = tmp_path / "services.yaml"
    services.write_text(
        f"web: [{{id: alive, address: 127.0.0.1, port: {web.server_port}}},"
        f" {{id: dead, address: 127.0.0.1, port: {gone.server_port}}}]"
    )
    try:
        answers = run("04-failover", f"file:{services}", "web", "/").stdout.splitlines()
    finally:
        web.shutdown()
        thread.join()
        web.server_close()

    assert answers == ["200 from alive"] * 10


@pytest.mark.e2e
def test_register_and_watch(server: str) -> None:
    watch = start("03-watch", server, "payments")
    register = start("01-register", server, "payments", "10.1.2.3:8080")

    assert line(register) == "registered payments at 10.1.2.3:8080"
    assert line(watch) == "add 10.1.2.3:8080 10.1.2.3 8080"
    assert end(register, signal.SIGTERM) == 0
    assert line(watch) == "delete 10.1.2.3:8080 10.1.2.3 8080"
    assert end(watch, signal.SIGINT) == 0
