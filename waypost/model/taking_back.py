"""Taking back: what a repair did to its target ends with the fault, and not before the last fault that wants the same.

An episode *owes* what its last attempt did that can be undone (`Episode.owed`). It is taken back when

    the fault is over, and no other fault of the target that is not over has done the same, or would,
    and nothing else is under way on the target

and asked for again, later each time, until it is done: an API server that was away, a switch that was off and a full
queue leave no node cordoned for ever. Each try has an id of its own, because no id acts twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from waypost.model.repair_action import LOST_MS, Outcome, RepairAction, undo_id
from waypost.model.repair_policy import Mode, PolicySet
from waypost.model.repair_state import Episode, Phase, TargetState
from waypost.model.repair_steps import UNDONE_BY, Do, Step, undo

FIRST_PAUSE_MS = 30_000
"""After the first try that was not done; doubled by each. The executor itself has tried for minutes by then."""
LONGEST_PAUSE_MS = 1_800_000


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The state once everything that is due was asked for. `lost`: earlier tries whose outcome never came, with their
    episodes: whoever has not begun them must not. `ask_at`: when to look again (epoch ms), None: with the next
    event."""

    state: TargetState
    asked: tuple[tuple[Episode, RepairAction], ...] = ()
    lost: tuple[tuple[Episode, RepairAction], ...] = ()
    ask_at: int | None = None


def taken_back(state: TargetState, policies: PolicySet, now: int) -> TakenBack:
    """Ask for whatever is to be taken back by now. The same arguments give the same answer."""
    asked, lost, times = list[tuple[Episode, RepairAction]](), list[tuple[Episode, RepairAction]](), list[int]()
    for episode in state.episodes.values():
        if (since := episode.undo_since) and now >= since + LOST_MS:
            lost.append((episode, _try_of(episode, since)))
            state = state.with_episode(_put_off(episode, now, now))
    busy = state.in_flight() is not None
    for episode in state.episodes.values():
        if episode.owed is None:
            continue
        if episode.undo_since:
            times.append(episode.undo_since + LOST_MS)
        elif episode.phase is Phase.RESOLVED and not episode.awaits_outcome:
            at = max([episode.undo_at, *(other.stale_at for other in _wanting(state, episode, policies, now))])
            if at > now:
                times.append(at)
            elif not busy:
                begun = replace(episode, undo_since=now, undo_tries=episode.undo_tries + 1)
                state = state.with_episode(begun)
                asked.append((begun, _try_of(begun, now)))
                times.append(now + LOST_MS)
    return TakenBack(state, tuple(asked), tuple(lost), min(times, default=None))


def after_outcome(state: TargetState, action_id: str, outcome: Outcome, now: int) -> TargetState | None:
    """Return the state after the outcome of taking something back; None when it is about nothing of that kind."""
    for episode in state.episodes.values():
        if episode.owed is None or not episode.undo_since or _id_of(episode, episode.owed) != action_id:
            continue
        if outcome is Outcome.SUCCEEDED:
            return state.with_episode(replace(episode, owed=None, undo_since=0, undo_at=0, undo_tries=0))
        pause = min(FIRST_PAUSE_MS * 2 ** min(episode.undo_tries - 1, 10), LONGEST_PAUSE_MS)
        return state.with_episode(_put_off(episode, now + pause, now))
    return None


def _put_off(episode: Episode, until: int, now: int) -> Episode:
    return replace(episode, undo_since=0, undo_at=max(until, now))


def _id_of(episode: Episode, owed: RepairAction) -> str:
    return undo_id(owed.id, episode.undo_tries)


def _try_of(episode: Episode, now: int) -> RepairAction:
    owed = episode.owed
    assert owed is not None
    return replace(owed, id=_id_of(episode, owed), undoes=owed.id, steps=undo(owed.steps), decided_at=now, granted_at=0)


def _wanting(state: TargetState, ended: Episode, policies: PolicySet, now: int) -> list[Episode]:
    """Return the faults that are not over for which the same was done, or would be."""
    assert ended.owed is not None
    found = []
    for other in state.episodes.values():
        if other.phase is Phase.RESOLVED or now >= other.stale_at or _subject(other) != _subject(ended):
            continue
        policy = policies.policy_for(other.alert)
        wanted = policy.steps if policy is not None and policy.mode is not Mode.SHADOW else ()
        done = [action.steps for action in (other.owed, other.action) if action is not None]
        if _undoable(ended.owed.steps) & _undoable(wanted).union(*map(_undoable, done)):
            found.append(other)
    return found


def _subject(episode: Episode) -> str:
    """Return what of its target a fault is about: a node is one thing, a service has pods."""
    target = episode.alert.target
    return "" if target is not None and target.is_node else episode.alert.pod


def _undoable(steps: tuple[Step, ...]) -> set[Do]:
    return {step.do for step in steps if step.do in UNDONE_BY}
