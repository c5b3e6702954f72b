"""Cordon and uncordon: only what nobody else has done, and only what we did ourselves.

node is              and says            cordon                      uncordon
schedulable          nothing             cordons it                  nothing to do
schedulable          by us               left, if the fault began    says since when it is,
                                         before; else cordons it     in the place of our words
schedulable          since when          the same                    nothing to do
unschedulable        nothing             somebody else's: left so    left alone
unschedulable        by us               done already; this fault    uncordons it, if for this
                                         is added to our words       fault too

A cordon that stands for several faults is taken back for any of them: whoever wants it taken back has seen that none is
left. A person who uncordons a node wants it schedulable from then on, and only a fault that begins later is new.
"""

from __future__ import annotations

from waypost.model.repair_action import RepairAction
from waypost.repair.claims import CORDONED_BY, CORDONED_FOR, SCHEDULABLE_SINCE, with_fault
from waypost.repair.objects import Node
from waypost.repair.steps.progress import HOLDS, Check, Progress, Turn, Word, already, done, left


def cordon(turn: Turn) -> Progress:
    """Let no new pod come to the node of the action."""
    node = turn.cluster.node(turn.action.target.name)
    if node is None:
        return already(f"node {turn.action.target.name} is gone")
    since = schedulable_since(node, turn.now)
    if is_left(node, turn.action, turn.now):
        if CORDONED_BY in node.annotations:
            turn.cluster.change_node(node, unschedulable=None, annotations=_theirs(since))
        return Progress(word=Word.LEFT, detail=f"{node.reference} was uncordoned by somebody", about=node.reference)
    if node.opted_out:
        return left(node.reference)
    ours = {CORDONED_BY: turn.action.id, CORDONED_FOR: with_fault(node.annotations, fault_of(turn.action))}
    if node.unschedulable:
        if CORDONED_BY not in node.annotations:
            return already(f"{node.reference} is cordoned by somebody else, and stays so", node.reference)
        if not _is_for(node, turn.action):
            turn.cluster.change_node(node, unschedulable=None, annotations=ours)
        return already(f"{node.reference} is cordoned by us", node.reference)
    fresh = {**ours, CORDONED_FOR: fault_of(turn.action), SCHEDULABLE_SINCE: None}
    turn.cluster.change_node(node, unschedulable=True, annotations=fresh)
    return done(f"{node.reference} is cordoned", node.reference)


def uncordon(turn: Turn) -> Progress:
    """Take back our cordon for this fault: that of the action that this one undoes, or of one that was forgotten."""
    node = turn.cluster.node(turn.action.target.name)
    if node is None:
        return already(f"node {turn.action.target.name} is gone")
    if CORDONED_BY not in node.annotations or not _is_for(node, turn.action):
        return Progress(word=Word.SKIPPED, detail=f"{node.reference} was not cordoned by us", about=node.reference)
    if not node.unschedulable:
        turn.cluster.change_node(node, unschedulable=None, annotations=_theirs(schedulable_since(node, turn.now)))
        return already(f"{node.reference} was uncordoned by somebody", node.reference)
    turn.cluster.change_node(node, unschedulable=False, annotations={CORDONED_BY: None, CORDONED_FOR: None})
    return done(f"{node.reference} is uncordoned", node.reference)


def is_cordoned(turn: Turn) -> Check:
    """Tell whether the node still takes no new pods."""
    node = turn.cluster.node(turn.action.target.name)
    if node is None:
        return HOLDS
    if is_left(node, turn.action, turn.now):
        return Check(True, f"{node.reference} was uncordoned by somebody", left=True)
    return Check(node.unschedulable, f"{node.reference} takes new pods")


def was_cordoned(turn: Turn) -> bool:
    """Tell whether this action cordoned its node."""
    node = turn.cluster.node(turn.action.target.name)
    return node is not None and node.annotations.get(CORDONED_BY) == turn.action.id


def is_left(node: Node, action: RepairAction, now: int) -> bool:
    """Tell whether a person uncordoned the node after us, and the fault of this action began before they did."""
    since = schedulable_since(node, now)
    return since is not None and (action.starts_at <= since or _is_for(node, action))


def schedulable_since(node: Node, now: int) -> int | None:
    """Return since when a person wants a node schedulable that we had cordoned, epoch ms; None: nobody does. Before
    anybody has looked it is not known: then not before somebody else last changed the node, and not after now."""
    if node.unschedulable:
        return None
    if (told := node.annotations.get(SCHEDULABLE_SINCE, "")).isdecimal():
        return int(told)
    return (node.touched_at or now) if CORDONED_BY in node.annotations else None


def fault_of(action: RepairAction) -> str:
    return f"{action.fingerprint}@{action.starts_at}"


def _is_for(node: Node, action: RepairAction) -> bool:
    return fault_of(action) in node.annotations.get(CORDONED_FOR, "").split()


def _theirs(since: int | None) -> dict[str, str | None]:
    return {CORDONED_BY: None, CORDONED_FOR: None, SCHEDULABLE_SINCE: str(since)}
