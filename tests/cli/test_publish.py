"""The commands that write one event: what they send, what they say, and how they end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from waypost.cli import publish
from waypost.client.event_sink import MemorySink
from waypost.errors import RegistryUnavailable
from waypost.model.events import Attributes, InstanceEvent, Op
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp
from waypost.wire.registry import decode_registration

NOW = Stamp(4_000_000_000_000)
COMMANDS = {command.name: command for command in publish.commands}
PLACE = ["--instance", "payments-1", "--address", "10.1.2.3", "--port", "8080"]
REMOTE = ["--kafka", "kafka:9092", "--redis", "redis://redis"]


class FakeWaiter:
    """Answers every request; opened before anything is sent, or the test fails."""

    def __init__(self, sink: MemorySink, answer: Any, waits: list[float]) -> None:
        self.waits = waits
        assert not sink.records, "the answer could be missed"
        self._sink = sink
        self._answer = answer
        self.closed = False

    def wait(self, request_id: str, timeout_s: float) -> Any:
        self.waits.append(timeout_s)
        (record,) = self._sink.records
        assert request_id in record.value.decode()
        return self._answer

    def __enter__(self) -> FakeWaiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Registry:
    """Fakes of everything the commands talk to."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.answer: Any = SimpleNamespace(applied=True, reason="applied", revision=1795298407272000)
        self.opened: list[str] = []
        self.waits: list[float] = []

    def open_sink(self, bootstrap: str, timeout_s: int) -> MemorySink:
        self.waits.append(timeout_s)
        self.opened.append(bootstrap)
        return self.sink

    def open_waiter(self, redis_url: str) -> FakeWaiter:
        self.opened.append(redis_url)
        return FakeWaiter(self.sink, self.answer, self.waits)

    def event(self) -> InstanceEvent:
        (record,) = self.sink.records
        event = decode_registration(record.value, NOW)
        assert isinstance(event, InstanceEvent)
        return event


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    registry = Registry()
    monkeypatch.setattr(publish, "open_sink", registry.open_sink)
    monkeypatch.setattr(publish, "open_waiter", registry.open_waiter)
    monkeypatch.chdir(tmp_path)
    for name in ("WAYPOST_KAFKA_BOOTSTRAP", "WAYPOST_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return registry


def run(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(COMMANDS[command], list(arguments))


def test_register_sends_what_was_said_and_waits_for_the_answer(registry: Registry) -> None:
    result = run(
        "register", "payments", *PLACE, *REMOTE, "-n", "shop", "--lease", "2m", "--weight", "50", "--zone", "a",
        "--node", "n1", "--metadata", "version=2.1", "--metadata", "query=a=b",
    )  # fmt: skip

    assert result.output == "payments/payments-1 registered (revision 1795298407272000)\n"
    assert result.exit_code == 0
    event = registry.event()
    assert (event.op, event.service, event.source) == (Op.REGISTER, ServiceKey("shop", "payments"), "cli")
    assert event.attributes == Attributes(
        address="10.1.2.3", port=8080, weight=50, zone="a", node="n1",
        metadata={"version": "2.1", "query": "a=b"}, lease_seconds=120,
    )  # fmt: skip
    assert registry.opened == ["redis://redis", "kafka:9092"]
    assert registry.sink.closed


@pytest.mark.parametrize(
    ("command", "op", "done"), [("drain", Op.DRAIN, "draining"), ("deregister", Op.DEREGISTER, "deregistered")]
)
def test_drain_and_deregister_name_the_instance(registry: Registry, command: str, op: Op, done: str) -> None:
    result = run(command, "payments", "--instance", "payments-1", *REMOTE)

    assert result.output.startswith(f"payments/payments-1 {done} (revision ")
    assert registry.event().op is op


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["payments", "--instance", "p 1", "--address", "10.1.2.3", "--port", "80"], "bad-instance-id"),
        (["Payments", *PLACE], "bad-service"),
        (["payments", *PLACE, "-n", "a/b"], "bad-namespace"),
        (["payments", *PLACE, "--port", "0"], "port-out-of-range"),
        (["payments", *PLACE, "--address", "0.0.0.0"], "bad-address"),
        (["payments", *PLACE, "--lease", "1s"], "lease-out-of-bounds"),
        (["payments", *PLACE, "--lease", "90"], "write 30s, 2m or 1h"),
        (["payments", *PLACE, "--metadata", "version"], "key=value"),
        (["payments", *PLACE, "--weight", "-1"], "weight-out-of-range"),
        (["payments", *PLACE, "--zone", "a\tb"], "control-character"),
    ],
)
def test_a_mistake_is_told_before_anything_is_connected(registry: Registry, arguments: list[str], reason: str) -> None:
    result = run("register", *arguments)

    assert result.exit_code == 2
    assert reason in result.output
    assert registry.opened == []


