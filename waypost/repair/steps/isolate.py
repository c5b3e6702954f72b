"""Isolate and release: records that take endpoints out of tables, and let them in again.

The records are written at least once. A copy says the same until the same moment, so it changes nothing, unless a
release came between: then it lasts until that moment at the longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from waypost.model.isolation import REPAIR, Isolation, Verb
from waypost.model.names import ServiceKey
from waypost.model.repair_steps import Do
from waypost.repair.steps.progress import Progress, Turn, Word, failed, too_many
from waypost.wire.repair_results import StepOutcome


def isolate(turn: Turn) -> Progress:
    """Take the pod's endpoints out of their table, or a node's out of every table but those of excluded services."""
    expires_at = turn.action.granted_at + turn.number("for_seconds") * 1000
    if turn.now >= expires_at:
        return failed("it is too late: the isolation would be over")
    words = tuple(replace(word, expires_at=expires_at) for word in _words(turn))
    if not words:
        return Progress(word=Word.SKIPPED, detail="nothing of it is in a table")
    refused = too_many(turn, len(turn.around.instances))
    if refused is not None:
        return refused
    return Progress(word=Word.DONE, detail=f"isolated: {_listed(words)}", isolations=words)


def release(turn: Turn) -> Progress:
    """Take back what the undone action isolated."""
    undone = turn.isolated
    if not undone and turn.action.target.is_node and not _was_not_ours(turn):
        # Its state was lost: what is about the whole node is all that can be known.
        undone = (Isolation(verb=Verb.ISOLATE, node=turn.action.target.name, by=REPAIR),)
    if not undone:
        return Progress(word=Word.SKIPPED, detail="nothing was isolated")
    words = tuple(
        replace(word, verb=Verb.RELEASE, expires_at=0, cause="the alert is over", request_id=turn.action.id)
        for word in undone
    )
    return Progress(word=Word.DONE, detail=f"released: {_listed(words)}", isolations=words)


def _was_not_ours(turn: Turn) -> bool:
    """Tell whether an earlier step has found that nothing had been done to the node, or could not find out."""
    unknown = (StepOutcome.SKIPPED, StepOutcome.FAILED)
    return any(one.do is Do.UNCORDON and one.outcome in unknown for one in turn.results)


def _words(turn: Turn) -> Iterator[Isolation]:
    action, around = turn.action, turn.around
    word = Isolation(
        verb=Verb.ISOLATE, cause=f"{action.type} {action.fingerprint}", by=REPAIR, request_id=action.id, instance=""
    )
    if not action.target.is_node:
        service = ServiceKey(*action.target)
        yield from (replace(word, service=service, instance=instance) for instance in around.instances)
    elif not action.excluded:
        yield replace(word, node=action.target.name)
    else:
        # One about the node would be about the excluded ones too.
        for service in around.services:  # Earlier builds counted them in.
            if service not in action.excluded:
                yield replace(word, service=service, node=action.target.name)


def _listed(words: tuple[Isolation, ...]) -> str:
    named = [f"{word.service} {word.scope}" if word.service is not None else word.scope for word in words]
    return ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
