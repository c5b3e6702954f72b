"""All instances the agent looks after, what the log was told of each, and what is still to be told.

    register ─► STARTING ─ first look passed ─► UP ─ drain ─► DRAINING ─ deregister ─► LEAVING ─ told ─► forgotten
                (without a check at once)

Pure: no clock, no threads, no I/O; `now` is in seconds of a clock that never jumps.

What is to be told is not a queue but a difference: between what is so and what the log has acknowledged. So while Kafka
is away it holds one word per instance at most, the last one; a service that flaps through an outage is told once. The
same word may be told twice, when its acknowledgement was lost; all words are such that this changes nothing.

Beats are never kept: one that could not be sent is made good by the next, which is due at once.

An instance whose check fails is told to fail, and is not beaten for until the check passes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from waypost.agent.member import Member, Who
from waypost.client.health_checks import FAILS, Verdicts
from waypost.client.registration import BEATS_PER_LEASE
from waypost.errors import WaypostError
from waypost.model.events import InstanceEvent, Op
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.stamp import ORIGIN

MAX_MEMBERS = 1_000
"""Of one agent. More are a mistake, or somebody's script gone wild; ten times as many need ten times the memory."""

EARLY = 2 / 3
"""An instance is beaten for with the others from a third of its time on, so that one record does for all. With half of
it, two crowds that began half a period apart stayed apart."""


class Stage(str, Enum):
    """Where an instance is in its life, as its owner and its first look have it."""

    STARTING = "STARTING"
    UP = "UP"
    DRAINING = "DRAINING"
    LEAVING = "LEAVING"


_DECLARED = {Stage.STARTING: Declared.STARTING, Stage.UP: Declared.UP, Stage.DRAINING: Declared.DRAINING}


class TooMany(WaypostError):
    """The agent looks after as many instances as it may; the caller deregisters some, or asks another agent."""


