"""Webhook and notify: telling somebody. What is told is ours, word for word: nothing of an alert is a template."""

from __future__ import annotations

import orjson

from waypost.repair.objects import Note, Reference
from waypost.repair.steps.progress import Progress, Turn, done


def webhook(turn: Turn) -> Progress:
    """Post what is repaired and why to the policy's URL. At least once: the receiver knows copies by their key."""
    url = turn.text("url")
    turn.webhooks.post(url, body(turn), timeout_ms=turn.number("timeout_seconds") * 1000, key=turn.claim)
    return done("told")


def body(turn: Turn) -> bytes:
    """Return what a webhook is told."""
    action = turn.action
    return orjson.dumps(
        {
            "id": action.id,
            "target": str(action.target),
            "type": action.type,
            "fingerprint": action.fingerprint,
            "startsAt": action.starts_at,
            "attempt": action.attempt,
            "policy": action.policy,
            "policy_version": action.policy_version,
            "node": action.node or None,
            "pod": action.pod or None,
            "steps": [step.do.value for step in action.steps],
        }
    )


def notify(turn: Turn) -> Progress:
    """Write an Event about the pod, the node or the service."""
    action = turn.action
    about = Reference("Node", "", action.target.name)
    if not action.target.is_node:
        kind, name = ("Pod", action.pod) if action.pod else ("Service", action.target.name)
        about = Reference(kind, action.target.namespace, name)
    turn.cluster.tell(
        Note(
            id=turn.claim,
            about=about,
            reason="WaypostAlert",
            message=f"{action.type} ({action.fingerprint}), policy {action.policy}",
            warning=True,
            at=turn.now,
        )
    )
    return done(f"told at {about}")
