"""What a gateway sees in Redis, and waiting for it to become so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import redis

PREFIX = "waypost:v1:"
CEILING_S = 300.0
"""How long anything may take before a test fails: far above every promise, because a test must not depend on
the machine. The promises themselves are measured by the demo."""


def eventually(condition: Callable[[], Any], within_s: float = CEILING_S) -> Any:
    """Return the first true value of `condition`; fail when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"still {found!r} after {within_s} s"
        time.sleep(0.1)


PATIENT = ("--timeout", "120s")
"""For commands that wait for the route job's answer: a busy machine may need more than their 5 s."""


class Tables:
    """Reads tables the way a plain gateway does: hashes and the stream, no client of ours."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)

    def ids(self, service: str, namespace: str = "default") -> set[str]:
        """Return the routable instance ids of a service."""
        return set(self.redis.hkeys(f"{PREFIX}{{{namespace}/{service}}}:route"))

    def endpoints(self, service: str) -> dict[str, tuple[str, int]]:
        """Return instance id → (address, port)."""
        entries = self.redis.hgetall(f"{PREFIX}{{default/{service}}}:route")
        found = {instance: json.loads(text) for instance, text in entries.items()}
        return {instance: (entry["address"], entry["port"]) for instance, entry in found.items()}

    def instance(self, service: str, instance: str) -> dict[str, Any]:
        """Return what the `instances` hash says, {} when the instance is not known."""
        text = self.redis.hget(f"{PREFIX}{{default/{service}}}:instances", instance)
        return json.loads(text) if text else {}

    def is_protected(self, service: str) -> bool:
        """Tell whether the brake holds endpoints of a service."""
        return bool(self.redis.hget(f"{PREFIX}{{default/{service}}}:meta", "protected") == "1")

    def revision(self, service: str) -> int:
        return int(self.redis.hget(f"{PREFIX}{{default/{service}}}:meta", "revision") or 0)

    def epoch(self, service: str) -> int:
        return int(self.redis.hget(f"{PREFIX}{{default/{service}}}:meta", "epoch") or 0)

    def event_time(self, service: str) -> int:
        """Return the newest time on the log that the table knows of, epoch ms."""
        return int(self.redis.hget(f"{PREFIX}{{default/{service}}}:meta", "event_time") or 0)

    def dump(self, services: list[str]) -> dict[str, dict[str, str]]:
        """Return the whole route hash of each service."""
        return {s: self.redis.hgetall(f"{PREFIX}{{default/{s}}}:route") for s in services}

    def changes(self, after: str = "-") -> list[tuple[str, dict[str, str]]]:
        """Return entries of the changes stream behind the id `after`."""
        start = "-" if after == "-" else f"({after}"
        return list(self.redis.xrange(f"{PREFIX}changes", min=start))

    def was_in(self, service: str, instance: str, after: str) -> bool:
        """Tell whether a change behind the id `after` had an instance in a table, also one that has left again."""
        told = [e for _, e in self.changes(after) if e["service"] == f"default/{service}" and e["op"] != "removed"]
        return any(instance in json.loads(entry["data"])["set"] for entry in told)

    def last_change(self) -> str:
        entries = self.redis.xrevrange(f"{PREFIX}changes", count=1)
        return str(entries[0][0]) if entries else "0-0"

    def answer(self, request_id: str) -> dict[str, Any] | None:
        """Return the answer to one request, None while there is none."""
        for _, entry in self.changes():
            for answer in json.loads(entry.get("answers") or "[]"):
                if answer["request_id"] == request_id:
                    return dict(answer)
        return None

    def wait_for(self, service: str, *instances: str, within_s: float = CEILING_S) -> None:
        """Wait until exactly these instances are routable."""
        eventually(lambda: self.ids(service) == set(instances) or None, within_s)

    def close(self) -> None:
        self.redis.close()
