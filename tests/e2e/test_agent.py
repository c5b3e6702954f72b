"""The agent as it is deployed: a process on a unix socket, Kafka, the route job and Redis behind it."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, shell_lines
from tests.e2e.agent_process import AgentProcess, an_agent
from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import Tables, eventually
from tests.gateway.backends import Backend
from waypost.local.state import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NOBODY_LOOKS = {"check": {"none": {}}}


@pytest.fixture
def agent(stack: Stack, tmp_path: Path) -> Iterator[AgentProcess]:
    options = (f"--upstream={stack.kafka_bootstrap}", f"--redis={stack.redis_url}", "--node=n1", "--grace=1s")
    with an_agent(tmp_path, *options) as agent:
        yield agent


@pytest.fixture
def service() -> str:
    return f"agent-{uuid.uuid4().hex[:8]}"


def test_an_instance_beside_it_is_found_looked_after_and_let_go(
    agent: AgentProcess, service: str, tables: Tables
) -> None:
    a, b = Backend("a"), Backend("b")
    check = {"check": {"http": {"path": "/healthz", "interval": 0.2}}}
    try:
        for backend in (a, b):
            assert agent.register(service, backend.name, backend.port, **check).status_code == 200
        tables.wait_for(service, "a", "b")
        assert agent.registered(service, "a") == {
            "registered": True, "routable": True, "status": "UP", "reason": "up",
        }  # fmt: skip
        eventually(lambda: len(agent.http.get(f"/v1/services/{service}").json()["instances"]) == 2)
        assert {agent.through(service, "/x").text for _ in range(50)} == {"a GET /x 0", "b GET /x 0"}

        a.stop()
        # The caller does not wait for anybody's verdict.
        assert {agent.through(service, "/x").text for _ in range(10)} == {"b GET /x 0"}
        tables.wait_for(service, "b")
        assert agent.registered(service, "a")["reason"] == "health-failed"

        drained = agent.http.post(f"/v1/instances/{service}/b/drain", params={"readers": 60}).json()
        # The agent itself reads this table, and says what it has applied.
        assert (drained["stage"], drained["waiting"]) == ("DRAINING", [])
        tables.wait_for(service)
        assert agent.http.delete(f"/v1/instances/{service}/b").status_code == 200
        eventually(lambda: not agent.registered(service, "b")["registered"])
    finally:
        a.stop()
        b.stop()


def test_sigterm_drains_and_then_deregisters(agent: AgentProcess, service: str, tables: Tables) -> None:
    for n in range(3):
        agent.register(service, f"i-{n}", 8080 + n, **NOBODY_LOOKS)
    tables.wait_for(service, "i-0", "i-1", "i-2")

    assert agent.end() == 0

    tables.wait_for(service)
    eventually(lambda: tables.instance(service, "i-0").get("declared") in (None, "REMOVED"))
    assert not agent.socket.exists()


def test_the_instances_of_a_killed_agent_are_taken_over_by_the_next(
    agent: AgentProcess, service: str, log: LogWriter, tables: Tables
) -> None:
    for n in range(5):
        agent.register(service, f"i-{n}", 8080 + n, lease_seconds=8, **NOBODY_LOOKS)
    those = {f"i-{n}" for n in range(5)}
    tables.wait_for(service, *those)
    before = {id: tables.instance(service, id)["generation"] for id in those}

    agent.kill()
    agent.start()

    # Longer than the lease by several times: it is the new agent that beats.
    with log.beating(f"{service}-other"):
        eventually(lambda: _beats(agent) >= 5 * 8)
        eventually(lambda: {tables.instance(service, id)["reason"] for id in those} == {"up"})
    assert tables.ids(service) == those
    assert {id: tables.instance(service, id)["generation"] for id in those} == before, "nobody was registered again"


def test_the_instances_of_an_agent_that_stays_away_lapse(
    agent: AgentProcess, service: str, log: LogWriter, tables: Tables
) -> None:
    log.storm(f"{service}-fleet", services=5, instances=100)  # two are no part of the fleet to speak of
    log.register(service, "other", 9000)
    for n in range(2):
        agent.register(service, f"i-{n}", 8080 + n, lease_seconds=3, **NOBODY_LOOKS)
    tables.wait_for(service, "other", "i-0", "i-1")

    agent.kill()

    with log.beating("other"):
        tables.wait_for(service, "other")
    assert tables.instance(service, "i-0")["reason"] == "lease-lapsed"


def test_the_commands_of_its_page_do_what_they_say(agent: AgentProcess, service: str, tables: Tables) -> None:
    backend = Backend("a")
    lines = [line for line in shell_lines(ROOT / "docs" / "agent.md") if line.startswith("curl ")]
    shown = {True: [line for line in lines if " -X " not in line], False: [line for line in lines if " -X " in line]}

    def run(line: str) -> str:
        for said, meant in (
            ("/var/run/service.sock", str(agent.socket)), ("8080", str(backend.port)), ("payments", service),
        ):  # fmt: skip
            line = line.replace(said, meant)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    try:
        register, *others = shown[False]
        run(register)
        tables.wait_for(service, f"{service}-1")
        answers = [run(line) for line in shown[True]]
        assert answers[-1] == "a GET /orders/7 0"
        assert len(answers) == 6
        for line in others:
            run(line)
        tables.wait_for(service)
        assert agent.http.get("/v1/instances").json() == {"instances": []}
    finally:
        backend.stop()


def test_the_example_finds_itself_and_leaves(agent: AgentProcess, service: str, tables: Tables) -> None:
    main = Path(__file__).resolve().parents[2] / "examples" / "05-agent" / "main.py"
    example = subprocess.Popen(
        [sys.executable, str(main), str(agent.socket), service], stdout=subprocess.PIPE, text=True
    )
    try:
        assert example.stdout is not None
        assert [example.stdout.readline().strip() for _ in range(2)] == ["registered", "in the table"]
        (port,) = (port for _, port in tables.endpoints(service).values())
        assert example.stdout.readline().strip() == f"hello from port {port}"
        example.send_signal(signal.SIGTERM)
        assert example.stdout.readline().strip() == "deregistered"
        assert example.wait(60) == 0
        tables.wait_for(service)
    finally:
        example.kill()
        example.wait()
        if example.stdout is not None:
            example.stdout.close()


def _beats(agent: AgentProcess) -> float:
    line = next(
        line for line in agent.http.get("/metrics").text.splitlines() if line.startswith("waypost_agent_beats_total ")
    )
    return float(line.split()[1])
