"""The made-up fleet a bench works with: who is in it, and the records that speak of it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

PER_SERVICE = 100
"""Instances of a service. A thousand services of a hundred are a large installation, not an extreme one."""
LEASE_S = 90
BEAT_EVERY_S = 30


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """`size` instances called `<name>-<number>`, in services called `<name>-s<number>`."""

    name: str
    size: int

    @property
    def services(self) -> list[str]:
        return [f"{self.name}-s{number}" for number in range((self.size + PER_SERVICE - 1) // PER_SERVICE)]

    def instance(self, number: int) -> str:
        return f"{self.name}-{number}"

    def service(self, number: int) -> str:
        return f"{self.name}-s{number // PER_SERVICE}"

    def registration(self, number: int) -> tuple[bytes, bytes]:
        """Return key and value of the record that registers an instance."""
        value = {
            "op": "register",
            "service": self.service(number),
            "instance": self.instance(number),
            "address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "port": 8080,
            "zone": "abc"[number % 3],
            "lease_seconds": LEASE_S,
            "metadata": {"version": "2.1"},
        }
        return f"default/{self.service(number)}".encode(), json.dumps(value).encode()

    def weight_change(self, number: int, weight: int, request_id: str) -> tuple[bytes, bytes]:
        """Return key and value of a record that gives an instance another weight."""
        value = {
            "op": "update",
            "service": self.service(number),
            "instance": self.instance(number),
            "weight": weight,
            "request_id": request_id,
        }
        return f"default/{self.service(number)}".encode(), json.dumps(value).encode()

    def beat(self, number: int, turn: int) -> tuple[bytes, bytes]:
        """Return key and value of a beat; cpu changes from turn to turn, as real ones do."""
        return self.instance(number).encode(), b'{"cpu":0.%02d}' % ((number * 7 + turn * 13) % 90 + 10)
