"""The life of a service as a process: it registers by itself, leaves the table before the port, and ends well.

Orders and eventual states are asserted, never how long something takes.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition

import microservices
from tests.contracts.conftest import eventually
from waypost.topics import HEARTBEAT, REGISTRY, default_topics, ensure_topics

pytestmark = pytest.mark.e2e

EXAMPLES = Path(microservices.__file__).parents[1]
ROOT = EXAMPLES.parent
CEILING_S = 120.0
FOR_EVER = "3600"
NOWHERE = "127.0.0.1:1"


class Service:
    """One service in a process of its own, and what it has logged so far."""

    def __init__(self, command: list[str], **environ: str) -> None:
        self.instance = environ["INSTANCE_ID"]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{EXAMPLES}:{ROOT}", "PORT": "0", **environ},
        )
        self.lines: list[dict[str, Any]] = []
        self.errors = ""
        self._new: queue.Queue[str | None] = queue.Queue()
        self._readers = [threading.Thread(target=self._read_logs), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_logs(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(line)
        self._new.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def logged(self, event: str) -> dict[str, Any]:
        """Wait for the first line about `event`, which may have been logged already."""
        while True:
            for line in self.lines:
                if line["event"] == event:
                    return line
            text = self._new.get(timeout=CEILING_S)
            assert text is not None, f"it ended without {event}: {self.events()}\n{self.errors}"
            self.lines.append(json.loads(text))

    def ended(self) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(timeout=CEILING_S)
        while (text := self._new.get(timeout=CEILING_S)) is not None:
            self.lines.append(json.loads(text))
        return status

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.logged('serving')['port']}{path}", timeout=CEILING_S, trust_env=False)

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(*command: str, **environ: str) -> Service:
        named = {"INSTANCE_ID": f"i-{uuid.uuid4().hex[:8]}", **environ}
        if environ.get("WAYPOST_KAFKA_BOOTSTRAP") != NOWHERE:
            named.setdefault("KAFKA_TIMEOUT_SECONDS", str(int(CEILING_S)))
        services.append(Service(list(command), **named))
        return services[-1]

    yield start
    for service in services:
        service.close()


class LogReader:
    """What the log says of an instance: register, beat, drain, deregister."""

    def __init__(self, bootstrap: str) -> None:
        topics = default_topics()
        ensure_topics(bootstrap, [topics[REGISTRY], topics[HEARTBEAT]])
        self._registry = topics[REGISTRY].name
        self.consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
        names = (self._registry, topics[HEARTBEAT].name)
        partitions = [TopicPartition(name, p) for name in names for p in self.consumer.partitions_for_topic(name)]
        self.consumer.assign(partitions)
        self.consumer.seek_to_beginning(*partitions)
        self._seen: list[tuple[str, str, int]] = []

    def words(self, instance: str) -> list[str]:
        """Return the words about its registration so far, in order; they share a partition."""
        for partition, records in self.consumer.poll(timeout_ms=100).items():
            for record in records:
                if partition.topic == self._registry:
                    document = json.loads(record.value)
                    self._seen.append((document["instance"], document["op"], record.timestamp))
                else:
                    self._seen.append((record.key.decode(), "beat", record.timestamp))
        return [word for who, word, _ in self._seen if who == instance and word != "beat"]

    def beats(self, instance: str) -> int:
        self.words(instance)
        return sum((who, word) == (instance, "beat") for who, word, _ in self._seen)

    def at_ms(self, instance: str, word: str) -> int:
        return next(at for who, what, at in self._seen if (who, what) == (instance, word))

    def wait_for(self, instance: str, word: str) -> None:
        eventually(lambda: word in self.words(instance), within=CEILING_S)


@pytest.fixture
def log(kafka: str) -> Iterator[LogReader]:
    reader = LogReader(kafka)
    yield reader
    reader.consumer.close()


Start = Callable[..., Service]
SLOW_SERVICE = str(Path(__file__).with_name("slow_service.py"))


def test_it_registers_beats_and_on_sigterm_leaves_in_order(kafka: str, start: Start, log: LogReader) -> None:
    service = start(
        "-m", "microservices.provider", WAYPOST_KAFKA_BOOTSTRAP=kafka, LEASE_SECONDS="2", DRAIN_SECONDS="0.2"
    )
    eventually(lambda: log.beats(service.instance), within=CEILING_S)
    assert service.get("/data").status_code == 200

    service.tell(signal.SIGTERM)
    assert service.ended() == 0, service.errors

    log.wait_for(service.instance, "deregister")
    assert log.words(service.instance) == ["register", "drain", "deregister"]
    ours = [e for e in service.events() if e in ("serving", "signal", "draining", "drained", "stopping", "left")]
    assert ours == ["serving", "signal", "draining", "drained", "stopping", "left"]
    assert service.logged("drained")["acknowledged"]
    assert service.errors == ""
    assert {line["instance"] for line in service.lines} == {service.instance}
    assert {line["service"] for line in service.lines} == {"default/data-provider"}


def test_calls_during_the_drain_are_served_until_a_second_signal(kafka: str, start: Start, log: LogReader) -> None:
    service = start("-m", "microservices.provider", WAYPOST_KAFKA_BOOTSTRAP=kafka, DRAIN_SECONDS=FOR_EVER)
    log.wait_for(service.instance, "register")

    service.tell(signal.SIGTERM)
    log.wait_for(service.instance, "drain")

    assert [service.get("/data").status_code for _ in range(20)] == [200] * 20
    health = service.get("/health")
    assert (health.status_code, health.json()) == (503, {"status": "draining"})
    assert health.headers["connection"] == "close"
    assert service.process.poll() is None
    assert log.words(service.instance) == ["register", "drain"]

    service.tell(signal.SIGINT)
    assert service.ended() == 0, service.errors
    log.wait_for(service.instance, "deregister")
    assert log.words(service.instance) == ["register", "drain", "deregister"]
    with pytest.raises(httpx.ConnectError):
        service.get("/data")


def test_a_request_under_way_is_finished_and_deregistration_comes_last(
    kafka: str, start: Start, log: LogReader, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    service = start(SLOW_SERVICE, str(go), WAYPOST_KAFKA_BOOTSTRAP=kafka, DRAIN_SECONDS="0")
    log.wait_for(service.instance, "register")
    service.logged("serving")
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(service.get("/slow")))
    asking.start()
    service.logged("slow-entered")

    service.tell(signal.SIGTERM)
    service.logged("Shutting down")
    go.touch()
    asking.join(CEILING_S)

    assert service.ended() == 0, service.errors
    assert [(a.status_code, a.json()) for a in answers] == [(200, {"slow": True})]
    log.wait_for(service.instance, "deregister")
    drained, left = (log.at_ms(service.instance, word) for word in ("drain", "deregister"))
    assert drained <= service.logged("slow-answered")["at_ms"] <= left


def test_a_second_signal_does_not_wait_for_requests_under_way(
    kafka: str, start: Start, log: LogReader, tmp_path: Path
) -> None:
    service = start(SLOW_SERVICE, str(tmp_path / "never"), WAYPOST_KAFKA_BOOTSTRAP=kafka, DRAIN_SECONDS="0")
    log.wait_for(service.instance, "register")
    port = service.logged("serving")["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=CEILING_S) as caller:
        caller.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        service.logged("slow-entered")

        service.tell(signal.SIGTERM)
        service.logged("stopping")
        service.tell(signal.SIGTERM)

        assert service.ended() == 0, service.errors
    log.wait_for(service.instance, "deregister")
    assert "slow-answered" not in service.events()
    assert "left" in service.events()


def test_a_head_request_and_no_boasting_about_versions(start: Start) -> None:
    service = start("-m", "microservices.provider", WAYPOST_KAFKA_BOOTSTRAP=NOWHERE)
    port = service.logged("serving")["port"]

    answer = httpx.head(f"http://127.0.0.1:{port}/info", timeout=CEILING_S, trust_env=False)

    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
    assert "server" not in answer.headers


def test_without_kafka_it_serves_all_the_same_and_ends_well(start: Start) -> None:
    service = start("-m", "microservices.provider", WAYPOST_KAFKA_BOOTSTRAP=NOWHERE, DRAIN_SECONDS="0")
    assert service.get("/data").status_code == 200
    assert service.get("/health").json() == {"status": "healthy"}

    service.tell(signal.SIGTERM)

    assert service.ended() == 0, service.errors
    assert not service.logged("drained")["acknowledged"]
    assert service.events()[-1] == "left"


def test_the_consumer_lives_the_same_life_without_redis(kafka: str, start: Start, log: LogReader) -> None:
    service = start(
        "-m",
        "microservices.consumer",
        WAYPOST_KAFKA_BOOTSTRAP=kafka,
        WAYPOST_REDIS_URL=f"redis://{NOWHERE}/0",
        DRAIN_SECONDS="0",
    )
    log.wait_for(service.instance, "register")
    assert service.get("/fetch").status_code == 503
    assert service.get("/health").json() == {"status": "healthy", "routes": {"endpoints": 0, "stale": True}}

    service.tell(signal.SIGTERM)

    assert service.ended() == 0, service.errors
    log.wait_for(service.instance, "deregister")
    assert {line["service"] for line in service.lines} == {"default/data-consumer"}


@pytest.mark.parametrize("module", ["microservices.provider", "microservices.consumer"])
def test_a_bad_environment_ends_it_with_plain_words(module: str, start: Start) -> None:
    service = start("-m", module, WAYPOST_KAFKA_BOOTSTRAP=NOWHERE, WAYPOST_REDIS_URL="redis://x", LOG_LEVEL="loud")

    assert service.ended() == 2
    service.close()
    assert service.errors == "LOG_LEVEL must be one of debug, info, warning, error, critical, not 'loud'\n"


def test_a_taken_port_ends_it_with_plain_words(start: Start) -> None:
    first = start("-m", "microservices.provider", WAYPOST_KAFKA_BOOTSTRAP=NOWHERE)
    port = str(first.logged("serving")["port"])

    second = start("-m", "microservices.provider", WAYPOST_KAFKA_BOOTSTRAP=NOWHERE, PORT=port)

    assert second.ended() == 2
    second.close()
    assert second.errors == f"cannot listen on PORT {port}: Address already in use\n"
