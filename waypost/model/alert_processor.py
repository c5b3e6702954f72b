"""All decisions about one target, one event after the other: what the repair job does per key, and `waypost policy
test` with recorded alerts.

Every method returns the new state and what is to be told, in order; it acts on nothing. A copy of a notification, a
replay and another order of alerts lead to the same episodes. A refusal that only repeats itself when time passes is
told once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from waypost.model.alert import Alert
from waypost.model.refusals import Reason
from waypost.model.repair import Observed, Refusal, decide
from waypost.model.repair_action import LOST_MS, Outcome, RepairAction, forgotten
from waypost.model.repair_policy import Mode, PolicySet
from waypost.model.repair_state import Approval, Episode, Phase, TargetState, begun, noted, settled
from waypost.model.repair_steps import Do
from waypost.model.taking_back import after_outcome, taken_back


@dataclass(frozen=True, slots=True)
class Decided:
    """An alert and what was decided about it."""

    alert: Alert
    decision: RepairAction | Refusal


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The fault of this action is over: whoever has not begun it must not."""

    alert: Alert
    action: RepairAction


Told = Decided | Cancelled


@dataclass(frozen=True, slots=True)
class Processed:
    """The state afterwards, what is to be told, and when to ask again (epoch ms; None: with the next event)."""

    state: TargetState
    told: tuple[Told, ...] = ()
    ask_at: int | None = None


