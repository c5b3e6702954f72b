"""Keyed state of the repair folds ↔ bytes: what a checkpoint holds.

Explicit and versioned as in `waypost.wire.fold_state`: each blob begins with its version. Alerts and actions are kept
in the form of their records, so that a checkpoint and the topics can be compared by eye.
"""

from __future__ import annotations

from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.budget import BudgetState, Domain, Held
from waypost.model.names import ServiceKey
from waypost.model.repair_state import Approval, Episode, Phase, TargetState
from waypost.model.repair_steps import UNDONE_BY
from waypost.wire.alerts import alert_fields, read_alert
from waypost.wire.repair_action import action_fields, read_action

VERSION = 3


def encode_target(state: TargetState) -> bytes:
    """Encode what is remembered of one target."""
    episodes = [_episode_fields(episode) for episode in state.episodes.values()]
    return orjson.dumps((VERSION, episodes, state.begun, state.cooldown_until, state.failures, state.floor))


def decode_target(blob: bytes) -> TargetState:
    """Decode what `encode_target` wrote. Raises StateVersionError."""
    version, (episodes, begun, cooldown_until, failures, floor) = _load(blob)
    found = [_episode(version, fields) for fields in episodes]
    return TargetState(
        episodes={episode.alert.fingerprint: episode for episode in found},
        begun=tuple(begun),
        cooldown_until=cooldown_until,
        failures=failures,
        floor=floor,
    )


def encode_budget(state: BudgetState) -> bytes:
    """Encode the trust in each domain, what is under way, what was granted and what waits."""
    return orjson.dumps(
        (
            VERSION,
            [
                (name, d.width, d.proof_from, d.changed_at, d.failures, d.closed_until)
                for name, d in state.domains.items()
            ],
            [
                (name, h.domains, [(str(s), n) for s, n in h.takes.items()], h.node, h.granted_at, h.until, h.done_at)
                for name, h in state.held.items()
            ],
            list(state.granted.items()),
            [action_fields(action) for action in state.waiting.values()],
        )
    )


def decode_budget(blob: bytes) -> BudgetState:
    """Decode what `encode_budget` wrote. Raises StateVersionError."""
    _, (domains, held, granted, waiting) = _load(blob)
    actions = [read_action(fields) for fields in waiting]
    return BudgetState(
        domains={
            name: Domain(width=width, proof_from=proof, changed_at=changed, failures=failures, closed_until=closed)
            for name, width, proof, changed, failures, closed in domains
        },
        held={
            name: Held(
                domains=tuple(of),
                takes={ServiceKey.parse(service): n for service, n in takes},
                node=node,
                granted_at=granted_at,
                until=until,
                done_at=done_at,
            )
            for name, of, takes, node, granted_at, until, done_at in held
        },
        granted=dict(granted),
        waiting={action.id: action for action in actions},
    )


def _load(blob: bytes) -> tuple[int, list[Any]]:
    version: int
    fields: list[Any]
    version, *fields = orjson.loads(blob)
    if not 1 <= version <= VERSION:
        raise StateVersionError(
            f"state of version {version}, but this build reads versions 1 to {VERSION}: "
            "restore the savepoint with the release that wrote it"
        )
    return version, fields


def _episode_fields(e: Episode) -> tuple[Any, ...]:
    return (
        alert_fields(e.alert),
        e.first_seen,
        e.phase.value,
        e.attempts,
        action_fields(e.action) if e.action is not None else None,
        e.asked_at,
        (e.approval.action_id, e.approval.by, e.approval.at, e.approval.plan) if e.approval is not None else None,
        e.said,
        e.incident,
        e.heard_at,
        action_fields(e.owed) if e.owed is not None else None,
        e.undo_since,
        e.undo_at,
        e.undo_tries,
    )


def _episode(version: int, fields: list[Any]) -> Episode:
    if version < 3:
        fields = _before_3(*fields)
    alert, first_seen, phase, attempts, action, asked_at, approval, said, incident, heard_at, owed, *undo = fields
    undo_since, undo_at, undo_tries = undo
    return Episode(
        alert=read_alert(alert),
        first_seen=first_seen,
        phase=Phase(phase),
        attempts=attempts,
        action=read_action(action) if action is not None else None,
        asked_at=asked_at,
        approval=Approval(*approval) if approval is not None else None,
        said=said,
        incident=incident,
        heard_at=heard_at,
        owed=read_action(owed) if owed is not None else None,
        undo_since=undo_since,
        undo_at=undo_at,
        undo_tries=undo_tries,
    )


def _before_3(*fields: Any) -> list[Any]:
    """Version 1 knew no incidents. Up to version 2 taking back was told once and never heard of again; what is owed is
    seen on the last action, whose outcome is there."""
    *known, undone, incident = fields if len(fields) == 10 else (*fields, "")
    first_seen, phase, attempts, action = known[1:5]
    owes = action is not None and action["undo"] and not undone and action["attempt"] <= attempts
    owes = owes and any(step["do"] in {do.value for do in UNDONE_BY} for step in action["steps"])
    owed = action if owes and phase in (Phase.SUCCEEDED.value, Phase.FAILED.value) else None
    return [*known, incident, first_seen, owed, 0, 0, 0]
