"""`waypost discover` and `waypost register --to`: what they print and how they end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.contracts.registry_contract import eventually
from tests.contracts.registry_servers import EtcdServer
from waypost.cli import main

SERVICES = """
payments:
  - {id: payments-1, address: 10.1.2.3, port: 8080, zone: a, metadata: {version: "2.1"}}
  - {id: payments-2, address: "2001:db8::2", port: 8081, weight: 50, status: DRAINING}
"""


@pytest.fixture
def services(tmp_path: Path) -> str:
    path = tmp_path / "services.yaml"
    path.write_text(SERVICES)
    return f"file:{path}"


def run(*arguments: str, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments, env=environ)
    return result.exit_code, result.output


def test_a_table_for_people(services: str) -> None:
    status, output = run("discover", "payments", "--from", services)

    assert status == 0
    assert [re.split(r"\s{2,}", line) for line in output.splitlines()] == [
        ["SERVICE", "INSTANCE", "ADDRESS", "STATUS", "WEIGHT", "ZONE", "METADATA", "LAST HEARTBEAT"],
        ["payments", "payments-1", "10.1.2.3:8080", "UP", "100", "a", "version=2.1", "<unknown>"],
        ["payments", "payments-2", "[2001:db8::2]:8081", "DRAINING", "50", "<none>", "<none>", "<unknown>"],
    ]


def test_documents_for_programs(services: str) -> None:
    _, as_json = run("discover", "payments", "--from", services, "-o", "json")
    _, as_yaml = run("discover", "payments", "--from", services, "-o", "yaml")

    assert json.loads(as_json) == yaml.safe_load(as_yaml)
    assert json.loads(as_json)[0] == {
        "service": "payments", "instance": "payments-1", "address": "10.1.2.3", "port": 8080, "weight": 100,
        "zone": "a", "status": "UP", "metadata": {"version": "2.1"}, "last_heartbeat": None,
    }  # fmt: skip


def test_the_environment() -> None:
    found = run("discover", "redis", "--from", "env:", "-o", "json", REDIS_SERVICE_HOST="10.0.0.9",
                REDIS_SERVICE_PORT="6379")  # fmt: skip

    assert [(i["address"], i["port"]) for i in json.loads(found[1])] == [("10.0.0.9", 6379)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("discover", "nobody", "--from", "env:"), "knows no service 'nobody'"),
        (("discover", "Bad_Name", "--from", "env:"), "RFC 1123"),
        (("discover", "x", "--from", "consul://h"), "names no registry"),
        (("discover", "x", "--from", "file:/nonexistent.yaml"), "No such file"),
        (("discover", "x", "--from", "etcd://127.0.0.1:9"), "did not answer"),
        (
            ("register", "x", "--instance", "i", "--address", "10.0.0.1", "--port", "1", "--to", "env:"),
            "can only be read",
        ),
        (
            ("register", "x", "--instance", "i", "--address", "10.0.0.1", "--port", "0", "--to", "memory:"),
            "port must be from 1",
        ),
    ],
)
def test_failures_are_one_line_that_says_why(arguments: tuple[str, ...], words: str) -> None:
    status, output = run(*arguments)

    assert status in (1, 2)
    assert words in output
    assert "Traceback" not in output


@pytest.mark.e2e
def test_registering_in_etcd_and_staying(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path)
    server.start()
    url = f"etcd://{server.address}"
    waypost = [sys.executable, "-m", "waypost"]
    place = ["--instance", "10.1.2.3:8080", "--address", "10.1.2.3", "--port", "8080", "--metadata", "version=1"]
    started: list[subprocess.Popen[str]] = []
    try:
        watch = subprocess.Popen(
            [*waypost, "discover", "pay", "--from", f"{url}?layout=kitex", "-w", "-o", "json"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(watch)
        assert watch.stdout is not None
        stay = subprocess.Popen(
            [*waypost, "register", "pay", *place, "--to", f"{url}?layout=kitex", "--stay", "--lease", "5s"], text=True
        )
        started.append(stay)
        came = json.loads(watch.stdout.readline())
        assert (came["event"], came["instance"], came["metadata"]) == ("add", "10.1.2.3:8080", {"version": "1"})
        stay.send_signal(signal.SIGTERM)
        assert stay.wait(60) == 0
        assert json.loads(watch.stdout.readline())["event"] == "delete"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 130
        watch.stdout.close()

        assert run("register", "pay", *place, "--to", url)[0] == 0
        eventually(lambda: run("discover", "pay", "--from", url)[0] == 0)
    finally:
        for process in started:
            process.kill()
            process.wait()
        server.kill()
