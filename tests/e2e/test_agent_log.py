"""An agent and a real broker, which goes away: nothing is lost, nothing piles up, and it stays small."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import orjson
import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.e2e.agent_process import an_agent
from tests.e2e.tables import eventually
from tests.gateway.backends import Backend
from tests.gateway.tables import TableWriter, an_endpoint
from waypost.local import jars
from waypost.local.java import java_home
from waypost.local.kafka import Kafka
from waypost.local.ports import free_ports
from waypost.local.process import ProcessId, end, spawn
from waypost.model.names import ServiceKey
from waypost.topics import HEARTBEAT, REGISTRY, default_topics, ensure_topics

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NOBODY_LOOKS = {"check": {"none": {}}}
MOST_MIB = 64.0 + (16.0 if find_spec("cryptography") else 0.0)
"""redis-py loads all of cryptography where that is installed, as it is for the tests on Kubernetes."""


class Broker:
    """One of the test's own, so that it may be killed."""

    def __init__(self, directory: Path) -> None:
        port, controller_port = free_ports([None, None])
        self._directory = directory
        self._server = Kafka(
            directory=directory, jars=jars.kafka_jars(), java_home=java_home(), port=port,
            controller_port=controller_port,
        )  # fmt: skip
        self._server.prepare()
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = self._server.bootstrap

    def start(self) -> None:
        self._process = spawn(self._server.command(), state_dir=self._directory, log=self._directory / "kafka.out")
        eventually(self._server.is_healthy)

    def kill(self) -> None:
        if self._process is not None:
            identity = ProcessId.of(self._process.pid)
            if identity is not None:
                end([identity], grace=0.0)
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    try:
        broker.start()
        topics = default_topics()
        ensure_topics(broker.bootstrap, [topics[REGISTRY], topics[HEARTBEAT]])
        yield broker
    finally:
        broker.kill()


def records(broker: Broker, topic: str) -> list[tuple[bytes, bytes]]:
    """Return everything on a topic."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=None)
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(p) < ends[p] for p in partitions):
            for some in consumer.poll(timeout_ms=500).values():
                found += [(record.key, record.value) for record in some]
        return found
    finally:
        consumer.close()


def words(broker: Broker, instance: str) -> list[str]:
    docs = [orjson.loads(value) for _, value in records(broker, default_topics()[REGISTRY].name)]
    return [doc["op"] for doc in docs if doc["instance"] == instance]


def test_it_outlives_an_outage_of_kafka(broker: Broker, tmp_path: Path) -> None:
    with an_agent(tmp_path, f"--upstream={broker.bootstrap}", "--node=n1", "--grace=1s") as agent:
        assert agent.register("pay", "before", 80, **NOBODY_LOOKS).status_code == 200
        assert agent.http.get("/v1/services").status_code == 501

        broker.kill()
        noted = agent.http.put(
            "/v1/instances/pay/during", params={"wait": 0}, json={"address": "10.0.0.1", "port": 80, **NOBODY_LOOKS}
        )
        assert noted.status_code == 202
        for _ in range(20):
            agent.http.post("/v1/instances/pay/before/drain", params={"wait": 0})
            agent.http.put(
                "/v1/instances/pay/before", params={"wait": 0}, json={"address": "10.0.0.1", "port": 81, **NOBODY_LOOKS}
            )
        eventually(lambda: agent.http.get("/readyz").status_code == 503)
        broker.start()

        eventually(lambda: agent.instance("pay", "during")["told"] and agent.instance("pay", "before")["told"])
        eventually(lambda: agent.http.get("/readyz").status_code == 200)
        assert set(words(broker, "during")) == {"register"}
        # The word of before, the last one of during, and what was being tried when it changed.
        assert set(words(broker, "before")) <= {"register", "drain"}
        assert words(broker, "before")[-1] == "register"
        assert len(words(broker, "before")) < 10

        assert agent.end() == 0
        assert words(broker, "before")[-2:] == ["drain", "deregister"]
        assert words(broker, "during")[-2:] == ["drain", "deregister"]


def test_without_kafka_it_ends_all_the_same(tmp_path: Path) -> None:
    with an_agent(tmp_path, "--upstream=127.0.0.1:1", "--grace=1s") as agent:
        agent.http.put(
            "/v1/instances/pay/p-1", params={"wait": 0}, json={"address": "10.0.0.1", "port": 80, **NOBODY_LOOKS}
        )
        assert agent.end() == 0
        assert "ended without Kafka" in agent.log()


def test_it_ends_also_while_somebody_watches_and_serves_the_proxy_on_a_port(valkey: str, tmp_path: Path) -> None:
    [port] = free_ports([None])
    service, backend = f"svc-{uuid.uuid4().hex[:8]}", Backend("a")
    writer = TableWriter(valkey)
    try:
        writer.publish(ServiceKey("default", service), {"i-1": an_endpoint(backend.port)})
        options = ("--upstream=127.0.0.1:1", f"--redis={valkey}", f"--proxy=127.0.0.1:{port}", "--grace=0s")
        with an_agent(tmp_path, *options) as agent, agent.http.stream("GET", f"/v1/services/{service}/watch") as watch:
            lines = watch.iter_lines()
            assert next(lines) == "event: snapshot"
            assert [i["instance"] for i in orjson.loads(next(lines).removeprefix("data: "))["instances"]] == ["i-1"]
            with httpx.Client(proxy=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
                assert client.get(f"http://{service}.waypost/x?y=1").text == "a GET /x?y=1 0"
                # Orders are taken on the socket alone.
                assert client.get("http://agent/v1/instances").status_code == 421
            assert agent.end() == 0
            assert "event: add" not in list(lines)
    finally:
        writer.close()
        backend.stop()


def test_a_second_agent_on_the_same_socket_is_refused(tmp_path: Path) -> None:
    with an_agent(tmp_path, "--upstream=127.0.0.1:1") as agent:
        command = [sys.executable, "-m", "waypost", "agent", "--upstream=127.0.0.1:1"]
        refused = subprocess.run(
            [*command, f"--service-registry={agent.socket}"], capture_output=True, text=True, check=False, timeout=120
        )
        assert refused.returncode == 1
        assert "another agent is running" in refused.stderr
        assert agent.http.get("/healthz").status_code == 200


# kafka-python does not close the sockets of attempts that it gave up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hundred_instances_beat_in_few_records_and_little_memory(broker: Broker, tmp_path: Path) -> None:
    with an_agent(tmp_path, f"--upstream={broker.bootstrap}", "--node=n1", "--keep") as agent:
        for n in range(100):
            agent.register(f"svc-{n % 10}", f"pod-{n}", 8080, lease_seconds=6, **NOBODY_LOOKS)

        def whole() -> list[list[str]]:
            """Return the records that speak for all of them; while they register, some are beaten for before others."""
            values = [orjson.loads(value) for _, value in records(broker, default_topics()[HEARTBEAT].name)]
            found = [[beat["instance"] for beat in doc["beats"]] for doc in values if "beats" in doc]
            return [beats for beats in found if len(beats) == 100]

        eventually(lambda: len(whole()) >= 2)
        assert set(whole()[-1]) == {f"pod-{n}" for n in range(100)}
        resident = agent.resident_mib()
        print(f"resident with 100 instances: {resident:.1f} MiB")
        assert resident < MOST_MIB

        os.kill(agent.pid, signal.SIGTERM)
        eventually(lambda: not agent.socket.exists())
    said = [orjson.loads(value)["op"] for _, value in records(broker, default_topics()[REGISTRY].name)]
    assert set(said) == {"register"}
    assert len(said) >= 100
