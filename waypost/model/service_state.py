"""What the route fold of one service keeps: the facts, what was published of them, and what is pending.

Plain data with the questions it can answer of itself. How events change it is in `waypost.model.service`, how it
becomes bytes in `waypost.wire.fold_state`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from waypost.model.dynamic_weights import LoadWeight
from waypost.model.events import Attributes, Hold, InstanceEvent, Op
from waypost.model.isolation import Isolations
from waypost.model.lifecycle import Declared, Health, Lease, is_routable
from waypost.model.route_table import Answer
from waypost.model.stamp import ORIGIN, Cause, Stamp


@dataclass(slots=True)
class InstanceFacts:
    """Everything the log said of one instance id by instance-form events and by its lease.

    `generation` is the stamp of the newest registration, `removed` that of the newest deregistration; whichever is
    higher decides whether the id is registered. Every other fact counts only if it was stated after the newest
    registration: what was said of an earlier process under the same id says nothing of this one.
    """

    generation: Stamp = ORIGIN
    attributes: Attributes | None = None
    initial: Declared = Declared.UP
    source: str = ""
    removed: Stamp = ORIGIN
    changes: dict[str, tuple[Stamp, Any]] = field(default_factory=dict)
    declared: Declared = Declared.UP
    declared_stamp: Stamp = ORIGIN
    health: Health = Health.UNKNOWN
    health_stamp: Stamp = ORIGIN
    failing_since: Stamp = ORIGIN
    """Of a health that is fail: the first such word after any other. Each further one moves `health_stamp` only."""
    lapsed: bool = False
    lease_generation: Stamp = ORIGIN
    lease_stamp: Stamp = ORIGIN
    hold: Hold | None = None
    until: int = 0
    last_beat: int = 0
    """Of a lapsed lease: whether and why the brake holds it, until when at most it may stay in the table (held, or as
    the last of its service; 0: not at all), and when it beat last."""
    damped_until: int = 0
    damped_generation: Stamp = ORIGIN
    damped_stamp: Stamp = ORIGIN

    @property
    def is_registered(self) -> bool:
        """Whether the instance form currently speaks for this id (a tombstone or a stray fact does not)."""
        return self.attributes is not None and self.generation > self.removed

    @property
    def effective_declared(self) -> Declared:
        """What was declared since the registration, or with it."""
        return self.declared if self.declared_stamp > self.generation else self.initial

    @property
    def effective_health(self) -> Health:
        """The health reported since the registration."""
        return self.health if self.health_stamp > self.generation else Health.UNKNOWN

    @property
    def failed(self) -> Stamp:
        """Since when its health is fail; only for one whose health is."""
        return self.failing_since if self.failing_since > self.generation else self.health_stamp

    @property
    def effective_lease(self) -> Lease:
        """Whether the lease of this very registration lapsed: a new registration starts a new lease."""
        return Lease.LAPSED if self.lapsed and self.lease_generation == self.generation else Lease.LIVE

    @property
    def effective_damped(self) -> int:
        """Until when its coming back waits, 0 when it does not: a registration and a word of its owner end the wait."""
        waits = self.damped_generation == self.generation and self.damped_stamp > self.declared_stamp
        return self.damped_until if waits else 0

    def is_held(self, released: Stamp) -> bool:
        """Whether the brake holds it in the table, in which it was, unless an operator released the service
        (`released`) since. It holds who is silent, not who says or is found to be ill."""
        return self._is_braked(released) and self.effective_health is not Health.FAIL

    def _is_braked(self, released: Stamp) -> bool:
        return (
            self.hold is not None
            and self.effective_lease is Lease.LAPSED
            and self.lease_stamp > released
            and not self.effective_damped
        )

    def out_since(self, released: Stamp, isolated: Stamp | None = None) -> Stamp:
        """When it left the table by its lease, its health or a repair (`isolated`), whichever was first; only for one
        that did."""
        left = [] if isolated is None else [isolated]
        if self.effective_lease is Lease.LAPSED and not self._is_braked(released):
            left.append(self.lease_stamp)
        if self.effective_health is Health.FAIL:
            left.append(self.failed)
        return min(left)

    def say_health(self, health: Health, stamp: Stamp) -> bool:
        """Write down a word on health, and tell whether it says anything new."""
        if stamp > self.health_stamp:
            if health is Health.FAIL is not self.effective_health:
                self.failing_since = stamp
            self.health, self.health_stamp = health, stamp
            return True
        if health is not Health.FAIL is self.health and self.failing_since < stamp < self.health_stamp:
            # It was well in between, and is read late.
            self.failing_since = self.health_stamp
            return True
        return False

    def is_routable(self, released: Stamp) -> bool:
        """Whether it is in the table whatever other instances do, unless it is isolated."""
        return self.is_registered and is_routable(
            self.effective_declared,
            self.effective_health,
            self.effective_lease,
            held=self.is_held(released),
            damped=bool(self.effective_damped),
        )

    @property
    def effective_attributes(self) -> Attributes:
        """The registration with the updates made since."""
        assert self.attributes is not None
        changes = {name: value for name, (stamp, value) in self.changes.items() if stamp > self.generation}
        return replace(self.attributes, **changes) if changes else self.attributes

    @property
    def last_stamp(self) -> Stamp:
        """The newest stamp of any fact: what the age of a tombstone is counted from."""
        changed = (stamp for stamp, _ in self.changes.values())
        stated = (self.generation, self.removed, self.declared_stamp, self.health_stamp)
        return max(*stated, self.lease_stamp, self.damped_stamp, *changed)


@dataclass(frozen=True, slots=True)
class DeclaredSet:
    """The newest service-form set of one source. An empty one is kept: it orders later ones."""

    stamp: Stamp
    last_updated: int
    healthy: bool
    endpoints: Mapping[str, tuple[str, int]]


class Mark(IntEnum):
    """What is special about an instance as published."""

    NONE = 0
    HELD = 1
    """In the table because the brake holds it."""
    SPARE = 2
    """Out of the table by lease, health, damping or a repair, and in it as long as nothing else of its service is
    routable."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the store holds of one instance: the digest of its route entry (0: not routable), since when it has been so,
    in epoch ms of the log, and its mark."""

    route_digest: int
    since: int
    mark: Mark = Mark.NONE

    @property
    def is_kept(self) -> bool:
        """Whether it is a spare that is in the table."""
        return self.mark is Mark.SPARE and self.route_digest != 0


NOTHING = Published(0, 0)
"""An id the store has never heard of."""


class Position(NamedTuple):
    """How far the fold has come: the newest registration record, the time of the newest lease transition, and the
    newest isolation record.

    Three and not one maximum: beats are read at once while a long registry is still being replayed, and would make a
    table of the first few registrations look up to date; and a table that lacks its newest isolation would send
    requests to a node that was taken out.
    """

    registry: Stamp = ORIGIN
    leases: int = 0
    isolations: Stamp = ORIGIN

    def reaches(self, other: Position) -> bool:
        """Tell whether everything folded at `other` has been folded here."""
        return self.registry >= other.registry and self.leases >= other.leases and self.isolations >= other.isolations

    def decided(self, until: int) -> Position:
        """Return how far the fold has come when the gate has nothing more to say of ticks that end by `until` (epoch
        ms). After a restore that may be less than it said the first time: no lapse is told of an instance whose
        deregistration, which came after it, is read before."""
        return self._replace(leases=max(self.leases, until))

    def on_the_way_to(self, goal: Position) -> Position:
        """Return how much of `goal` is folded here: what goes beyond it brings nobody nearer."""
        return Position(
            min(self.registry, goal.registry), min(self.leases, goal.leases), min(self.isolations, goal.isolations)
        )

    def __str__(self) -> str:
        parts = (*self.registry, self.leases, *(self.isolations if self.isolations != ORIGIN else ()))
        return ":".join(map(str, parts))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str()` wrote, and what it wrote before there were isolations. Raises ValueError for anything
        else."""
        at, partition, offset, leases, *isolations = map(int, text.split(":"))
        if len(isolations) not in (0, 3):
            raise ValueError(f"{text!r} is no position")
        return cls(Stamp(at, partition, offset), leases, Stamp(*isolations) if isolations else ORIGIN)


