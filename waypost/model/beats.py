"""One heartbeat, already validated."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.model.lifecycle import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a beat says besides "I am here"; every field may be absent.

    `service` and `namespace` are "" when the beat does not say. `health` is None when the beat carries no
    status or only repeats a declaration. `cpu` and `mem` are finite and not negative, or None. `ts` is when the
    producer sent it, epoch ms of its own clock; it tells how long the beat was under way and decides nothing.
    """

    service: str = ""
    namespace: str = ""
    health: Health | None = None
    cpu: float | None = None
    mem: float | None = None
    ts: int | None = None


PLAIN = Beat()
