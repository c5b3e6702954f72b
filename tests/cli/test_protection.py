"""`waypost protection` against a real server and a log in memory."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner, Result

from tests.cli.test_get import PAY, Registry, registry, server  # noqa: F401 (fixtures)
from tests.cli.test_publish import Registry as Log
from waypost.cli import publish
from waypost.cli.protection import protection
from waypost.model.events import Attributes, Hold, Op
from waypost.model.lifecycle import Declared, Health, Lease
from waypost.model.names import ServiceKey
from waypost.model.route_table import ChangeOp
from waypost.model.service import Held, InstanceView
from waypost.wire.endpoint import JsonRenderer

NOW_MS = time.time_ns() // 1_000_000
CART = ServiceKey("shop", "cart")


def hold(registry: Registry, service: ServiceKey, instance: str, why: Hold) -> None:  # noqa: F811
    view = InstanceView(
        Attributes(address="10.1.2.3", port=80), "agent", Declared.UP, Health.UNKNOWN, Lease.LAPSED, generation=1,
        weight=100, held=Held(why, NOW_MS - 60_500, NOW_MS + 600_000),
    )  # fmt: skip
    renderer = JsonRenderer()
    route = renderer.route(view.routed, 1, held=True)
    registry.publish(service, ChangeOp.DELTA, {instance: route}, {instance: renderer.instance(view, 1)}, True)


def run(registry: Registry, *arguments: str) -> Result:  # noqa: F811
    return CliRunner().invoke(protection, [*arguments, "--redis", registry.server.url], prog_name="waypost protection")


def test_protected_services_are_listed_with_why_and_until_when(registry: Registry) -> None:  # noqa: F811
    hold(registry, PAY, "p-1", Hold.SERVICE)
    hold(registry, PAY, "p-2", Hold.SERVICE)
    hold(registry, CART, "c-1", Hold.LAST)
    registry.declare(ServiceKey("default", "calm"), "x", 80)

    result = run(registry, "list", "-o", "wide")

    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["NAMESPACE", "NAME", "HELD", "WHY", "SINCE", "ENDS", "IN", "ROUTABLE", "INSTANCES"]
    assert [(line[0], line[1], line[2], line[3], line[-1]) for line in lines[1:]] == [
        ("default", "payments", "2", "service", "p-1,p-2"),
        ("shop", "cart", "1", "last", "c-1"),
    ]
    items = json.loads(run(registry, "list", "-n", "shop", "-o", "json").output)["items"]
    assert [(i["service"], i["held"], i["why"], i["until"]) for i in items] == [
        ("cart", 1, {"last": 1}, NOW_MS + 600_000)
    ]


def test_nothing_protected_is_said_so(registry: Registry) -> None:  # noqa: F811
    result = run(registry, "list")

    assert result.exit_code == 0
    assert "No resources found" in result.output


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(publish, "open_sink", log.open_sink)
    monkeypatch.setattr(publish, "open_waiter", log.open_waiter)
    return log


def test_a_release_is_an_event_about_the_service(registry: Registry, log: Log) -> None:  # noqa: F811
    result = run(registry, "release", "shop/cart", "--kafka", "kafka:9092")

    assert result.exit_code == 0, result.output
    assert result.output.startswith("shop/cart released (revision ")
    event = log.event()
    assert (event.op, event.service, event.instance) == (Op.UNPROTECT, CART, "")


def test_all_releases_what_is_protected(registry: Registry, log: Log) -> None:  # noqa: F811
    hold(registry, CART, "c-1", Hold.FLEET)
    registry.declare(PAY, "p-1", 80)

    result = run(registry, "release", "--all", "--kafka", "kafka:9092")

    assert result.exit_code == 0, result.output
    assert log.event().service == CART


@pytest.mark.parametrize("arguments", [[], ["a", "--all"], ["not/a/name"]])
def test_one_service_or_all_has_to_be_said(registry: Registry, log: Log, arguments: list[str]) -> None:  # noqa: F811
    assert run(registry, "release", *arguments, "--kafka", "kafka:9092").exit_code == 2
    assert log.opened == []