class Marks(NamedTuple):
    """How many published instances the brake holds, how many are spares, and how many of these are in the table."""

    held: int = 0
    spares: int = 0
    kept: int = 0

    @property
    def protected(self) -> bool:
        """Whether the table holds an endpoint that would not be there by its own facts."""
        return bool(self.held or self.kept)

    def moved(self, entry: Published, n: int) -> Marks:
        """Return the numbers with one entry more (1) or less (-1)."""
        held, spare = entry.mark is Mark.HELD, entry.mark is Mark.SPARE
        return Marks(self.held + n * held, self.spares + n * spare, self.kept + n * entry.is_kept)


@dataclass(slots=True)
class Header:
    """What the fold knows of the service as a whole.

    `departure` is the newest word that took an endpoint out of the table for good, that is neither a lapse nor about
    health; `released` is the newest `unprotect`. Whoever left before either is not kept as the last endpoint.
    """

    revision: int = 0
    event_time: int = 0
    position: Position = Position()  # noqa: RUF009 (immutable)
    digest: int = 0
    endpoints: int = 0
    sets: int = 0
    marks: Marks = Marks()  # noqa: RUF009 (immutable)
    departure: Stamp = ORIGIN
    released: Stamp = ORIGIN


@dataclass(slots=True)
class Pending:
    """What was folded and not yet published. `snapshot` asks for a whole table at the next occasion."""

    dirty: dict[str, None] = field(default_factory=dict)
    causes: list[Cause] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    rule: str = ""
    snapshot: bool = False

    def __bool__(self) -> bool:
        return bool(self.dirty or self.answers or self.snapshot)