def test_a_refused_event_ends_with_status_1_and_the_reason(registry: Registry) -> None:
    registry.answer = SimpleNamespace(applied=False, reason="unknown-instance", revision=7)

    result = run("drain", "payments", "--instance", "payments-1", *REMOTE)

    assert result.exit_code == 1
    assert "payments/payments-1 not draining: unknown-instance" in result.output


@pytest.mark.parametrize(("said", "seconds"), [((), 5), (("--timeout", "2m"), 120)])
def test_no_answer_in_time_says_that_the_event_is_on_the_log(
    registry: Registry, said: tuple[str, ...], seconds: int
) -> None:
    registry.answer = None

    result = run("drain", "payments", "--instance", "payments-1", *said, *REMOTE)

    assert result.exit_code == 1
    assert f"written to the log, but the route job did not answer within {seconds} s" in result.output
    assert registry.waits == [seconds, seconds]


def test_no_wait_needs_no_redis_and_gives_the_request_id(registry: Registry) -> None:
    result = run("register", "payments", *PLACE, "--kafka", "kafka:9092", "--no-wait")

    assert result.exit_code == 0
    assert registry.event().request_id in result.output
    assert registry.opened == ["kafka:9092"]


def test_a_kafka_without_redis_is_written_to_and_said_not_to_be_waited_for(registry: Registry) -> None:
    result = run("register", "payments", *PLACE, "--kafka", "kafka:9092")

    assert result.exit_code == 0
    assert "not waiting for the answer" in result.output
    assert registry.event().instance == "payments-1"


def test_without_addresses_and_without_a_stack_the_way_out_is_told(registry: Registry) -> None:
    result = run("register", "payments", *PLACE)

    assert result.exit_code == 1
    assert "--kafka" in result.output
    assert registry.sink.records == []


def test_addresses_come_from_the_running_stack(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = SimpleNamespace(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:2")
    monkeypatch.setattr(publish, "running_stack", lambda _: stack)
    monkeypatch.setattr("waypost.cli.options.running_stack", lambda _: stack)

    result = run("register", "payments", *PLACE)

    assert result.exit_code == 0
    assert registry.opened == ["redis://127.0.0.1:2", "127.0.0.1:1"]


def test_the_local_redis_is_not_asked_about_a_kafka_elsewhere(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = SimpleNamespace(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:2")
    monkeypatch.setattr(publish, "running_stack", lambda _: stack)

    run("register", "payments", *PLACE, "--kafka", "kafka:9092")

    assert registry.opened == ["kafka:9092"]


def test_an_unreachable_registry_is_one_line(registry: Registry) -> None:
    registry.sink.failure = RegistryUnavailable("Kafka at kafka:9092 did not acknowledge")

    result = run("register", "payments", *PLACE, *REMOTE)

    assert result.exit_code == 1
    assert result.output == "Error: Kafka at kafka:9092 did not acknowledge\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert f"waypost {command} payments --instance payments-1" in result.output
