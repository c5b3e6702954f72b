"""Whether an alert leads to a repair: one decision, from what is known and nothing else.

    Every alert is refused unless everything below lets it pass, in this order:
    switch → target → the fault's state → policy → guards → incident → attempts → one at a time → time → mode

What is refused says why (`waypost.model.refusals`), and when to ask again if asking again makes sense. Whether the
repair takes too much from a service or from the cluster is not known here: the budget decides that afterwards
(`waypost.model.budget`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from waypost.model.alert import Alert, Target
from waypost.model.kill_switch import STALE_MS, UNREAD, Control
from waypost.model.refusals import Reason
from waypost.model.repair_action import RepairAction, planned
from waypost.model.repair_policy import Mode, RepairPolicy
from waypost.model.repair_state import EMPTY, Episode, Phase, TargetState
from waypost.model.repair_steps import REFUSE, Do, Step

RETRY_MS = 30_000
"""When what waits for the world to change is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Nothing is done. `retry_at`: ask again then, None: wait for news. `would`: what would have been done."""

    reason: Reason
    detail: str = ""
    retry_at: int | None = None
    would: RepairAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known when an alert is decided. `labels` are those of the target itself, as far as anybody told.
    `incident` names the incident that the alert belongs to, "" for none."""

    control: Control = UNREAD
    state: TargetState = EMPTY
    labels: Mapping[str, str] = field(default_factory=dict)
    incident: str = ""


def decide(observed: Observed, alert: Alert, policy: RepairPolicy | None, now: int) -> RepairAction | Refusal:
    """Return what to do about an alert at `now`, epoch ms. The state must know the alert already (`noted`).

    The same arguments give the same answer, and nothing is changed: calling this is a dry run.
    """
    target = alert.target
    stopped = observed.control.refuses(now)
    if stopped is not None:
        return Refusal(reason=stopped, retry_at=now + STALE_MS)
    if target is None or (target.is_node and alert.service):
        return Refusal(reason=Reason.NO_TARGET)
    if not target.namespace:
        return Refusal(reason=Reason.NO_NAMESPACE, detail=f"service {target.name}")
    episode = observed.state.episodes.get(alert.fingerprint)
    if not alert.firing or (episode is not None and episode.phase is Phase.RESOLVED):
        return Refusal(reason=Reason.RESOLVED)
    if episode is None or alert.starts_at < episode.alert.starts_at:
        stale = alert.starts_at <= observed.state.floor or episode is not None
        return Refusal(reason=Reason.STALE if stale else Reason.TOO_MANY_ALERTS)
    if now >= episode.stale_at:
        return Refusal(reason=Reason.NOT_REPEATED)
    if policy is None or not policy.covers(alert):
        return Refusal(reason=Reason.NO_POLICY, detail=f"type {alert.type}")
    return (
        _guarded(observed, alert, policy, target, now)
        or _too_often(observed.state, episode, policy, now)
        or _too_early(observed.state, episode, policy, now)
        or _by_mode(alert, policy, target, episode, now)
    )


def _guarded(observed: Observed, alert: Alert, policy: RepairPolicy, target: Target, now: int) -> Refusal | None:
    guards = policy.guards
    if target.namespace in guards.protected_namespaces:
        return Refusal(reason=Reason.PROTECTED_NAMESPACE, detail=target.namespace)
    if guards.opted_out(alert.labels) or guards.opted_out(observed.labels):
        return Refusal(reason=Reason.OPTED_OUT, detail=f"label {guards.opt_out_label}")
    closes_at = guards.closes_at(now)
    if closes_at is not None:
        return Refusal(reason=Reason.MAINTENANCE, retry_at=closes_at)
    if observed.incident:
        return Refusal(reason=Reason.PART_OF_INCIDENT, detail=observed.incident)
    return None


def _too_often(state: TargetState, episode: Episode, policy: RepairPolicy, now: int) -> Refusal | None:
    running = state.in_flight()
    if running is not None:
        if running.alert.fingerprint == episode.alert.fingerprint:
            return Refusal(reason=Reason.IN_FLIGHT)
        return Refusal(reason=Reason.TARGET_BUSY, retry_at=now + RETRY_MS)
    if state.takes_back:
        return Refusal(reason=Reason.TARGET_BUSY, retry_at=now + RETRY_MS)
    if episode.phase is Phase.SUCCEEDED:
        return Refusal(reason=Reason.ALREADY_REPAIRED)
    counted = [at for at in state.begun if at > now - policy.attempts_ms]
    if len(counted) >= policy.max_attempts:
        return Refusal(
            reason=Reason.HUMAN_NEEDED,
            detail=f"{len(counted)} attempts in {policy.attempts_ms // 60_000} min",
            retry_at=counted[-policy.max_attempts] + policy.attempts_ms,
        )
    return None


def _too_early(state: TargetState, episode: Episode, policy: RepairPolicy, now: int) -> Refusal | None:
    if now < state.cooldown_until:
        return Refusal(reason=Reason.COOLDOWN, retry_at=state.cooldown_until)
    if now < episode.first_seen + policy.wait_ms:
        return Refusal(reason=Reason.WAITING, retry_at=episode.first_seen + policy.wait_ms)
    return None


def _by_mode(alert: Alert, policy: RepairPolicy, target: Target, episode: Episode, now: int) -> RepairAction | Refusal:
    steps = steps_of(policy, target, alert.pod)
    if steps is None:
        return Refusal(reason=Reason.NO_POD)
    action = planned(alert, target, policy, steps, episode.attempts + 1, now)
    if policy.mode is Mode.ACT:
        return action
    if policy.mode is Mode.SHADOW:
        return Refusal(reason=Reason.SHADOW, would=action)
    word = episode.approval
    is_for_this = word is not None and (word.action_id, word.plan) == (action.id, action.plan)
    if word is not None and is_for_this and now < word.at + policy.approval_ms:
        return action
    asked_at = episode.asked_at or now
    if now >= asked_at + policy.approval_ms:
        return Refusal(reason=Reason.APPROVAL_EXPIRED, would=action)
    return Refusal(reason=Reason.NEEDS_APPROVAL, retry_at=asked_at + policy.approval_ms, would=action)


def steps_of(policy: RepairPolicy, target: Target, pod: str) -> tuple[Step, ...] | None:
    """Return the steps for an alert about this pod ("": it names none), None when they need one."""
    steps = []
    for step in policy.steps:
        if pod or target.is_node or step.do not in (Do.EVICT_POD, Do.ISOLATE):
            steps.append(step)
        elif step.do is Do.ISOLATE or step.parameters["when_unnamed"] == REFUSE:
            return None
        else:
            steps.append(Step.of(Do.RESTART))
    return tuple(steps)