class UnknownMember(WaypostError):
    """The agent looks after no such instance; the caller registers it first."""

    def __init__(self, who: Who) -> None:
        super().__init__(f"this agent has not registered {who.instance!r} of {who.service!r}: register it first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the log has acknowledged of an instance. `stage` None: nothing. `tried`: it may have heard of it all the
    same."""

    stage: Stage | None = None
    health: Health = Health.UNKNOWN
    tried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One instance: what is so, and what the log was told. `number` changes with every registration."""

    member: Member
    stage: Stage
    health: Health = Health.UNKNOWN
    told: Told = Told()
    number: int = 0
    beat_at: float = 0.0
    """When it is beaten for next."""
    period: float = 0.0
    is_doubted: bool = False
    """It was taken over and nobody has looked since: it may have died long ago, and a beat would make it live again."""

    @property
    def is_told(self) -> bool:
        """Whether the log has acknowledged what is so."""
        return word(self) is None

    @property
    def is_beaten_for(self) -> bool:
        """Whether it is on the log and lives, as far as anybody knows."""
        is_known = self.told.stage is not None and self.stage is not Stage.LEAVING
        return is_known and self.health is not Health.FAIL and not self.is_doubted


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One thing to tell the log of an instance, and what is told when it has been."""

    op: Op
    declared: Declared | None = None
    health: Health | None = None
    leads_to: Told | None
    """None: then it can be forgotten."""


def word(standing: Standing) -> Word | None:
    """Return what is to be told next of an instance; None when the log knows all."""
    told, stage = standing.told, standing.stage
    if stage is Stage.LEAVING:
        return Word(op=Op.DEREGISTER, leads_to=None)
    if told.stage is None:
        return Word(op=Op.REGISTER, declared=_DECLARED[stage], leads_to=Told(stage=stage, tried=True))
    if told.stage is not stage:
        if stage is Stage.DRAINING:
            return Word(op=Op.DRAIN, leads_to=replace(told, stage=stage))
        return Word(op=Op.STATUS, declared=_DECLARED[stage], leads_to=replace(told, stage=stage))
    if told.health is not standing.health:
        return Word(op=Op.STATUS, health=standing.health, leads_to=replace(told, health=standing.health))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What to write now: words, with the number of the registration each is about, and who to beat for."""

    words: Mapping[Who, tuple[int, Word]]
    beats: tuple[Who, ...]

    def __bool__(self) -> bool:
        return bool(self.words or self.beats)


class Roster:
    """See the module. `jitter` returns which part of a third of a lease passes until the next beat."""

    def __init__(self, namespace: str, source: str, jitter: Callable[[], float]) -> None:
        self._namespace = namespace
        self._source = source
        self._jitter = jitter
        self._standings: dict[Who, Standing] = {}
        self._verdicts = Verdicts()
        self._numbers = 0

    # -- what owners say -------------------------------------------------------------------------------

    def register(self, member: Member) -> None:
        """Take an instance in, or anew. Raises TooMany."""
        before = self._standings.get(member.who)
        if before is None and len(self._standings) >= MAX_MEMBERS:
            raise TooMany(f"this agent looks after {MAX_MEMBERS} instances already")
        self._numbers += 1
        self._standings[member.who] = Standing(
            member=member,
            stage=Stage.STARTING if member.check.looks else Stage.UP,
            told=Told(tried=before is not None and before.told.tried),
            number=self._numbers,
        )
        self._forget_looks(member.who)

    def drain(self, who: Who) -> None:
        """Take an instance out of the table and keep it registered. Raises UnknownMember."""
        standing = self.standing(who)
        if standing.stage is not Stage.LEAVING:
            self._standings[who] = replace(standing, stage=Stage.DRAINING)

    def deregister(self, who: Who) -> None:
        """Let an instance go; one that is not there has gone already."""
        standing = self._standings.get(who)
        if standing is None:
            return
        if standing.told.tried:
            self._standings[who] = replace(standing, stage=Stage.LEAVING)
        else:
            self._forget(who)

    # -- what looks find -------------------------------------------------------------------------------

    def note(self, who: Who, number: int, passed: bool, now: float) -> bool:
        """Take note of a look at the registration `number` of an instance; return whether anything is to be told."""
        before = self._standings.get(who)
        if before is None or before.number != number or before.stage is Stage.LEAVING:
            return False
        self._verdicts.note(str(who), passed)
        after = before
        if before.stage is Stage.STARTING and passed:
            after = replace(after, stage=Stage.UP)
        if before.is_doubted and passed:
            after = replace(after, is_doubted=False, beat_at=now)
        if str(who) in self._verdicts.unhealthy:
            after = replace(after, health=Health.FAIL)
        elif before.health is Health.FAIL:
            # The lease may be about to end: it is beaten for at once.
            after = replace(after, health=Health.PASS, beat_at=now)
        self._standings[who] = after
        return after != before

    # -- what the log is told --------------------------------------------------------------------------

    def due(self, now: float) -> Due:
        """Return what to write now."""
        words = {who: (s.number, said) for who, s in self._standings.items() if (said := word(s)) is not None}
        beaten = [(who, s) for who, s in self._standings.items() if s.is_beaten_for]
        if not any(s.beat_at <= now for _, s in beaten):
            return Due(words=words, beats=())
        return Due(words=words, beats=tuple(who for who, s in beaten if s.beat_at - now <= EARLY * s.period))

    def next_beat(self) -> float | None:
        """Return when a beat is due next, None when nobody is beaten for."""
        return min((s.beat_at for s in self._standings.values() if s.is_beaten_for), default=None)

    def trying(self, due: Due) -> None:
        """Note that the log may hear this from now on."""
        for who in due.words:
            standing = self._standings[who]
            self._standings[who] = replace(standing, told=replace(standing.told, tried=True))

    def told(self, due: Due, now: float) -> None:
        """Note that the log has acknowledged all of it."""
        for who, (number, said) in due.words.items():
            standing = self._standings.get(who)
            if standing is None or standing.number != number:
                continue  # registered anew meanwhile: what was told is about the one before
            if said.leads_to is None:
                self._forget(who)
                continue
            standing = replace(standing, told=said.leads_to)
            self._standings[who] = self._beaten(standing, now) if said.op is Op.REGISTER else standing
        for who in due.beats:
            if who in self._standings:
                self._standings[who] = self._beaten(self._standings[who], now)

    def event(self, who: Who, said: Word) -> InstanceEvent:
        """Return a word as it goes to the log."""
        return InstanceEvent(
            op=said.op,
            service=ServiceKey(self._namespace, who.service),
            instance=who.instance,
            stamp=ORIGIN,
            attributes=self._standings[who].member.attributes if said.op is Op.REGISTER else None,
            declared=said.declared,
            health=said.health,
            source=self._source,
        )

    # -- reading ---------------------------------------------------------------------------------------

    def standing(self, who: Who) -> Standing:
        """Return one instance. Raises UnknownMember."""
        if who not in self._standings:
            raise UnknownMember(who)
        return self._standings[who]

    def __iter__(self) -> Iterator[Standing]:
        return iter(list(self._standings.values()))

    def __len__(self) -> int:
        return len(self._standings)

    def restore(self, standings: Iterable[Standing]) -> None:
        """Take over what an agent before this one looked after: beats are due at once, for those who are looked at as
        soon as a look has passed; and one that failed has to pass as often as ever."""
        for standing in standings:
            self._numbers += 1
            who = standing.member.who
            self._standings[who] = replace(
                standing, number=self._numbers, beat_at=0.0, is_doubted=standing.member.check.looks
            )
            if standing.health is Health.FAIL:
                for _ in range(FAILS):
                    self._verdicts.note(str(who), False)

    def _beaten(self, standing: Standing, now: float) -> Standing:
        period = standing.member.attributes.lease_seconds / BEATS_PER_LEASE * self._jitter()
        return replace(standing, beat_at=now + period, period=period)

    def _forget(self, who: Who) -> None:
        del self._standings[who]
        self._forget_looks(who)

    def _forget_looks(self, who: Who) -> None:
        self._verdicts.keep(str(other) for other in self._standings if other != who)
