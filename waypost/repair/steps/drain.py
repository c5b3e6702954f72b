"""Empty a cordoned node by evictions, one pod at a time, within the disruption budgets.

Doing it twice is doing it once: what is made anew is made elsewhere, because the node takes nothing. A node that does
is not drained at all, or its pods would come back and be evicted for ever.

A pod that cannot be evicted now, for its budget, because the API server fails at it (two budgets over one pod are
answered 500) or denies it, holds up no other: the rest goes first, and it is asked for again until the time is up.

Left alone: pods of DaemonSets and of kubelet's own files, finished ones, those that nothing would make anew, those in
protected namespaces, those of excluded services, those that say so themselves or by their workload, and those that we
have no right to touch, which is asked about for a while.
"""

from __future__ import annotations

from collections.abc import Mapping

from waypost.repair.objects import DAEMON_SET, Pod
from waypost.repair.opt_out import OPT_OUT
from waypost.repair.port import DENIED_MS, CallFailed, Conflict, Denied, NotNow, Refused, Unavailable
from waypost.repair.steps.nodes import is_left
from waypost.repair.steps.progress import Check, Progress, Turn, Word, already, done, failed, left, wait

NEXT_MS = 100
"""Between two pods."""
ROUND_MS = 5_000
"""Before those that a budget refused, or the API server failed at or denied, are asked for again."""

_LAST = "last"
_REFUSED = "refused"
_EVICTED = "evicted"
_DENIED = "denied"
_ASKED = "asked"


def drain(turn: Turn) -> Progress:
    """Evict what may go, until nothing of it is left or the time is up."""
    name = turn.action.target.name
    node = turn.cluster.node(name)
    if node is None:
        return already(f"node {name} is gone")
    if is_left(node, turn.action, turn.now):
        return Progress(word=Word.LEFT, detail=f"{node.reference} was uncordoned by somebody", about=node.reference)
    if node.opted_out:
        return left(node.reference)
    if not node.unschedulable:
        return failed(f"{node.reference} takes new pods: it has to be cordoned first", node.reference)
    staying = _to_go(turn)
    evicted = int(turn.notes.get(_EVICTED, "0"))
    if not staying:
        denied = turn.notes.get(_DENIED)
        told = f", {denied} left because the API server refuses us" if denied else ""
        return done(f"{node.reference} is drained, {evicted} pods evicted{told}", node.reference)
    if turn.now >= turn.since + turn.number("timeout_seconds") * 1000:
        asked = _asked(turn)
        if theirs := [pod for pod in staying if pod.uid in asked]:
            return wait("denied until the time is up", NEXT_MS, **_given_up(turn, *theirs))
        listed = ", ".join(f"{pod.namespace}/{pod.name}" for pod in staying[:5])
        why = f"; {turn.notes[_REFUSED]}" if turn.notes.get(_REFUSED) else ""
        told = f"{len(staying)} pods stay, {evicted} were evicted: {listed}{why}"
        return failed(f"{node.reference}: {told}", node.reference)
    last = turn.notes.get(_LAST, "")
    pod = next((one for one in staying if _place(one) > last), None)
    if pod is None:  # a round is over
        return wait(turn.notes.get(_REFUSED, "another round"), ROUND_MS, **{_LAST: ""})
    notes = {_LAST: _place(pod)}
    try:
        workload = turn.cluster.workload_of(pod)
        if workload is not None and workload.opted_out:
            return wait(f"{workload.reference} says {OPT_OUT}", NEXT_MS, **notes, **_kept(turn, pod))
        if workload is None:
            return wait(f"nothing would make {pod.reference} anew", NEXT_MS, **notes, **_kept(turn, pod))
        turn.cluster.evict(pod)
    except Denied as error:
        return wait("denied", NEXT_MS, **notes, **_denied(turn, pod, error))
    except (NotNow, Unavailable) as error:
        return wait("refused", NEXT_MS, **notes, **_heard(turn, pod), **_because(pod, error))
    except Conflict:
        return wait("it is another one", NEXT_MS, **notes)
    except Refused as error:
        return wait(str(error), NEXT_MS, **notes, **_given_up(turn, pod))
    return wait("evicted", NEXT_MS, **notes, **{_EVICTED: str(evicted + 1)})


def is_empty(turn: Turn) -> Check:
    """Tell whether nothing has to go any more."""
    node = turn.cluster.node(turn.action.target.name)
    if node is not None and is_left(node, turn.action, turn.now):
        return Check(True, f"{node.reference} was uncordoned by somebody", left=True)
    staying = _to_go(turn)
    return Check(not staying, f"{len(staying)} pods are there")


def _to_go(turn: Turn) -> list[Pod]:
    """Return the pods that have to leave and do not yet, in a fixed order."""
    there = turn.cluster.pods_on(turn.action.target.name)
    names = {(pod.namespace, pod.name) for pod in there}
    spared = set(turn.around.spared)
    # Where an endpoint does not say which pod it is, any pod of its namespace may be it.
    whole = {one.namespace for one in spared if (one.namespace, one.pod) not in names}
    alone = set(turn.notes.get(_ALONE, "").split())
    found = [
        pod
        for pod in there
        if not (pod.deleting or pod.finished or pod.mirror or pod.opted_out)
        and pod.owner is not None
        and pod.owner.kind != DAEMON_SET
        and pod.namespace not in turn.protected
        and pod.namespace not in whole
        and (pod.namespace, pod.name) not in spared
        and pod.uid not in alone
    ]
    return sorted(found, key=_place)


_ALONE = "alone"


def _kept(turn: Turn, *pods: Pod) -> dict[str, str]:
    return {_ALONE: " ".join([*turn.notes.get(_ALONE, "").split(), *(pod.uid for pod in pods)])}


def _given_up(turn: Turn, *pods: Pod) -> dict[str, str]:
    """Leave those that we have no right to touch, and count them: somebody's namespace is not ours to repair."""
    return {**_kept(turn, *pods), _DENIED: str(int(turn.notes.get(_DENIED, "0")) + len(pods))}


def _denied(turn: Turn, pod: Pod, error: CallFailed) -> dict[str, str]:
    """Leave one that is denied us for good, and note since when another one is."""
    asked = _asked(turn)
    if turn.now >= asked.setdefault(pod.uid, turn.now) + DENIED_MS:
        return _given_up(turn, pod)
    return {_ASKED: _noted(asked), **_because(pod, error)}


def _heard(turn: Turn, pod: Pod) -> dict[str, str]:
    """Forget that it was denied: the API server says something else now."""
    asked = _asked(turn)
    return {_ASKED: _noted(asked)} if asked.pop(pod.uid, 0) else {}


def _asked(turn: Turn) -> dict[str, int]:
    """Return since when pods are denied us, by uid."""
    return {uid: int(at) for uid, _, at in (one.partition("@") for one in turn.notes.get(_ASKED, "").split())}


def _noted(asked: Mapping[str, int]) -> str:
    return " ".join(f"{uid}@{at}" for uid, at in asked.items())


def _because(pod: Pod, error: CallFailed) -> dict[str, str]:
    return {_REFUSED: f"{pod.reference}: {error}"}


def _place(pod: Pod) -> str:
    return f"{pod.namespace}/{pod.name}"
