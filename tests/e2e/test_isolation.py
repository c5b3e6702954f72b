"""A node is isolated on real servers: its endpoints leave every table, nobody slips in, all are back in the end."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.log_writer import ISOLATION, LogWriter
from tests.e2e.tables import PATIENT, Tables, eventually
from waypost.local.state import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SERVICES = [f"isolated-{n}" for n in range(5)]
NODE, OTHER = "iso-n1", "iso-n2"


def say(log: LogWriter, action: str, **fields: Any) -> tuple[str, int, int]:
    """Write a record of `service-isolation` as a repair does."""
    end = int(time.time() * 1000) + 600_000
    record = {"action": action, "by": "repair", "cause": "a test", "expires_at": end, **fields}
    return log.record(ISOLATION, b"any", json.dumps(record).encode())


def reasons(tables: Tables, service: str) -> dict[str, str]:
    return {i: str(tables.instance(service, i).get("reason")) for i in (f"{service}-on", f"{service}-off")}


def test_a_node_with_endpoints_of_several_services_is_isolated_and_released(
    stack: Stack, waypost: Any, log: LogWriter, tables: Tables
) -> None:
    at = ("--state-dir", str(stack.state_dir))
    for n, service in enumerate(SERVICES):
        log.register(service, f"{service}-on", 15_000 + n, node=NODE)
        log.register(service, f"{service}-off", 15_100 + n, node=OTHER)
    for service in SERVICES:
        tables.wait_for(service, f"{service}-on", f"{service}-off")

    isolated = waypost("isolate", f"node/{NODE}", "--for", "30m", "--because", "disk errors", *PATIENT, *at)

    assert isolated.returncode == 0, isolated.stderr
    assert [line.split(" on node/")[0] for line in isolated.stdout.splitlines()] == [f"default/{s}" for s in SERVICES]
    for service in SERVICES:
        tables.wait_for(service, f"{service}-off")
        assert reasons(tables, service) == {f"{service}-on": "isolated", f"{service}-off": "up"}
    assert tables.instance(SERVICES[0], f"{SERVICES[0]}-on")["isolated"]["cause"] == "disk errors"
    shown = waypost("get", "instances", SERVICES[0], "-o", "wide", *at)
    assert "(disk errors)" in shown.stdout

    # Later ones: of a service that was there, and of one that nobody has heard of.
    change = tables.last_change()
    log.register(SERVICES[0], "late", 15_200, node=NODE)
    log.register("isolated-new", "new", 15_201, node=NODE)
    eventually(lambda: tables.instance(SERVICES[0], "late").get("reason") == "isolated")
    eventually(lambda: tables.instance("isolated-new", "new").get("reason") == "isolated")
    tables.wait_for(SERVICES[0], f"{SERVICES[0]}-off")
    tables.wait_for("isolated-new")
    assert not tables.was_in(SERVICES[0], "late", change)

    # Through a restart of the job from its savepoint.
    restored = waypost("submit", *at)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    log.register(SERVICES[1], "later", 15_202, node=NODE)
    eventually(lambda: tables.instance(SERVICES[1], "later").get("reason") == "isolated")
    tables.wait_for(SERVICES[1], f"{SERVICES[1]}-off")

    released = waypost("release", f"node/{NODE}", *PATIENT, *at)
    assert released.returncode == 0, released.stderr
    tables.wait_for(SERVICES[0], f"{SERVICES[0]}-on", f"{SERVICES[0]}-off", "late")
    tables.wait_for(SERVICES[1], f"{SERVICES[1]}-on", f"{SERVICES[1]}-off", "later")
    for service in SERVICES[2:]:
        tables.wait_for(service, f"{service}-on", f"{service}-off")
    tables.wait_for("isolated-new", "new")


def test_a_repair_is_refused_the_last_endpoint_and_a_bad_record_is_a_dead_letter(
    log: LogWriter, tables: Tables
) -> None:
    log.register("isolated-last", "only", 15_300)
    tables.wait_for("isolated-last", "only")

    place = say(log, "isolate", node="*")
    say(log, "isolate", service="isolated-last", instance="only", request_id="repair-of-the-last")

    answer = eventually(lambda: tables.answer("repair-of-the-last"))
    assert (answer["applied"], answer["reason"]) == (False, "last-endpoint")
    assert tables.ids("isolated-last") == {"only"}
    assert tables.is_protected("isolated-last")
    assert tables.instance("isolated-last", "only")["held"]["why"] == "isolated"
    [letter] = eventually(lambda: [d for d in log.dead_letters() if (d["topic"], d["partition"], d["offset"]) == place])
    assert letter["reason"] == "bad-node"

    say(log, "release", service="isolated-last", instance="only")
    eventually(lambda: not tables.is_protected("isolated-last"))
    assert tables.ids("isolated-last") == {"only"}
