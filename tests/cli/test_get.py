"""`waypost get` against a real server, as a person at a terminal and as a script sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from sinks.redis_routes import RedisRouteStore
from tests.contracts.conftest import Server, eventually, valkey_binary
from waypost.cli.get import get
from waypost.cli.output import TableWriter, age
from waypost.model.events import Attributes
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.health_window import WindowStats
from waypost.model.lifecycle import Declared, Health, Lease, is_routable
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp, Publication, digest
from waypost.model.service import InstanceView
from waypost.wire.endpoint import JsonRenderer, encode_endpoint

PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")
NOW_MS = time.time_ns() // 1_000_000
REVISION = NOW_MS * 1000
SINCE = NOW_MS - 109_200_000
"""30 h 20 min ago: shown as 30h however slow the machine is."""


class Registry:
    """A server and the writer of its tables."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client()
        self.client.flushall()
        self.store = RedisRouteStore(server.url, timeout=timedelta(seconds=5))
        opened = self.store.open(WriterId("a" * 32, 0), NOW_MS)
        assert isinstance(opened, Opened)
        self.epoch, self.revision = opened.epoch, REVISION

    def declare(
        self, service: ServiceKey, instance: str, port: int, *, lease: Lease = Lease.LIVE, held: bool = False,
        protected: bool = False, effective: int | None = None, **attributes: Any,
    ) -> None:  # fmt: skip
        fields = Attributes(address="10.1.2.3", port=port, **attributes)
        facts = (Declared.UP, Health.UNKNOWN, lease)
        view = InstanceView(fields, "agent", *facts, generation=SINCE, weight=effective or fields.weight)
        route = encode_endpoint(view.routed, since=SINCE, held=held) if is_routable(*facts, held=held) else None
        self.publish(
            service, ChangeOp.DELTA, {instance: route}, {instance: JsonRenderer().instance(view, NOW_MS)}, protected
        )

    def publish(
        self, service: ServiceKey, op: ChangeOp, routes: dict[str, str | None], instances: dict[str, str | None],
        protected: bool = False,
    ) -> None:  # fmt: skip
        stored = self.store.meta(service)
        self.revision += 1
        publication = Publication(
            service=service, op=op, base=stored.revision if stored else 0, revision=self.revision,
            event_time=NOW_MS - 5_000, routes=routes, instances=instances, digest=digest({}), endpoints=len(routes),
            rule="register", protected=protected,
        )  # fmt: skip
        assert self.store.publish(publication, self.epoch, NOW_MS) == Written()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def registry(server: Server) -> Iterator[Registry]:
    registry = Registry(server)
    yield registry
    registry.store.close()
    registry.client.close()


def run(registry: Registry, *arguments: str) -> Result:
    return CliRunner().invoke(get, [*arguments, "--redis", registry.server.url], prog_name="waypost get")


