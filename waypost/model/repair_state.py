"""What is remembered of one target: its faults, what was tried, and until when it is left in peace.

An episode is a fault from beginning to end, (fingerprint, startsAt). Of each fingerprint the newest is kept, so that
a copy of an older notification changes nothing. Whatever has to be forgotten for want of room leaves its beginning
behind in `floor`: a forgotten fault that is told of again is stale and not new. So no order and no repetition of
notifications leads to a second repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from waypost.model.alert import Alert
from waypost.model.repair_action import Outcome, RepairAction, action_id
from waypost.model.repair_policy import MOST_ATTEMPTS
from waypost.model.repair_steps import undo

MAX_EPISODES = 256
"""Of one target. A service with more different alerts at once has other troubles; each costs about 1 KiB."""

STALE_MS = 12 * 3_600_000
"""An alert that nobody has repeated for so long is not believed any more: its end may have been lost. Three times what
an Alertmanager waits between two notifications (`repeat_interval`, 4 h by default)."""

_MAX_DOUBLINGS = 3
_PAUSE_MS = 10_000
"""Before what was not done is decided again; without it, two parts that disagree would ask each other all the time.
Doubled each time an id of the alert was used up: who refuses on state that stays (a strategy that takes all replicas
at once) is asked every eleven minutes in the end."""
_MAX_PAUSE_DOUBLINGS = 6


class Phase(str, Enum):
    """How far an episode has come. It ends in `RESOLVED`."""

    FIRING = "firing"
    IN_FLIGHT = "in-flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's word for one action, and for what it would do (`RepairAction.plan`)."""

    action_id: str
    by: str
    at: int
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One fault. `alert` is its newest notification, from `heard_at`, `action` what was last begun, `said` the last
    refusal told, `incident` what it is part of, "" for nothing.

    `owed` is what has to be taken back when the fault is over (`waypost.model.taking_back`), None for nothing; it is
    handed on when the fault begins again. `undo_since`: since when that is under way, 0: it is not. `undo_at`: when it
    is tried again. `undo_tries` were made."""

    alert: Alert
    first_seen: int
    phase: Phase = Phase.FIRING
    attempts: int = 0
    action: RepairAction | None = None
    asked_at: int = 0
    approval: Approval | None = None
    said: str = ""
    incident: str = ""
    heard_at: int = 0
    owed: RepairAction | None = None
    undo_since: int = 0
    undo_at: int = 0
    undo_tries: int = 0

    @property
    def finished(self) -> bool:
        """Tell whether nothing more is going to happen, so that it may be forgotten."""
        waits = self.awaits_outcome or self.owed is not None
        return not waits and self.phase in (Phase.RESOLVED, Phase.SUCCEEDED)

    def is_idle(self, now: int) -> bool:
        """Tell whether nobody has repeated the alert for long, and nothing is under way for it or owed."""
        return now >= self.stale_at and not self.awaits_outcome and self.owed is None

    @property
    def stale_at(self) -> int:
        """Return when the alert is not believed any more unless it is repeated, epoch ms."""
        return self.heard_at + STALE_MS

    @property
    def next_id(self) -> str:
        """Return the id of the next attempt, "" where nothing can be attempted."""
        alert = self.alert
        if alert.target is None:
            return ""
        return action_id(alert.target, alert.fingerprint, alert.starts_at, self.attempts + 1)

    @property
    def awaits_outcome(self) -> bool:
        """Tell whether an action is under way, for an alert that may be over meanwhile."""
        return self.action is not None and self.action.attempt > self.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """Episodes by fingerprint, oldest first, and what concerns all of them. `begun` are the times of attempts."""

    episodes: Mapping[str, Episode] = field(default_factory=dict)
    begun: tuple[int, ...] = ()
    cooldown_until: int = 0
    failures: int = 0
    floor: int = -1

    def with_episode(self, episode: Episode) -> TargetState:
        return replace(self, episodes={**self.episodes, episode.alert.fingerprint: episode})

    def in_flight(self) -> Episode | None:
        """Return the episode whose action is under way, None when the target is free."""
        return next((e for e in self.episodes.values() if e.awaits_outcome), None)

    @property
    def takes_back(self) -> bool:
        """Tell whether something that was done is being taken back."""
        return any(episode.undo_since for episode in self.episodes.values())

    def asked(self, now: int) -> list[Episode]:
        """Return the episodes about which time alone may change the answer."""
        return [e for e in self.episodes.values() if e.phase in (Phase.FIRING, Phase.FAILED) and now < e.stale_at]

    def with_room(self, now: int) -> TargetState | None:
        """Return the state with room for one more episode, None when all of them are unfinished and believed."""
        if len(self.episodes) < MAX_EPISODES:
            return self
        oldest = next((name for name, e in self.episodes.items() if e.finished or e.is_idle(now)), None)
        if oldest is None:
            return None
        rest = {name: e for name, e in self.episodes.items() if name != oldest}
        return replace(self, episodes=rest, floor=max(self.floor, self.episodes[oldest].alert.starts_at))


EMPTY = TargetState()


def noted(state: TargetState, alert: Alert, now: int) -> TargetState | None:
    """Return the state after a notification; None when it is about a fault that is over, older or unknown for want of
    room, and changes nothing."""
    known = state.episodes.get(alert.fingerprint)
    if known is not None and alert.starts_at < known.alert.starts_at:
        return None
    if known is not None and alert.starts_at == known.alert.starts_at:
        if known.phase is Phase.RESOLVED:
            return None
        phase = known.phase if alert.firing else Phase.RESOLVED
        return state.with_episode(replace(known, alert=alert, phase=phase, heard_at=now))
    if known is not None and known.awaits_outcome:
        # The fault came back while its repair is under way: that repair is the answer, and its outcome is kept.
        return state.with_episode(
            replace(known, alert=alert, phase=Phase.IN_FLIGHT if alert.firing else Phase.RESOLVED, heard_at=now)
        )
    if known is None and alert.starts_at <= state.floor:
        return None
    room = state if known is not None else state.with_room(now)
    if room is None:
        return None
    phase = Phase.FIRING if alert.firing else Phase.RESOLVED
    fresh = Episode(alert=alert, first_seen=now, heard_at=now, phase=phase)
    if known is not None:
        # Nobody said that the former one was over. What was done for it is there all the same.
        fresh = replace(
            fresh, owed=known.owed, undo_since=known.undo_since, undo_at=known.undo_at, undo_tries=known.undo_tries
        )
    return room.with_episode(fresh)


def begun(state: TargetState, action: RepairAction, now: int) -> TargetState:
    """Return the state once an action was decided. From now on the target is busy until `settled`."""
    episode = state.episodes[action.fingerprint]
    running = replace(episode, phase=Phase.IN_FLIGHT, action=action, said="")
    return replace(state.with_episode(running), begun=(*state.begun, now)[-MOST_ATTEMPTS:])


def settled(state: TargetState, action_id: str, outcome: Outcome, cooldown_ms: int, now: int) -> TargetState | None:
    """Return the state after the outcome of the action under way; None when it is not about that."""
    episode = state.in_flight()
    if episode is None or episode.action is None or episode.action.id != action_id:
        return None
    if outcome is Outcome.NOT_DONE:
        # It does not count as an attempt, but its id is used up: nobody has to ask who might still hold the old one.
        phase = Phase.RESOLVED if episode.phase is Phase.RESOLVED else Phase.FIRING
        back = replace(episode, phase=phase, attempts=episode.action.attempt, approval=None, asked_at=0)
        pause = _PAUSE_MS * 2 ** min(episode.action.attempt - 1, _MAX_PAUSE_DOUBLINGS)
        until = max(state.cooldown_until, now + pause)
        return replace(state.with_episode(back), begun=state.begun[:-1], cooldown_until=until)
    good = outcome is Outcome.SUCCEEDED
    phase = Phase.SUCCEEDED if good else Phase.FAILED
    if episode.phase is Phase.RESOLVED:
        phase = Phase.RESOLVED
    after = replace(episode, phase=phase, attempts=episode.action.attempt, approval=None, asked_at=0)
    if episode.action.undo and undo(episode.action.steps):
        after = replace(after, owed=episode.action, undo_tries=0)
    failures = 0 if good else state.failures + 1
    wait = cooldown_ms * 2 ** min(max(failures - 1, 0), _MAX_DOUBLINGS)
    return replace(state.with_episode(after), failures=failures, cooldown_until=max(state.cooldown_until, now + wait))