@dataclass(frozen=True, slots=True)
class AlertProcessor:
    """The decisions under one set of policies. In `observed`, `state` is the target's."""

    policies: PolicySet

    def on_alert(self, observed: Observed, alert: Alert, now: int) -> Processed:
        """Take a notification."""
        before = observed.state
        after = noted(before, alert, now)
        if after is None:
            # Judged as it is: older, over, or one too many. It leaves no trace but the record.
            return self._asking(before, (Decided(alert, decide(observed, alert, None, now)),), now)
        if not alert.firing:
            return self._on_end(before, after, alert, observed, now)
        episode = after.episodes[alert.fingerprint]
        policy = self.policies.policy_for(alert)
        if policy is not None and episode.asked_at and now >= episode.asked_at + policy.approval_ms:
            after = after.with_episode(replace(episode, asked_at=0))  # a new notification asks again
        state, told = self._decided(replace(observed, state=after), after.episodes[alert.fingerprint], now)
        return self._asking(state, (told,), now)

    def on_time(self, observed: Observed, now: int) -> Processed:
        """Ask again for every alert that waits; the oldest first, because only one repair of a target runs."""
        state, told = observed.state, list[Told]()
        running = state.in_flight()
        if running is not None and running.action is not None and now >= _given_up_at(running.action):
            lost = settled(state, running.action.id, Outcome.FAILED, running.action.cooldown_ms, now)
            assert lost is not None
            told.append(Decided(running.alert, Refusal(reason=Reason.EXPIRED, detail=running.action.id)))
            state = lost
        for fingerprint in list(state.episodes):
            episode = state.episodes[fingerprint]
            if episode.phase in (Phase.FIRING, Phase.FAILED):
                state, one = self._decided(replace(observed, state=state), episode, now)
                if isinstance(one.decision, RepairAction) or _said(one.decision) != episode.said:
                    told.append(one)
        return self._asking(state, tuple(told), now)

    def on_result(self, state: TargetState, action: str, outcome: Outcome, now: int) -> Processed:
        """Take the outcome of an action; one that nobody waits for changes nothing."""
        running = state.in_flight()
        after = after_outcome(state, action, outcome, now)
        if after is None and running is not None and running.action is not None:
            after = settled(state, action, outcome, running.action.cooldown_ms, now)
        return self._asking(after or state, (), now)

    def on_approval(self, observed: Observed, approval: Approval, now: int) -> Processed:
        """Take a person's word for an action that was asked for; any other changes nothing. It is kept until it
        expires: what stands in the way now may be over by then. A clock that is ahead does not make it last longer."""
        for episode in observed.state.episodes.values():
            if episode.asked_at and not episode.awaits_outcome and episode.next_id == approval.action_id:
                word = replace(approval, at=min(approval.at, now))
                state = observed.state.with_episode(replace(episode, approval=word))
                return self.on_time(replace(observed, state=state), now)
        return self._asking(observed.state, (), now)

    def on_part(self, observed: Observed, incident: str, fingerprints: Iterable[str], now: int) -> Processed:
        """Take the news that these alerts are part of an incident, "": of none any more. What was decided for one of
        them and has not begun is let go: the incident is decided instead."""
        state, told = observed.state, list[Told]()
        for fingerprint in fingerprints:
            episode = state.episodes.get(fingerprint)
            if episode is None or episode.incident == incident:
                continue
            state = state.with_episode(replace(episode, incident=incident))
            if incident and episode.awaits_outcome and episode.action is not None and not episode.action.undoes:
                told.append(Cancelled(episode.alert, episode.action))
        if state is observed.state:
            return self._asking(state, (), now)
        after = self.on_time(replace(observed, state=state), now)
        return replace(after, told=(*told, *after.told))

    def on_resume(self, state: TargetState, now: int) -> Processed:
        """Take a person's word that the target may be repaired again: attempts and cooldown are forgotten."""
        free = state.begun[-1:] if state.in_flight() is not None else ()
        return self._asking(replace(state, begun=free, cooldown_until=0, failures=0), (), now)

    def _decided(self, observed: Observed, episode: Episode, now: int) -> tuple[TargetState, Decided]:
        alert = episode.alert
        seen = replace(observed, incident=episode.incident)
        decision = decide(seen, alert, self.policies.policy_for(alert), now)
        if isinstance(decision, RepairAction):
            return begun(observed.state, decision, now), Decided(alert, decision)
        asked_at = episode.asked_at
        if decision.reason is Reason.NEEDS_APPROVAL:
            asked_at = asked_at or now
        said = replace(episode, said=_said(decision), asked_at=asked_at)
        return observed.state.with_episode(said), Decided(alert, decision)

    def _on_end(self, before: TargetState, after: TargetState, alert: Alert, observed: Observed, now: int) -> Processed:
        told: list[Told] = [Decided(alert, decide(replace(observed, state=after), alert, None, now))]
        episode = after.episodes[alert.fingerprint]
        known = before.episodes.get(alert.fingerprint)
        if known is not None and known.phase is not Phase.RESOLVED:
            if episode.awaits_outcome and episode.action is not None:
                told.append(Cancelled(alert, episode.action))
            elif episode.action is None and episode.owed is None:
                after = after.with_episode(replace(episode, owed=self._forgotten(episode, now)))
        return self._asking(after, tuple(told), now)

    def _forgotten(self, episode: Episode, now: int) -> RepairAction | None:
        """Return the repair of a node that nobody remembers, None where there can be none.

        A crash forgets what was decided since the last checkpoint, and with it that a node was cordoned. If its alert
        is still firing, the same is decided again and finds it done. If it ends first, nothing would ever be decided;
        so the end of a node's alert without an action asks the node itself.
        """
        alert, policy = episode.alert, self.policies.policy_for(episode.alert)
        if alert.target is None or not alert.target.is_node or policy is None:
            return None
        if not policy.undo or policy.mode is Mode.SHADOW or all(step.do is not Do.CORDON for step in policy.steps):
            return None
        return forgotten(alert, alert.target, policy, episode.attempts + 1, now)

    def _asking(self, state: TargetState, told: tuple[Told, ...], now: int) -> Processed:
        """Take back what is due, and say when to ask again: one timer for the target, however many alerts wait."""
        back = taken_back(state, self.policies, now)
        state = back.state
        told += tuple(Cancelled(episode.alert, action) for episode, action in back.lost)
        told += tuple(Decided(episode.alert, action) for episode, action in back.asked)
        times = [_given_up_at(e.action) for e in state.episodes.values() if e.awaits_outcome and e.action is not None]
        if not times and state.asked(now):
            times = [now + _ASK_MS, *(at for one in told if (at := _retry_at(one)) is not None)]
        if back.ask_at is not None:
            times.append(back.ask_at)
        return Processed(state, told, max(min(times), now + 1) if times else None)


_ASK_MS = 30_000
"""Whatever fires is asked again at least so often: policies, the switch and labels change without an event of the
target, and a policy that stops being shadow need not wait for the next notification."""


def _said(refusal: Refusal) -> str:
    """Return what makes a refusal another one than that told last: what a person is asked to approve, too."""
    asks = refusal.would is not None and refusal.reason is Reason.NEEDS_APPROVAL
    return f"{refusal.reason.value} {refusal.would.plan}" if asks and refusal.would else refusal.reason.value


def _retry_at(told: Told) -> int | None:
    return told.decision.retry_at if isinstance(told, Decided) and isinstance(told.decision, Refusal) else None


def _given_up_at(action: RepairAction) -> int:
    return action.decided_at + LOST_MS
