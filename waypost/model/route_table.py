"""Route tables as plain data: what one holds, how two differ, and the digest that proves equality.

A table maps instance id → endpoint text, and holds routable endpoints only. The text is the exact JSON that
gateways read from Redis, so the digest covers what readers see, not what we meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

from waypost.model.names import ServiceKey
from waypost.model.stamp import Cause

RouteTable = Mapping[str, str]
"""Instance id → endpoint JSON."""


def entry_digest(instance: str, endpoint: str) -> int:
    """Return the 64-bit digest of one table entry.

    Python's own `hash` differs from process to process; BLAKE2b does not, and 8 bytes of it make an accidental
    match of two tables a matter of 1 in 2**64.
    """
    return int.from_bytes(blake2b(f"{instance}\0{endpoint}".encode(), digest_size=8).digest(), "big")


def digest(table: RouteTable) -> int:
    """Return the digest of a whole table: the XOR over its entries, so that one change costs one XOR."""
    result = 0
    for instance, endpoint in table.items():
        result ^= entry_digest(instance, endpoint)
    return result


def format_digest(value: int) -> str:
    """Write a digest as Redis holds it: 16 hexadecimal signs (64-bit numbers do not survive Lua)."""
    return f"{value:016x}"


@dataclass(frozen=True, slots=True)
class Delta:
    """What turns one table into another. `set` and `delete` never share an id."""

    set: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set) or bool(self.delete)


def diff(old: RouteTable, new: RouteTable) -> Delta:
    """Return the smallest delta with `apply(old, diff(old, new)) == new`."""
    return Delta(
        set={k: v for k, v in new.items() if old.get(k) != v},
        delete=tuple(sorted(k for k in old if k not in new)),
    )


def apply(table: RouteTable, delta: Delta) -> dict[str, str]:
    """Return a new table: `table` with `delta` applied. `table` stays as it is."""
    result = {k: v for k, v in table.items() if k not in delta.delete}
    result.update(delta.set)
    return result


class ChangeOp(str, Enum):
    """How a reader must take one entry of the changes stream."""

    DELTA = "delta"
    SNAPSHOT = "snapshot"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one record that carried a `request_id`."""

    request_id: str
    applied: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One write to the route store: everything of it becomes visible at once, or nothing.

    DELTA: `routes`/`instances` hold what changed on top of revision `base`. SNAPSHOT: they hold everything, and
    whatever else the store has of this service goes away. REMOVED: the service is forgotten. A DELTA whose
    `revision` equals its `base` changes nothing and only carries `answers`.

    `routes` and `instances` map instance id → JSON, or → None for an entry that goes away (never in a
    snapshot). `event_time` is epoch ms on the log's clock and never goes back within a service; `position` says
    how far the fold has come, as `waypost.model.service_state.Position` writes it.
    """

    service: ServiceKey
    op: ChangeOp
    base: int
    revision: int
    event_time: int
    routes: Mapping[str, str | None]
    instances: Mapping[str, str | None]
    digest: int
    endpoints: int
    rule: str
    causes: tuple[Cause, ...] = ()
    answers: tuple[Answer, ...] = ()
    protected: bool = False
    position: str = ""
