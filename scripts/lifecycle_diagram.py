#!/usr/bin/env python3
"""Write docs/lifecycle.md from the tables of waypost/model/lifecycle.py; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from waypost.model.lifecycle import BEAT_WORDS, HEALTH_WORDS, Declared, Health, Lease, Status, is_routable, view  # noqa: E402

TARGET = ROOT / "docs" / "lifecycle.md"
_CALM = (Health.UNKNOWN, Lease.LIVE)
"""The other two facts while only the declaration changes."""


def document() -> str:
    """Return the whole page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# The life of an instance"
    yield ""
    yield "Generated from `waypost/model/lifecycle.py` by `scripts/lifecycle_diagram.py`; do not edit."
    yield ""
    yield "An instance is three independent facts. Each is the newest thing said about it on the log:"
    yield ""
    yield "| fact | values | said by |"
    yield "|---|---|---|"
    yield f"| declared | {_values(Declared)} | registration events: register, status, drain, deregister |"
    yield f"| health | {_values(Health)} | `op: status` of a checker, a beat that carries a status |"
    yield f"| lease | {_values(Lease)} | beats, and the time without them; `none`: declared as part of a set |"
    yield ""
    yield "People see one status, a view of the three. Gateways see an instance exactly while it is UP."
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield from (f"    {line}" for line in sorted(_declarations()))
    yield "    state UP_declared {"
    yield from (f"        {line}" for line in _moves())
    yield "    }"
    yield "```"
    yield ""
    yield "`UP_declared` is an instance whose owner declares it UP: inside, health and lease decide what is seen."
    yield "No beat and no check leaves or enters any other declaration. Drawn through it only, any status follows"
    yield "any other in the same way, and a new registration of an id that is still there replaces the old one,"
    yield "whatever its state."
    yield ""
    yield "| declared | health | lease | seen as | reason | routable |"
    yield "|---|---|---|---|---|---|"
    for declared in Declared:
        yield from _rows(declared)
    yield ""
    yield "An instance that is held although its lease lapsed, its health failed or it flaps, is seen as UP with the"
    yield "reason `held`. One that would be UP, but flaps and is damped, is seen as DOWN with the reason `damped`. See"
    yield "[the brake](brake.md). One that is declared UP and [isolated](isolation.md) is seen as OUT_OF_SERVICE with"
    yield "the reason `isolated`, whatever its health and its lease are, and as `held` when a repair isolated the last."
    yield ""
    yield "## Words"
    yield ""
    yield "| word in `status` | in `op: status` it says | in a beat it says |"
    yield "|---|---|---|"
    declarable = {d.value.lower(): d for d in Declared if d is not Declared.REMOVED}
    for word in sorted({*declarable, *HEALTH_WORDS, *BEAT_WORDS}):
        operator = f"declared {declarable[word].value}" if word in declarable else _health(HEALTH_WORDS.get(word))
        yield f"| `{word}` | {operator} | {_health(BEAT_WORDS.get(word))} |"


def _values(kind: type[Declared] | type[Health] | type[Lease]) -> str:
    return ", ".join(value.value for value in kind)


def _health(health: Health | None) -> str:
    return f"health {health.value}" if health is not None else "nothing"


def _state(declared: Declared) -> str:
    return "UP_declared" if declared is Declared.UP else view(declared, *_CALM)[0].value


def _declarations() -> Iterator[str]:
    """What registration events do. Drawn through UP only: any status follows any other in the same way."""
    gone = _state(Declared.REMOVED)
    yield f"{gone} --> UP_declared: register"
    for declared in Declared:
        if declared is Declared.REMOVED:
            continue
        yield f"[*] --> {_state(declared)}: register"
        yield f"{_state(declared)} --> {gone}: deregister"
        if declared is not Declared.UP:
            how = "drain, status" if declared is Declared.DRAINING else "status"
            yield f"UP_declared --> {_state(declared)}: {how}"
            yield f"{_state(declared)} --> UP_declared: status"


def _moves() -> Iterator[str]:
    """What a change of one fact does to an instance declared UP, by asking the view before and after."""
    yield f"[*] --> {_name(Health.UNKNOWN, Lease.LIVE)}"
    seen = set()
    for lease in (Lease.LIVE, Lease.LAPSED):
        for health in Health:
            for after in Health:
                if after is not Health.UNKNOWN:
                    seen.add((_name(health, lease), _name(after, lease), f"health {after.value}"))
            other, why = (Lease.LAPSED, "lease lapses") if lease is Lease.LIVE else (Lease.LIVE, "beats again")
            seen.add((_name(health, lease), _name(health, other), why))
    for before, after_name, why in sorted(seen):
        if before != after_name:
            yield f"{before} --> {after_name}: {why}"


def _name(health: Health, lease: Lease) -> str:
    status, reason = view(Declared.UP, health, lease)
    return status.value if status is Status.UP else f"{status.value}_{reason.replace('-', '_')}"


def _rows(declared: Declared) -> Iterator[str]:
    """One row per status seen, naming only the facts that matter for it."""
    if declared is not Declared.UP:
        status, reason = view(declared, *_CALM)
        yield f"| {declared.value} | any | any | {status.value} | `{reason}` | no |"
        return
    for lease in Lease:
        for health in Health:
            status, reason = view(declared, health, lease)
            routable = "yes" if is_routable(declared, health, lease) else "no"
            yield f"| UP | {health.value} | {lease.value} | {status.value} | `{reason}` | {routable} |"


def main(arguments: list[str]) -> int:
    """Write the page, or tell with `--check` whether it is up to date."""
    wanted = document()
    if "--check" in arguments:
        if not TARGET.exists() or TARGET.read_text() != wanted:
            print(f"{TARGET.relative_to(ROOT)} is not what the tables say; run scripts/lifecycle_diagram.py")
            return 1
        return 0
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