def words(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_routes_of_a_service_as_a_table(registry: Registry) -> None:
    registry.declare(PAY, "payments-1", 8080, zone="a", weight=50)
    registry.declare(PAY, "payments-22", 80, lease=Lease.LAPSED, held=True)
    registry.declare(PAY, "payments-gone", 81, lease=Lease.LAPSED)

    result = run(registry, "routes", "payments")

    assert result.exit_code == 0, result.output
    assert words(result.output) == [
        ["INSTANCE", "ADDRESS", "WEIGHT", "ZONE", "HELD", "AGE"],
        ["payments-1", "10.1.2.3:8080", "50", "a", "no", "30h"],
        ["payments-22", "10.1.2.3:80", "100", "<none>", "yes", "30h"],
    ]
    starts = [line.index("10.1.2.3") for line in result.output.splitlines()[1:]]
    assert starts == [result.output.index("ADDRESS")] * 2


def test_a_weight_that_follows_the_load_is_shown_with_the_declared_one(registry: Registry) -> None:
    registry.declare(PAY, "busy", 8080, effective=40)
    registry.declare(PAY, "calm", 80)

    wide = run(registry, "routes", "payments", "-o", "wide").output
    document = json.loads(run(registry, "routes", "payments", "-o", "json").output)

    header, busy, calm = wide.splitlines()
    column = header.index("DECLARED WEIGHT")
    assert busy[column:].startswith("100 → 40 ")
    assert calm[column:].startswith("100 ")
    assert [e.get("declared_weight") for e in document["endpoints"]] == [100, None]
    assert [e["weight"] for e in document["endpoints"]] == [40, 100]


def test_services_show_what_their_last_window_said(registry: Registry) -> None:
    registry.declare(PAY, "payments-1", 8080)
    registry.declare(CART, "cart-1", 8080)
    stats = WindowStats(
        start=0, end=60_000, beats=6, late=0, instances=3, healthy=3, cpu_mean=437, cpu_max=1_050, lag_max_ms=None,
        drift=1,
    )  # fmt: skip
    assert registry.store.refresh(PAY, stats, registry.epoch) == Written()

    wide = words(run(registry, "services", "-A", "-o", "wide").output)
    document = json.loads(run(registry, "services", "payments", "-o", "json").output)

    assert wide[0][-3:] == ["BEATING", "CPU", "DRIFT"]
    assert {row[1]: row[-3:] for row in wide[1:]} == {
        "payments": ["3", "0.437", "1"],
        "cart": ["<none>", "<none>", "<none>"],
    }
    assert document["window"]["cpu_max"] == "1.050"


def test_routes_of_a_service_as_json_are_the_contract(registry: Registry) -> None:
    registry.declare(PAY, "b", 8080, zone="a", node="n1", metadata={"version": "2.1"}, protected=True)
    registry.declare(PAY, "a", 80, protected=True)

    document = json.loads(run(registry, "routes", "payments", "-o", "json").output)

    assert document == {
        "namespace": "default",
        "service": "payments",
        "revision": REVISION + 2,
        "protected": True,
        "endpoints": [
            {"instance": "a", "address": "10.1.2.3", "port": 80, "weight": 100, "zone": "", "node": "",
             "metadata": {}, "since": SINCE, "held": False},
            {"instance": "b", "address": "10.1.2.3", "port": 8080, "weight": 100, "zone": "a", "node": "n1",
             "metadata": {"version": "2.1"}, "since": SINCE, "held": False},
        ],
    }  # fmt: skip
    assert yaml.safe_load(run(registry, "routes", "payments", "-o", "yaml").output) == document


def test_instances_say_why_they_are_not_in_the_table(registry: Registry) -> None:
    registry.declare(PAY, "up", 1)
    registry.declare(PAY, "dead", 2, lease=Lease.LAPSED)

    assert words(run(registry, "instances", "payments").output) == [
        ["INSTANCE", "STATUS", "REASON", "LEASE", "HEALTH", "AGE"],
        ["dead", "DOWN", "lease-lapsed", "lapsed", "unknown", "30h"],
        ["up", "UP", "up", "live", "unknown", "30h"],
    ]
    wide = run(registry, "instances", "payments", "-o", "wide").output
    assert "LEASE SECONDS" in wide
    document = json.loads(run(registry, "instances", "payments", "-o", "json").output)
    assert [(i["instance"], i["reason"]) for i in document["instances"]] == [("dead", "lease-lapsed"), ("up", "up")]


def test_namespaces_are_kept_apart(registry: Registry) -> None:
    registry.declare(PAY, "p", 1)
    registry.declare(CART, "c", 2, lease=Lease.LAPSED)

    assert [row[:3] for row in words(run(registry, "services").output)] == [
        ["NAME", "ROUTABLE", "PROTECTED"],
        ["payments", "1/1", "no"],
    ]
    assert [row[0] for row in words(run(registry, "services", "-n", "shop").output)] == ["NAME", "cart"]
    assert [row[:3] for row in words(run(registry, "services", "-A").output)] == [
        ["NAMESPACE", "NAME", "ROUTABLE"],
        ["default", "payments", "1/1"],
        ["shop", "cart", "0/1"],
    ]
    items = json.loads(run(registry, "services", "-A", "-o", "json").output)["items"]
    assert [(i["namespace"], i["service"], i["endpoints"], i["instances"]) for i in items] == [
        ("default", "payments", 1, 1),
        ("shop", "cart", 0, 1),
    ]
    routes = run(registry, "routes", "-A").output
    assert words(routes)[0][:3] == ["NAMESPACE", "SERVICE", "INSTANCE"]


@pytest.mark.parametrize("kind", ["services", "routes", "instances"])
def test_nothing_is_told_on_stderr_and_is_no_failure(registry: Registry, kind: str) -> None:
    result = run(registry, kind)

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No resources found in default namespace.\n"
    assert run(registry, kind, "-A").stderr == "No resources found.\n"
    assert json.loads(run(registry, kind, "-o", "json").stdout) == {"items": []}


@pytest.mark.parametrize("kind", ["services", "routes", "instances"])
@pytest.mark.parametrize("options", [(), ("-o", "json"), ("-w",)])
def test_a_named_service_that_does_not_exist_is_a_failure(
    registry: Registry, kind: str, options: tuple[str, ...]
) -> None:
    registry.declare(CART, "c", 1)

    result = run(registry, kind, "cart", *options)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'Error: service "cart" not found in namespace "default"\n'


def test_a_service_without_endpoints_exists(registry: Registry) -> None:
    registry.declare(PAY, "dead", 1, lease=Lease.LAPSED)

    result = run(registry, "routes", "payments", "-o", "json")

    assert (result.exit_code, json.loads(result.output)["endpoints"]) == (0, [])
    assert run(registry, "routes", "payments").exit_code == 0


def test_names_that_cannot_be_are_misunderstandings(registry: Registry) -> None:
    assert run(registry, "routes", "Not_A_Name").exit_code == 2
    assert run(registry, "routes", "-n", "a/b").exit_code == 2
    assert run(registry, "routes", "-o", "xml").exit_code == 2


def test_no_registry_is_told_and_fails(tmp_path: Path) -> None:
    away = Server(valkey_binary(), tmp_path)
    environment = {**os.environ, "WAYPOST_REDIS_URL": away.url}

    result = subprocess.run([*COMMAND, "routes"], env=environment, capture_output=True, text=True, timeout=60)

    assert result.returncode == 1
    assert "cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr


MAIN = """
import sys
from waypost.cli.get import get
from waypost.errors import WaypostError
try:
    get()
except WaypostError as error:
    sys.exit(f"Error: {error}")
"""
COMMAND = [sys.executable, "-c", MAIN]


class Watching:
    """The command as a process of its own, with what it printed so far."""

    def __init__(self, registry: Registry, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, *arguments, "-w", "--redis", registry.server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        os.set_blocking(self._process.stderr.fileno(), False)
        self.out = self.err = ""

    def lines(self) -> list[str]:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.out += (self._process.stdout.read() or b"").decode()
        self.err += (self._process.stderr.read() or b"").decode()
        return self.out.splitlines()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(20)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.close()
        self._process.stderr.close()
        return status


def test_watching_prints_rows_as_they_come_change_and_go(registry: Registry) -> None:
    registry.declare(PAY, "a", 1)
    watching = Watching(registry, "routes", "payments")
    eventually(lambda: len(watching.lines()) == 2)

    registry.declare(PAY, "b", 2)
    eventually(lambda: len(watching.lines()) == 3)
    registry.declare(PAY, "a", 3)
    eventually(lambda: len(watching.lines()) == 4)
    registry.declare(CART, "x", 9)
    registry.publish(PAY, ChangeOp.REMOVED, {}, {})
    eventually(lambda: len(watching.lines()) == 6)

    assert watching.stop() == 130
    assert [row[:3] for row in words(watching.out)] == [
        ["EVENT", "INSTANCE", "ADDRESS"],
        ["ADDED", "a", "10.1.2.3:1"],
        ["ADDED", "b", "10.1.2.3:2"],
        ["MODIFIED", "a", "10.1.2.3:3"],
        ["DELETED", "a", "10.1.2.3:3"],
        ["DELETED", "b", "10.1.2.3:2"],
    ]
    assert watching.err == ""


def test_watching_as_json_prints_one_whole_document_a_line(registry: Registry) -> None:
    registry.declare(PAY, "a", 1)
    watching = Watching(registry, "routes", "-o", "json")
    eventually(lambda: len(watching.lines()) == 1)
    registry.declare(PAY, "b", 2)
    registry.declare(CART, "elsewhere", 3)
    registry.declare(PAY, "b", 4)

    eventually(lambda: f'"revision": {registry.revision}' in "".join(watching.lines()))

    assert watching.stop() == 130
    documents = [json.loads(line) for line in watching.out.splitlines()]
    assert [e["port"] for e in documents[0]["endpoints"]] == [1]
    assert [e["port"] for e in documents[-1]["endpoints"]] == [1, 4]
    assert {d["service"] for d in documents} == {"payments"}


def test_watching_begins_with_nothing_when_there_is_nothing(registry: Registry) -> None:
    watching = Watching(registry, "routes", "-o", "json")
    eventually(lambda: watching.lines() or "No resources found in default namespace." in watching.err)

    registry.declare(PAY, "a", 1)
    eventually(lambda: len(watching.lines()) == 1)

    assert watching.stop() == 130
    assert json.loads(watching.out)["endpoints"][0]["instance"] == "a"


def test_watching_survives_a_restart_of_the_registry(registry: Registry, tmp_path: Path) -> None:
    own = Server(valkey_binary(), tmp_path)
    own.start()
    other = Registry(own)
    other.declare(PAY, "a", 1)
    watching = Watching(other, "routes", "payments")
    eventually(lambda: len(watching.lines()) == 2)

    own.kill()
    eventually(lambda: watching.lines() and "cannot be reached" in watching.err)
    own.start()
    other = Registry(own)
    other.declare(PAY, "a", 1)
    other.declare(PAY, "b", 2)
    eventually(lambda: "b" in [row[1] for row in words("\n".join(watching.lines()))])

    assert watching.stop() == 130
    own.kill()


def test_what_producers_wrote_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    table = TableWriter(("A", "B"))

    table.write([("x\x1b[2J\n", "中文")])
    table.write([("a longer cell than before", "y")])

    assert capsys.readouterr().out.splitlines() == [
        "A            B",
        "x\\x1b[2J\\n   中文",
        "a longer cell than before   y",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (3_600, "60m"), (4 * 3_600, "4h"), (15_000, "4h10m"),
     (30 * 3_600, "30h"), (50 * 3_600, "2d"), (-5, "0s")],
)  # fmt: skip
def test_ages_are_spelled_as_kubectl_does(seconds: int, text: str) -> None:
    assert age(NOW_MS - seconds * 1000, NOW_MS) == text
    assert age(0, NOW_MS) == "<unknown>"
