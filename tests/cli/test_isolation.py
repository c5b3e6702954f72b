"""`waypost isolate | release` against a real server of tables and a log in memory."""

from __future__ import annotations

import time
from collections.abc import Set
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_get import CART, NOW_MS, PAY, Registry, registry, server  # noqa: F401 (fixtures)
from tests.cli.test_get import run as get
from waypost.cli import isolation, publish
from waypost.client.answers import Answered
from waypost.client.event_sink import MemorySink
from waypost.model.events import Attributes
from waypost.model.isolation import Isolation, Verb
from waypost.model.lifecycle import Declared, Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp
from waypost.model.service import InstanceView
from waypost.model.stamp import Stamp
from waypost.wire.endpoint import JsonRenderer
from waypost.wire.isolation import decode_isolation

COMMANDS = {command.name: command for command in isolation.commands}
WHY = ["--for", "10m", "--because", "answers slowly"]


class Log:
    """What the commands write, and who answers what."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.answers: dict[ServiceKey, Answered] = {}
        self.awaited: set[ServiceKey] = set()

    def applied(self, *services: ServiceKey) -> None:
        self.answers.update({s: Answered(True, "applied", 7, s) for s in services})

    def refused(self, service: ServiceKey, reason: str) -> None:
        self.answers[service] = Answered(False, reason, 7, service)

    def open_waiter(self, redis_url: str) -> Any:
        assert not self.sink.records, "the answer could be missed"
        return self

    def wait_for_all(self, request_id: str, services: Set[ServiceKey], timeout_s: float) -> dict[ServiceKey, Answered]:
        assert request_id == self.word().request_id
        self.awaited = set(services)
        return dict(self.answers)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None: ...

    def word(self) -> Isolation:
        (record,) = self.sink.records
        assert record.topic == "service-isolation"
        return decode_isolation(record.value, Stamp(time.time_ns() // 1_000_000 - 1_000, 0, 0))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(publish, "open_sink", lambda bootstrap, timeout_s: log.sink)
    monkeypatch.setattr(publish, "open_waiter", log.open_waiter)
    monkeypatch.setattr("getpass.getuser", lambda: "anna x")
    return log


def run(registry: Registry, command: str, *arguments: str) -> Result:  # noqa: F811
    where = ("--kafka", "kafka:9092", "--redis", registry.server.url)
    return CliRunner().invoke(COMMANDS[command], [*arguments, *where], prog_name=f"waypost {command}")


def test_an_instance_is_isolated_for_a_time_with_a_cause(registry: Registry, log: Log) -> None:  # noqa: F811
    log.applied(PAY)

    result = run(registry, "isolate", "payments/p-1", *WHY)

    word = log.word()
    assert result.exit_code == 0, result.output
    assert result.output.startswith("payments/p-1 isolated until 20")
    assert result.output.endswith("Z (revision 7)\n")
    assert (word.verb, word.service, word.instance, word.cause) == (Verb.ISOLATE, PAY, "p-1", "answers slowly")
    assert word.by == "operator:anna-x"
    assert abs(word.expires_at - time.time_ns() // 1_000_000 - 600_000) < 60_000
    assert log.sink.records[0].key == b"default/payments"
    assert log.sink.closed


@pytest.mark.parametrize("arguments", [["cart/c-1", "-n", "shop"], ["shop/cart/c-1"]])
def test_a_namespace_can_be_said_in_two_ways(registry: Registry, log: Log, arguments: list[str]) -> None:  # noqa: F811
    log.applied(CART)

    assert run(registry, "release", *arguments).exit_code == 0
    assert (log.word().service, log.word().verb, log.word().expires_at) == (CART, Verb.RELEASE, 0)


def test_every_service_of_a_node_answers_for_it(registry: Registry, log: Log) -> None:  # noqa: F811
    registry.declare(PAY, "p-1", 80, node="n1")
    registry.declare(PAY, "p-2", 80, node="n2")
    registry.declare(CART, "c-1", 80, node="n1", lease=Lease.LAPSED)
    registry.declare(ServiceKey("default", "elsewhere"), "e-1", 80, node="n2")
    log.applied(PAY, CART)

    result = run(registry, "isolate", "node/n1", *WHY, "--by", "oncall@example.org")

    assert result.exit_code == 0, result.output
    assert log.awaited == {PAY, CART}
    assert [line.split(" isolated")[0] for line in result.output.splitlines()] == [
        "default/payments on node/n1",
        "shop/cart on node/n1",
    ]
    assert (log.word().node, log.word().service, log.word().by) == ("n1", None, "oncall@example.org")
    assert log.sink.records[0].key == b"node/n1"


def test_one_service_that_does_not_answer_or_refuses_is_a_failure(registry: Registry, log: Log) -> None:  # noqa: F811
    registry.declare(PAY, "p-1", 80, node="n1")
    registry.declare(CART, "c-1", 80, node="n1")
    log.refused(PAY, "not-isolated")

    result = run(registry, "release", "node/n1")

    assert result.exit_code == 1
    assert "default/payments on node/n1 not released: not-isolated (nothing keeps it out" in result.output
    assert "shop/cart on node/n1: written to the log, but the route job did not answer" in result.output


def test_a_node_on_which_nobody_is_waits_for_nobody(registry: Registry, log: Log) -> None:  # noqa: F811
    registry.declare(PAY, "p-1", 80, node="n1")

    result = run(registry, "isolate", "node/n9", *WHY)

    assert result.exit_code == 0
    assert "(nothing is registered there now)" in result.output
    assert log.word().node == "n9"


def test_an_instance_that_is_not_registered_is_told(registry: Registry, log: Log) -> None:  # noqa: F811
    log.refused(PAY, "unknown-instance")

    result = run(registry, "isolate", "payments/typo", *WHY)

    assert result.exit_code == 1
    assert "payments/typo not isolated: unknown-instance (it is not registered" in result.output


def test_without_waiting_it_says_that_nothing_is_confirmed(registry: Registry, log: Log) -> None:  # noqa: F811
    result = run(registry, "isolate", "node/n1", *WHY, "--no-wait")

    assert result.exit_code == 0
    assert f"(request {log.word().request_id}, not confirmed)" in result.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["payments", *WHY], "neither service/instance nor node/name"),
        (["node/", *WHY], "neither service/instance nor node/name"),
        (["a/b/c/d", *WHY], "neither service/instance nor node/name"),
        (["node/*", *WHY], "bad-node"),
        (["Payments/p-1", *WHY], "bad-service"),
        (["node/n1", "--for", "169h", "--because", "x"], "expiry-too-far"),
        (["node/n1", "--for", "0s", "--because", "x"], "expired"),
        (["node/n1", "--for", "10", "--because", "x"], "is not a duration"),
        (["node/n1", "--for", "10m"], "--because"),
        (["node/n1", "--because", "x"], "--for"),
        (["node/n1", *WHY, "--by", "repair"], "say who decides"),
        (["node/n1", *WHY, "--by", "a b"], "bad-by"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_written(
    registry: Registry,  # noqa: F811
    log: Log,
    arguments: list[str],
    why: str,
) -> None:
    result = run(registry, "isolate", *arguments)

    assert result.exit_code == 2, result.output
    assert why in " ".join(result.output.split())
    assert not log.sink.records


def test_get_instances_shows_who_isolated_whom(registry: Registry) -> None:  # noqa: F811
    word = Isolation(
        verb=Verb.ISOLATE, node="n1", by="repair", cause="KubeNodeNotReady", expires_at=1_795_302_007_272,
        stamp=Stamp(NOW_MS, 0, 0),
    )  # fmt: skip
    view = InstanceView(
        Attributes(address="10.1.2.3", port=80, node="n1"), "agent", Declared.UP, Health.UNKNOWN, Lease.LIVE,
        generation=NOW_MS, weight=100, isolation=word,
    )  # fmt: skip
    registry.publish(PAY, ChangeOp.DELTA, {"p-1": None}, {"p-1": JsonRenderer().instance(view, NOW_MS)})
    registry.declare(PAY, "p-2", 80)

    lines = get(registry, "instances", "payments", "-o", "wide").output.splitlines()

    assert "ISOLATED BY" in lines[0]
    assert lines[1].split()[:3] == ["p-1", "OUT_OF_SERVICE", "isolated"]
    assert "repair until 2026-11-21T23:00:07Z (KubeNodeNotReady)" in lines[1]
    assert "repair" not in lines[2]
