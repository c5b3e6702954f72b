"""What was decided has to be allowed still when its turn comes: policies change, and windows open, while it waits."""

from __future__ import annotations

from waypost.model.refusals import Reason
from waypost.model.repair import Refusal, steps_of
from waypost.model.repair_action import RepairAction
from waypost.model.repair_policy import Mode, PolicySet


def objection(action: RepairAction, policies: PolicySet, now: int) -> Refusal | None:
    """Return why the policies in force do not let a decided action begin at `now` (epoch ms), None when they do.

    With `retry_at` it may begin later. Taking back is always allowed: it undoes what was allowed then.
    """
    if action.undoes:
        return None
    policy = next((one for one in policies.policies if one.name == action.policy), None)
    if policy is None:
        return Refusal(reason=Reason.NO_POLICY, detail=f"{action.policy} is not in force any more")
    if policy.mode is Mode.SHADOW:
        return Refusal(reason=Reason.SHADOW, detail=f"{action.policy} does not act any more")
    if policy.mode is Mode.APPROVE and policy.guards.version != action.policy_version:
        return Refusal(reason=Reason.NEEDS_APPROVAL, detail=f"{action.policy} may ask for approval only since then")
    if steps_of(policy, action.target, action.pod) != action.steps:
        return Refusal(reason=Reason.NO_POLICY, detail=f"{action.policy} has other steps by now")
    if action.target.namespace in policies.guards.protected_namespaces:
        return Refusal(reason=Reason.PROTECTED_NAMESPACE, detail=action.target.namespace)
    closes_at = policies.guards.closes_at(now)
    return None if closes_at is None else Refusal(reason=Reason.MAINTENANCE, retry_at=closes_at)
