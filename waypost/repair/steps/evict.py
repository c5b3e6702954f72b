"""Evict one pod that an alert names.

Its workload is told first (a claim with the pod's uid), then the eviction is asked for. So a pod of a StatefulSet,
whose successor has the same name, goes once: whoever comes again finds the claim, and another uid.
"""

from __future__ import annotations

from waypost.model.names import ServiceKey
from waypost.model.repair_steps import Do
from waypost.repair.claims import claim_of, with_claim
from waypost.repair.objects import Workload
from waypost.repair.port import NotNow
from waypost.repair.steps.belonging import belongs, workload_for
from waypost.repair.steps.progress import Check, Progress, Turn, already, done, failed, left, too_many, wait
from waypost.repair.steps.workloads import noted, stands
from waypost.wire.repair_results import StepOutcome

PATIENCE_MS = 300_000
"""How long a disruption budget may refuse."""
ASK_MS = 5_000

_UID = "uid"


def evict(turn: Turn) -> Progress:
    """Evict the pod of the action, within its disruption budget."""
    target, name = turn.action.target, turn.action.pod
    pod = turn.cluster.pod(target.namespace, name)
    if pod is None and _UID not in turn.notes:
        found = workload_for(turn.cluster, ServiceKey(*target), "", "")
        notes = noted(found) if isinstance(found, Workload) else {}
        return already(f"pod {target.namespace}/{name} is gone", None, **notes)
    if pod is None or pod.uid != turn.notes.get(_UID, pod.uid):
        return done(f"pod {target.namespace}/{name} is gone")
    if pod.opted_out:
        return left(pod.reference)
    if _UID in turn.notes:
        if pod.deleting:
            return done(f"{pod.reference} goes", pod.reference)
        if (refused := too_many(turn, _takes(turn))) is not None:
            return refused
        try:
            turn.cluster.evict(pod)
        except NotNow as error:
            if turn.now >= turn.since + PATIENCE_MS:
                return failed(f"{pod.reference}: {error}", pod.reference)
            return wait(str(error), ASK_MS)
        return done(f"{pod.reference} is evicted", pod.reference)
    workload = turn.cluster.workload_of(pod)
    if workload is None:
        return failed(f"nothing would make {pod.reference} anew", pod.reference)
    if workload.opted_out:
        return left(workload.reference)
    if not belongs(turn.cluster, ServiceKey(*target), pod, workload):
        return failed(f"{pod.reference} is not one of {target}", pod.reference)
    notes = noted(workload)
    claimed = claim_of(workload.annotations, turn.claim)
    if claimed is None:
        turn.cluster.change_workload(workload, annotations=with_claim(workload.annotations, turn.claim, pod.uid))
        claimed = pod.uid
    if claimed != pod.uid:
        return already(f"an earlier {pod.reference} was evicted", pod.reference, **notes)
    return wait("claimed", 0, **{_UID: claimed}, **notes)


def _takes(turn: Turn) -> int:
    """Return how many endpoints go with the pod, as the tables know it: none when it was taken out of them before. A
    pod that was in no table may have come back since."""
    if any(one.do is Do.ISOLATE and one.outcome is StepOutcome.DONE for one in turn.results):
        return 0
    return turn.around.takes or min(1, max(0, turn.table - turn.around.healthy))


def replaced(turn: Turn) -> Check:
    """Tell whether the pod is gone and its workload complete."""
    pod = turn.cluster.pod(turn.action.target.namespace, turn.action.pod)
    if pod is not None and pod.uid == turn.notes.get(_UID):
        return Check(False, f"{pod.reference} is still there")
    return stands(turn)
