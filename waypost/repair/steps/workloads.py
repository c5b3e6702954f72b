"""Restart and scale: one patch each that carries its own claim, so that it is made once whoever makes it."""

from __future__ import annotations

from waypost.model.names import ServiceKey
from waypost.model.repair_steps import Do
from waypost.repair.claims import RESTARTED, claim_of, with_claim
from waypost.repair.objects import DAEMON_SET, Workload
from waypost.repair.steps.belonging import workload_for
from waypost.repair.steps.progress import HOLDS, Check, Progress, Turn, already, done, failed, left, too_many

KIND, NAME, WANTED, READY = "kind", "workload", "wanted", "ready"


def noted(workload: Workload) -> dict[str, str]:
    """Return what a step notes of the workload before it changes it."""
    return {
        KIND: workload.kind, NAME: workload.name, WANTED: str(workload.replicas), READY: str(workload.ready),
    }  # fmt: skip


def restart(turn: Turn) -> Progress:
    """Let the workload replace its pods, by its own strategy for that, unless the strategy takes too many at once."""
    workload = _found(turn, turn.text("workload"))
    if not isinstance(workload, Workload):
        return failed(workload)
    notes = noted(workload)
    if claim_of(workload.annotations, turn.claim) is not None:
        return already(f"{workload.reference} was restarted", workload.reference, **notes)
    if workload.opted_out:
        return left(workload.reference)
    if (refused := too_many(turn, max(1, turn.around.takes, workload.at_once))) is not None:
        return refused
    turn.cluster.change_workload(
        workload,
        annotations=with_claim(workload.annotations, turn.claim, "restart"),
        template={RESTARTED: turn.action.id},
    )
    return done(f"{workload.reference} restarts", workload.reference, **notes)


def scale(turn: Turn) -> Progress:
    """Ask for more replicas, to a limit. A workload that is at its limit is a person's affair."""
    workload = _found(turn, "")
    if not isinstance(workload, Workload):
        return failed(workload)
    notes = noted(workload)
    before = claim_of(workload.annotations, turn.claim)
    if before is not None:
        return already(f"{workload.reference} was scaled {before}", workload.reference, **notes)
    if workload.opted_out:
        return left(workload.reference)
    if workload.kind == DAEMON_SET:
        return failed(f"{workload.reference} has one replica per node", workload.reference)
    wanted = min(workload.replicas + turn.number("by"), turn.number("at_most"))
    if wanted <= workload.replicas:
        return failed(f"{workload.reference} has {workload.replicas} replicas, the most it may", workload.reference)
    told = f"{workload.replicas}->{wanted}"
    turn.cluster.change_workload(
        workload, annotations=with_claim(workload.annotations, turn.claim, told), replicas=wanted
    )
    return done(f"{workload.reference} is scaled {told}", workload.reference, **notes)


def stands(turn: Turn) -> Check:
    """Tell whether the workload that a step noted has all of its replicas, new and Ready, and the service's table has
    their endpoints."""
    if NAME not in turn.notes:
        return HOLDS
    kind, name = turn.notes[KIND], turn.notes[NAME]
    workload = turn.cluster.workload(kind, turn.action.target.namespace, name)
    if workload is None:
        return Check(False, f"{kind.lower()} {name} is gone")
    if not workload.settled:
        return Check(False, f"{workload.reference}: {workload.progress}")
    if turn.around.healthy < 0 or any(step.do is Do.ISOLATE for step in turn.action.steps):
        return HOLDS
    ready, wanted = (int(turn.notes.get(name, "-1")) for name in (READY, WANTED))
    expected = endpoints(turn.around.healthy, ready, wanted, workload.replicas)
    return Check(turn.table >= expected, f"{turn.table} endpoints in the table, {expected} are to be")


def endpoints(healthy: int, ready: int, wanted: int, now: int) -> int:
    """Return how many endpoints a table has to have when a workload is whole again. `healthy`: how many it had at the
    grant; then `ready` of `wanted` replicas were Ready (-1: nobody knows), and `now` are wanted.

    The one that crashed has often left the table before the grant. So where every Ready replica was in it, every
    replica has to be; where not all of them register (one leads), as many as there were. A workload that was made
    smaller since needs no more than its share.
    """
    before = max(healthy, wanted) if 0 <= ready <= healthy else healthy
    return before * now // wanted if 0 <= now < wanted else before


def claimed(turn: Turn) -> bool:
    """Tell whether the workload knows of this step."""
    named = str(turn.step.parameters.get("workload", ""))
    workload = workload_for(turn.cluster, ServiceKey(*turn.action.target), named, turn.action.pod)
    return isinstance(workload, Workload) and claim_of(workload.annotations, turn.claim) is not None


def _found(turn: Turn, named: str) -> Workload | str:
    target = turn.action.target
    if NAME in turn.notes:
        kept = turn.cluster.workload(turn.notes[KIND], target.namespace, turn.notes[NAME])
        return kept if kept is not None else f"{turn.notes[KIND].lower()} {turn.notes[NAME]} is gone"
    return workload_for(turn.cluster, ServiceKey(*target), named, turn.action.pod)