class ServiceStore(Protocol):
    """Where one service's state lives. The mappings write through; `header`, `pending` and `isolations` are
    written back by the owner of the store after use."""

    header: Header
    pending: Pending
    instances: MutableMapping[str, InstanceFacts]
    sets: MutableMapping[str, DeclaredSet]
    published: MutableMapping[str, Published]
    weights: MutableMapping[str, LoadWeight]
    """Of the instances whose weight follows their load."""
    spares: set[str] | None
    """The published instances marked SPARE, None while that is not known; found anew when it is needed."""
    isolations: Isolations
    """Replaced, never changed."""

    def maybe_on(self, node: str) -> Iterable[str]:
        """Return the instances of which a registration or an update names a node, in no order. It need not be the
        newest word about them; finding them must not cost reading all that is known of everybody."""
        ...


def state_facts(facts: InstanceFacts, event: InstanceEvent) -> bool:
    """Write what `event` states into `facts` wherever it is newer, and tell whether it was anywhere."""
    stamp = event.stamp
    newer = False
    if event.op is Op.REGISTER and stamp > facts.generation:
        assert event.attributes is not None
        assert event.declared is not None
        facts.generation, facts.attributes, facts.source = stamp, event.attributes, event.source
        facts.initial = event.declared
        facts.changes = {name: change for name, change in facts.changes.items() if change[0] > stamp}
        return True
    if event.op is Op.DEREGISTER and stamp > facts.removed:
        facts.removed = stamp
        return True
    for name, value in event.changes.items():
        if stamp > facts.changes.get(name, (facts.generation,))[0]:
            facts.changes[name] = (stamp, value)
            newer = True
    if event.op in (Op.DRAIN, Op.STATUS):
        declared = Declared.DRAINING if event.op is Op.DRAIN else event.declared
        if declared is not None and stamp > facts.declared_stamp:
            facts.declared, facts.declared_stamp = declared, stamp
            newer = True
        if event.health is not None and facts.say_health(event.health, stamp):
            newer = True
    return newer
