"""The brake on real servers: half a service falls silent, comes back, falls silent again, and is let go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.log_writer import LogWriter
from tests.e2e.tables import PATIENT, PREFIX, Tables, eventually
from waypost.local.state import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SERVICE = "braked"
STEADY = [f"steady-{n}" for n in range(9)]
SILENT = [f"silent-{n}" for n in range(11)]
"""55 % of the service."""


def held(tables: Tables) -> set[str]:
    entries = tables.redis.hgetall(f"{PREFIX}{{default/{SERVICE}}}:route")
    return {instance for instance, text in entries.items() if json.loads(text)["held"]}


def is_held(tables: Tables) -> bool:
    return held(tables) == set(SILENT) and tables.is_protected(SERVICE)


def deletions(tables: Tables, after: str) -> list[str]:
    entries = [e for _, e in tables.changes(after=after) if e["service"] == f"default/{SERVICE}"]
    return [instance for entry in entries for instance in json.loads(entry["data"])["delete"]]


def test_more_than_half_of_a_service_falls_silent(stack: Stack, waypost: Any, log: LogWriter, tables: Tables) -> None:
    at = ("--state-dir", str(stack.state_dir))
    for n, instance in enumerate(STEADY + SILENT):
        log.register(SERVICE, instance, 14_000 + n, lease=6)
    with log.beating(*STEADY):
        with log.beating(*SILENT):
            tables.wait_for(SERVICE, *STEADY, *SILENT)

        # Nobody leaves: all of the silent ones are held, and marked.
        eventually(lambda: is_held(tables))
        assert tables.ids(SERVICE) == {*STEADY, *SILENT}
        assert tables.instance(SERVICE, SILENT[0])["reason"] == "held"
        change = tables.last_change()

        with log.beating(*SILENT):
            eventually(lambda: not tables.is_protected(SERVICE))
            assert held(tables) == set()
            assert deletions(tables, change) == []

        eventually(lambda: is_held(tables))
        restored = waypost("submit", *at)
        assert restored.returncode == 0, restored.stdout + restored.stderr
        marker = log.register(SERVICE, STEADY[0], 14_000, lease=6)
        eventually(lambda: tables.answer(marker))
        eventually(lambda: is_held(tables))
        listed = waypost("protection", "list", "-o", "json", *at)
        assert listed.returncode == 0, listed.stderr
        [entry] = [item for item in json.loads(listed.stdout)["items"] if item["service"] == SERVICE]
        assert (entry["held"], set(entry["instances"])) == (len(SILENT), set(SILENT))
        assert entry["until"] - entry["since"] >= 600_000

        released = waypost("protection", "release", f"default/{SERVICE}", *PATIENT, *at)
        assert released.returncode == 0, released.stderr
        assert f"default/{SERVICE} released" in released.stdout
        tables.wait_for(SERVICE, *STEADY)
        assert not tables.is_protected(SERVICE)
        assert tables.instance(SERVICE, SILENT[0])["reason"] == "lease-lapsed"

        again = waypost("protection", "release", f"default/{SERVICE}", *PATIENT, *at)
        assert again.returncode == 1
        assert "not-protected" in again.stderr


def test_the_last_endpoint_of_a_service_is_kept(log: LogWriter, tables: Tables) -> None:
    log.register("lonely", "l-0", 14_100, lease=3)
    with log.beating("watching"):
        log.register("lonely-watch", "watching", 14_101, lease=3)
        eventually(lambda: tables.instance("lonely", "l-0").get("lease") == "lapsed")
        assert tables.ids("lonely") == {"l-0"}
        assert tables.instance("lonely", "l-0")["held"]["why"] == "last"

        log.event("lonely", op="deregister", instance="l-0")
        tables.wait_for("lonely")
