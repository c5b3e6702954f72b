"""What is told of a `KafkaServiceDiscovery` in its status: conditions as Kubernetes knows them, and counts.

`Ready` is True when all others are. A reason is one word for programs, a message is for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MESSAGE_LENGTH = 2_000
"""Signs; the schema allows more, a terminal does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One statement. `holds` is None when it is not known."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""

    @property
    def status(self) -> str:
        return "Unknown" if self.holds is None else str(self.holds)


def ready(parts: Sequence[Condition]) -> Condition:
    """Return the condition that sums up the others: the first that is False, else the first unknown, is the reason."""
    for holds in (False, None):
        for part in parts:
            if part.holds is holds:
                return Condition(
                    type="Ready", holds=holds, reason=part.reason, message=f"{part.type}: {part.message or part.reason}"
                )
    return Condition(type="Ready", holds=True, reason="AllReady", message="")


def job_condition(observed: Mapping[str, Any] | None, *, suspended: bool) -> Condition:
    """Return how the route job is, by what the Flink operator says of it."""
    if observed is None:
        return Condition(type="JobReady", holds=False, reason="NotCreated", message="the FlinkDeployment is not there")
    status = observed.get("status") or {}
    state = str((status.get("jobStatus") or {}).get("state") or "")
    if error := status.get("error"):
        return Condition(type="JobReady", holds=False, reason="FlinkError", message=str(error)[:MESSAGE_LENGTH])
    if not status:
        message = "the Flink operator has not spoken yet; does it run, and watch this namespace?"
        return Condition(type="JobReady", holds=None, reason="NotObserved", message=message)
    seen = status.get("observedGeneration")
    if seen is not None and seen < observed["metadata"].get("generation", 0):
        return Condition(
            type="JobReady", holds=None, reason="Upgrading", message="the operator acts on the newest spec"
        )
    if suspended:
        done = status.get("lifecycleState") == "SUSPENDED"
        return Condition(type="JobReady", holds=False, reason="Suspended" if done else "Suspending")
    if state == "RUNNING":
        return Condition(type="JobReady", holds=True, reason="Running")
    return Condition(
        type="JobReady",
        holds=False,
        reason="NotRunning",
        message=f"job {state or 'unknown'}, JobManager {status.get('jobManagerDeploymentStatus') or 'unknown'}",
    )


def deployment_condition(kind: str, observed: Mapping[str, Any] | None) -> Condition:
    """Return whether a Deployment has all its pods, of its newest template."""
    if observed is None:
        return Condition(type=kind, holds=False, reason="NotCreated", message="the Deployment is not there")
    status, wanted = observed.get("status") or {}, observed["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < observed["metadata"].get("generation", 0):
        return Condition(type=kind, holds=None, reason="NotObserved", message="Kubernetes has not acted on it yet")
    there = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    if there >= wanted:
        return Condition(type=kind, holds=True, reason="Available", message=f"{there} of {wanted} pods")
    return Condition(type=kind, holds=False, reason="Unavailable", message=f"{there} of {wanted} pods")


def as_status(
    conditions: Iterable[Condition], before: Iterable[Mapping[str, Any]], *, generation: int, now: str
) -> list[dict[str, Any]]:
    """Return conditions as the API has them; `lastTransitionTime` moves only when the status does. `now`: RFC 3339."""
    known = {str(condition.get("type")): condition for condition in before}
    made = []
    for condition in conditions:
        old = known.get(condition.type, {})
        since = old.get("lastTransitionTime") if old.get("status") == condition.status else None
        made.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:MESSAGE_LENGTH],
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
            }
        )
    return made
