"""The route fold of one service: what the log says of its instances, and what to publish because of it.

The fold is a last-writer-wins map. Every fact carries the stamp of the record that stated it and gives way only
to a higher stamp, so records may arrive in any order and any number of times: the facts end the same. A fact
about an instance that is not registered (yet) is kept and takes effect when the registration arrives.

An endpoint is in the table because an instance-form registration says so, or, when there is none, because a
service-form set lists it. So a set never touches what another source registered, and never leaves anything
behind when it changes.

A table does not become empty because of leases, health, damping or a repair's isolation. Who is out of it by one of
these is a *spare*: by its lease as long as the gate has not spoken its last word, by its health as long as it fails and
beats, by a repair as long as its isolation lasts. While nothing else is routable, the table holds the spares that are
well, but flap or were isolated; if there are none, the one that left last, marked `held`. It is the last to leave that
decides: when another word (a drain, a declared status, a set, an operator's isolation) took out the last endpoint,
nobody who left before it is taken back, unless it is well.

Time is an argument, storage is a port (`ServiceStore`): the Flink operator backs it with keyed state, tests with
dictionaries. Nothing here publishes; `ServiceFold.plan` says what should be published, and `done` is called
once it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from waypost.model.dynamic_weights import LoadWeight, adjust, follows_load
from waypost.model.events import (
    Attributes,
    Hold,
    InstanceEvent,
    LeaseFact,
    LeaseTransition,
    Op,
    RouteEvent,
    SetEvent,
)
from waypost.model.health_window import ServiceWindow
from waypost.model.isolation import Isolation, Verb
from waypost.model.lifecycle import Declared, Health, Lease, Status, view
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Publication, entry_digest
from waypost.model.service_state import (
    NOTHING,
    DeclaredSet,
    InstanceFacts,
    Mark,
    Marks,
    Pending,
    Position,
    Published,
    ServiceStore,
    state_facts,
)
from waypost.model.stamp import Cause, Stamp

TOMBSTONE_MS = 24 * 3600 * 1000
"""How long a deregistration is remembered. Must outlast the longest replay that may still bring an older
record of the same instance; a day covers a restore from yesterday's savepoint."""


class Renderer(Protocol):
    """Turns facts into the JSON that readers see; `waypost.wire.endpoint` has the real one."""

    def route(self, attributes: Attributes, since: int, *, held: bool = False) -> str: ...

    def instance(self, view: InstanceView, since: int) -> str: ...


class Held(NamedTuple):
    """Why an endpoint is in the table in spite of its facts, since when and until when at most, epoch ms of the log.
    `until` 0: no end is set."""

    why: Hold
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One known instance with its three facts, as people see it.

    `attributes` is what was registered; `weight` is what gateways get, which differs when it follows the instance's
    load. `held` says that it is in the table although its lease lapsed, its health failed, it flaps or is isolated;
    `spare` what would be said if nothing else were routable. `damped_until`: it has to stay away until then, 0 when it
    has not. `isolation`: the word that takes it out of the table, None when there is none.
    """

    attributes: Attributes
    source: str
    declared: Declared
    health: Health
    lease: Lease
    generation: int
    weight: int
    held: Held | None = None
    spare: Held | None = None
    damped_until: int = 0
    isolation: Isolation | None = None

    @property
    def seen(self) -> tuple[Status, str]:
        """The visible status and the reason for it."""
        facts = self.declared, self.health, self.lease
        is_isolated = self.isolation is not None
        return view(*facts, held=self.held is not None, damped=bool(self.damped_until), isolated=is_isolated)

    @property
    def is_routable(self) -> bool:
        """Whether it is in the table."""
        return self.seen[0] is Status.UP

    @property
    def routed(self) -> Attributes:
        """What the table says of it."""
        known = self.attributes
        return known if self.weight == known.weight else replace(known, weight=self.weight)


@dataclass(frozen=True, slots=True)
class Plan:
    """A publication, what `Published` will say of each instance once the store has it, which of these instances
    are then in the table on a lease, how many are marked, and how many newly stay although a repair isolated them."""

    publication: Publication
    after: Mapping[str, Published]
    leased: Set[str]
    marks: Marks
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event. `reason` is a stable slug.

    `dead` says that the record can have no effect and belongs on `dead-letter`.
    """

    applied: bool
    reason: str
    dead: bool = False


APPLIED = Verdict(True, "applied")
SUPERSEDED = Verdict(False, "superseded")
STALE_SET = Verdict(False, "stale-last-updated", dead=True)
UNKNOWN_INSTANCE = Verdict(False, "unknown-instance", dead=True)
OLD_GENERATION = Verdict(False, "old-generation")
ALREADY_GONE = Verdict(False, "already-deregistered")
NOT_PROTECTED = Verdict(False, "not-protected")
NOT_ISOLATED = Verdict(False, "not-isolated")
ISOLATION_OVER = Verdict(False, "isolation-over")
NOT_YET_KNOWN = Verdict(False, "unknown-instance")
"""Of an isolation: it counts for the instance once that registers."""

LAST_ENDPOINT = "last-endpoint"
"""The answer to a repair whose isolation would have emptied the table: it took nobody out."""

LOAD_RULE = "load"
"""What `meta` and the audit log call a change of weights that follow the load."""

ISOLATION_ENDED = "isolation-ended"
"""What they call the end of an isolation that nobody released."""

MAX_ANSWERS = 1_000
"""Answers waiting per service, the newest ones; while the store is away nobody gets any."""

MAX_CAUSES = 16
"""Causes listed per publication; a storm that merges thousands of records names the first ones."""


@dataclass(slots=True)
class _Draft:
    """A publication in the making: entries, and what the table is with them."""

    store: ServiceStore
    renderer: Renderer
    is_delta: bool
    routes: dict[str, str | None] = field(default_factory=dict)
    instances: dict[str, str | None] = field(default_factory=dict)
    after: dict[str, Published] = field(default_factory=dict)
    leased: set[str] = field(default_factory=set)
    digest: int = 0
    endpoints: int = 0
    marks: Marks = Marks()  # noqa: RUF009 (immutable)
    refused: set[str] = field(default_factory=set)
    """Request ids of isolations that took nobody out, because nobody else is left."""
    spared: int = 0

    def __post_init__(self) -> None:
        if self.is_delta:
            header = self.store.header
            self.digest, self.endpoints, self.marks = header.digest, header.endpoints, header.marks

    def write(self, instance: str, view: InstanceView | None) -> None:
        """Write what readers should see of an instance; None: nothing any more."""
        known = self.store.published.get(instance)
        before = known or NOTHING
        routable = view is not None and view.is_routable
        is_as_before = known is not None and routable == bool(known.route_digest)
        since = before.since if is_as_before else self.store.header.event_time
        route = None
        mark = Mark.NONE
        if view is None:
            self.instances[instance] = None
        else:
            self.instances[instance] = self.renderer.instance(view, since)
            if routable:
                route = self.renderer.route(view.routed, since, held=view.held is not None)
                if view.lease is not Lease.NONE:
                    self.leased.add(instance)
            if view.spare is not None:
                mark = Mark.SPARE
            elif view.held is not None:
                mark = Mark.HELD
        entry = Published(entry_digest(instance, route) if route is not None else 0, since, mark)
        if view is not None:
            self.after[instance] = entry
        replaced = before if self.is_delta else NOTHING
        if entry.route_digest != replaced.route_digest:
            self.routes[instance] = route
            self.digest ^= entry.route_digest ^ replaced.route_digest
            self.endpoints += (entry.route_digest != 0) - (replaced.route_digest != 0)
        if replaced.mark or entry.mark:
            self.marks = self.marks.moved(replaced, -1).moved(entry, 1)


class ServiceFold:
    """The fold of one service over its store."""

    def __init__(self, service: ServiceKey, store: ServiceStore, renderer: Renderer) -> None:
        self.service = service
        self._store = store
        self._renderer = renderer

    # -- folding ---------------------------------------------------------------------------------------

    def apply(self, event: RouteEvent, cause: Cause | None = None, *, answer: bool = True, now: int = 0) -> Verdict:
        """Fold one event and return what became of it. Folding it again changes nothing.

        `answer` is False for a record so old that nobody waits any more, as in a replay of the whole log. `now`, epoch
        ms, tells an isolation that is over already from one that begins.
        """
        store = self._store
        if isinstance(event, InstanceEvent):
            verdict, touched = self._apply_instance(event)
            rule = event.op.value
        elif isinstance(event, SetEvent):
            verdict, touched = self._apply_set(event)
            rule = "set"
        elif isinstance(event, Isolation):
            verdict, touched = self._apply_isolation(event, now)
            rule = event.verb.value
        else:
            verdict, touched = self._apply_lease(event)
            rule = f"lease-{event.fact.value}" if event.fact is not LeaseFact.HEALTH else "beat-health"
        header, pending = store.header, store.pending
        registry, leases, isolations = header.position
        if isinstance(event, LeaseTransition):
            header.position = Position(registry, max(leases, event.stamp.at), isolations)
        elif isinstance(event, Isolation):
            header.position = Position(registry, leases, max(isolations, event.stamp))
        else:
            header.position = Position(max(registry, event.stamp), leases, isolations)
        header.event_time = max(header.event_time, event.stamp.at)
        if touched:
            pending.dirty.update(dict.fromkeys(touched))
            pending.rule = rule
            if cause is not None and len(pending.causes) < MAX_CAUSES:
                pending.causes.append(cause)
        request_id = "" if isinstance(event, LeaseTransition) else event.request_id
        if request_id and answer:
            pending.answers.append(Answer(request_id, verdict.applied, verdict.reason))
            del pending.answers[:-MAX_ANSWERS]
        return verdict

    def _apply_instance(self, event: InstanceEvent) -> tuple[Verdict, Iterable[str]]:
        if event.op is Op.UNPROTECT:
            return self._release(event)
        facts = self._store.instances.get(event.instance) or InstanceFacts()
        was_registered, was_in = facts.is_registered, self._is_in(event.instance, facts)
        if not state_facts(facts, event):
            return SUPERSEDED, ()
        self._store.instances[event.instance] = facts
        self._note_departure(event.instance, facts, was_in, event.stamp)
        self._follow_load(event.instance, facts)
        if facts.is_registered or was_registered:
            return APPLIED, (event.instance,)
        # Nothing registered this id, or it is gone. The fact is kept, in case the log still brings the
        # registration (producers that do not key by service), but as of now the record has no effect.
        return (ALREADY_GONE if facts.attributes and event.op is Op.DEREGISTER else UNKNOWN_INSTANCE), ()

    def _release(self, event: InstanceEvent) -> tuple[Verdict, Iterable[str]]:
        """End every hold: whoever lapsed before leaves now. (The gate is told as well.)"""
        header = self._store.header
        if event.stamp <= header.released:
            return SUPERSEDED, ()
        header.released = event.stamp
        if not header.marks.protected:
            return NOT_PROTECTED, ()
        published = self._store.published.items()
        return APPLIED, [i for i, entry in published if entry.mark is Mark.HELD or entry.is_kept]

    def _is_in(self, instance: str, facts: InstanceFacts) -> bool:
        """Tell whether an instance is in the table, or will be with the next publication."""
        header = self._store.header
        if self._is_routable(instance, facts):
            return True
        entry = self._store.published.get(instance) if header.marks.kept else None
        return entry is not None and entry.is_kept

    def _is_routable(self, instance: str, facts: InstanceFacts) -> bool:
        return facts.is_routable(self._store.header.released) and self._isolation_of(instance, facts) is None

    def _note_departure(self, instance: str, facts: InstanceFacts, was_in: bool, stamp: Stamp) -> None:
        header = self._store.header
        if was_in and stamp > header.departure and not self._is_routable(instance, facts):
            known = self.view(instance)
            if known is None or known.spare is None:
                header.departure = stamp

    def _follow_load(self, instance: str, facts: InstanceFacts) -> None:
        """Begin, go on or stop weighing an instance by its load. A new registration begins anew."""
        weights = self._store.weights
        if facts.is_registered and follows_load(facts.effective_attributes.metadata):
            known = weights.get(instance)
            if known is None or known.generation != facts.generation:
                weights[instance] = LoadWeight(facts.generation)
        else:
            weights.pop(instance, None)

    def _apply_set(self, event: SetEvent) -> tuple[Verdict, Iterable[str]]:
        sets = self._store.sets
        old = sets.get(event.source)
        if old is not None:
            if event.last_updated < old.last_updated:
                return (STALE_SET if event.stamp > old.stamp else SUPERSEDED), ()
            if event.last_updated == old.last_updated and event.stamp <= old.stamp:
                return SUPERSEDED, ()
        new = DeclaredSet(
            event.stamp,
            event.last_updated,
            event.healthy,
            {f"{address}:{port}": (address, port) for address, port in event.endpoints},
        )
        sets[event.source] = new
        if old is not None and old.healthy and (not new.healthy or old.endpoints.keys() - new.endpoints.keys()):
            self._store.header.departure = max(self._store.header.departure, event.stamp)
        if old is None:
            self._store.header.sets += 1
            return APPLIED, new.endpoints
        if old.healthy == new.healthy:
            return APPLIED, old.endpoints.keys() ^ new.endpoints.keys()
        return APPLIED, old.endpoints.keys() | new.endpoints.keys()

    def _apply_lease(self, event: LeaseTransition) -> tuple[Verdict, Iterable[str]]:
        facts = self._store.instances.get(event.instance) or InstanceFacts()
        if event.fact is LeaseFact.HEALTH:
            # Whatever registration the lease fold took the beat for: its stamp says which one it was about.
            assert event.health is not None
            if not facts.say_health(event.health, event.stamp):
                return SUPERSEDED, ()
            self._store.instances[event.instance] = facts
            return APPLIED, ((event.instance,) if facts.is_registered else ())
        if event.generation < facts.generation:
            return OLD_GENERATION, ()
        had_lapsed = facts.effective_lease is Lease.LAPSED
        if event.fact is LeaseFact.DAMPED:
            if (event.generation, event.stamp) <= (facts.damped_generation, facts.damped_stamp):
                return SUPERSEDED, ()
            facts.damped_until, facts.damped_generation, facts.damped_stamp = event.until, event.generation, event.stamp
        else:
            if (event.generation, event.stamp) <= (facts.lease_generation, facts.lease_stamp):
                return SUPERSEDED, ()
            facts.lapsed = event.fact is not LeaseFact.RENEWED
            facts.hold, facts.until, facts.last_beat = event.hold, event.until, event.last_beat
            facts.lease_generation, facts.lease_stamp = event.generation, event.stamp
        self._store.instances[event.instance] = facts
        is_last_word = event.fact is LeaseFact.LAPSED and had_lapsed and not event.until
        if is_last_word and self._is_only_a_spare(event.instance):
            return APPLIED, ()  # Its last word changes nothing that readers see.
        return APPLIED, ((event.instance,) if facts.is_registered else ())

    def _apply_isolation(self, word: Isolation, now: int) -> tuple[Verdict, Iterable[str]]:
        store = self._store
        before, said = store.isolations, word.at(now)
        after = before.with_word(said)
        if after is before:
            return SUPERSEDED, ()
        about = self._about(word)
        if said.verb is Verb.RELEASE:
            if after.about(word.scope) == before.about(word.scope):
                store.isolations = after
                return (NOT_ISOLATED if word is said else ISOLATION_OVER), ()
        elif not word.spares_the_last and any(map(self._is_seen_in, about)):
            store.header.departure = max(store.header.departure, word.stamp)
        store.isolations = after
        return (APPLIED if about or not word.instance else NOT_YET_KNOWN), about

    def _is_seen_in(self, instance: str) -> bool:
        view, entry = self.view(instance), self._store.published.get(instance, NOTHING)
        return entry.is_kept or (view is not None and view.is_routable)

    def _about(self, word: Isolation) -> list[str]:
        """Return the known instances that a word is about."""
        if word.instance:
            return [word.instance] if self.view(word.instance) is not None else []
        return [i for i in sorted(self._store.maybe_on(word.node)) if self._node_of(i) == word.node]

    def _node_of(self, instance: str) -> str:
        facts = self._store.instances[instance]
        return facts.effective_attributes.node if facts.is_registered else ""

    def _isolation_of(self, instance: str, facts: InstanceFacts | None) -> Isolation | None:
        words = self._store.isolations
        if not words:
            return None
        return words.of(instance, facts.effective_attributes.node if facts is not None else "")

    def end_isolations(self, now: int, topic: str = "") -> bool:
        """Let those back whose isolation is over at `now`, epoch ms, and tell whether one is. `topic` is where its
        record is."""
        store = self._store
        before = store.isolations
        store.isolations = before.at(now)
        if store.isolations is before:
            return False
        header, pending = store.header, store.pending
        for word in before.in_force:
            if word.expires_at <= now:
                header.event_time = max(header.event_time, word.expires_at)
                if about := self._about(word):
                    pending.dirty.update(dict.fromkeys(about))
                    pending.rule = ISOLATION_ENDED
                    if len(pending.causes) < MAX_CAUSES:
                        pending.causes.append(Cause(topic, word.stamp.partition, word.stamp.offset))
        return True

    def _is_only_a_spare(self, instance: str) -> bool:
        """Tell whether an instance is published as a spare outside of the table, and make it none."""
        header, entry = self._store.header, self._store.published.get(instance)
        if entry is None or entry.mark is not Mark.SPARE or entry.is_kept or instance in self._store.pending.dirty:
            return False
        self._store.published[instance] = replace(entry, mark=Mark.NONE)
        header.marks = header.marks.moved(entry, -1)
        if self._store.spares is not None:
            self._store.spares.discard(instance)
        return True

    # -- what readers should see -----------------------------------------------------------------------

    def view(self, instance: str) -> InstanceView | None:
        """Return what is known of one instance, None when nothing speaks for it."""
        facts = self._store.instances.get(instance)
        if facts is not None and facts.is_registered:
            attributes = facts.effective_attributes
            by_load = self._store.weights.get(instance) if follows_load(attributes.metadata) else None
            isolation = self._isolation_of(instance, facts)
            may_be_held = facts.until or facts.damped_until or facts.health is Health.FAIL or isolation
            held, spare = self._grace(facts, isolation) if may_be_held else (None, None)
            return InstanceView(
                attributes=attributes,
                source=facts.source,
                declared=facts.effective_declared,
                health=facts.effective_health,
                lease=facts.effective_lease,
                generation=facts.generation.at,
                weight=attributes.weight if by_load is None else by_load.weigh(attributes.weight),
                held=held,
                spare=spare,
                damped_until=facts.effective_damped,
                isolation=isolation,
            )
        if not self._store.header.sets:
            return None
        claims = [(s.stamp, source, s) for source, s in self._store.sets.items() if instance in s.endpoints]
        if not claims:
            return None
        # Several sources may list one endpoint: it is healthy as long as one of them says so.
        stamp, source, declared_set = max(claims, key=lambda claim: (claim[2].healthy, claim[0]))
        address, port = declared_set.endpoints[instance]
        attributes = Attributes(address=address, port=port)
        isolation = self._isolation_of(instance, None)
        return InstanceView(
            attributes=attributes,
            source=source,
            declared=Declared.UP,
            health=Health.PASS if declared_set.healthy else Health.FAIL,
            lease=Lease.NONE,
            generation=stamp.at,
            weight=attributes.weight,
            spare=_spared(isolation) if isolation and isolation.spares_the_last and declared_set.healthy else None,
            isolation=isolation,
        )

    def _grace(self, facts: InstanceFacts, isolation: Isolation | None) -> tuple[Held | None, Held | None]:
        """Return what holds an instance in the table, or what would if the table were empty otherwise."""
        released = self._store.header.released
        if isolation is not None:
            if not isolation.spares_the_last:
                return None, None
            _, spare = self._grace(facts, None)
            return None, _spared(isolation) if facts.is_routable(released) else spare
        if facts.effective_declared is not Declared.UP:
            return None, None
        if facts.is_held(released):
            assert facts.hold is not None
            return Held(facts.hold, facts.lease_stamp.at, facts.until), None
        if facts.effective_lease is Lease.LAPSED:
            return None, Held(Hold.LAST, facts.lease_stamp.at, facts.until) if facts.until else None
        if facts.effective_health is Health.FAIL:
            return None, Held(Hold.FAILS, facts.failed.at, 0)
        waits_until = facts.effective_damped
        return None, Held(Hold.FLAPS, facts.damped_stamp.at, waits_until) if waits_until else None

    def ids(self) -> set[str]:
        """Return every instance id that something speaks for."""
        found = {i for i, facts in self._store.instances.items() if facts.is_registered}
        if self._store.header.sets:
            for declared_set in self._store.sets.values():
                found.update(declared_set.endpoints)
        return found

    def ask_for_snapshot(self, cause: Cause) -> None:
        """Have the whole table written at the next occasion, whatever the store holds of it. `cause` is a record that
        the table rests on."""
        pending = self._store.pending
        pending.snapshot, pending.rule = True, "resync"
        if cause not in pending.causes and len(pending.causes) < MAX_CAUSES:
            pending.causes.append(cause)

    def plan(self, *, above: int = 0) -> Plan | None:
        """Return what brings the store up to date, None when nothing is pending.

        `above` is a revision the store is known to hold (after NEED_SNAPSHOT): the result is then a snapshot
        with a higher one. Planning changes nothing; call `done` when the store has it.
        """
        header, pending = self._store.header, self._store.pending
        if above or pending.snapshot:
            return self._plan(ChangeOp.SNAPSHOT, sorted(self.ids()), max(header.revision, above))
        if not pending:
            return None
        return self._plan(ChangeOp.DELTA, pending.dirty, header.revision)

    def _spares(self) -> set[str]:
        """Return the published spares; read from the store when it is not known who they are."""
        if self._store.spares is None:
            published = self._store.published.items() if self._store.header.marks.spares else ()
            self._store.spares = {i for i, entry in published if entry.mark is Mark.SPARE}
        return self._store.spares

    def _kept(self, spares: Mapping[str, InstanceView]) -> set[str]:
        """Return which spares a table holds that has nothing else."""
        header = self._store.header
        # Who lets all go that are held means the isolated as well.
        isolated = {i: v.isolation.stamp for i, v in spares.items() if v.isolation is not None}
        left = [i for i in spares if i not in isolated or isolated[i] > header.released]
        well = {i for i in left if spares[i].lease is not Lease.LAPSED and spares[i].health is not Health.FAIL}
        if well or not left:
            return well
        facts = {i: self._store.instances[i] for i in left}
        out_since = {i: facts[i].out_since(header.released, isolated.get(i)) for i in left}
        newest = max(left, key=lambda i: (out_since[i], facts[i].last_beat, i))
        return {newest} if out_since[newest] > max(header.departure, header.released) else set()

    def _plan(self, op: ChangeOp, ids: Iterable[str], floor: int) -> Plan:
        header, pending = self._store.header, self._store.pending
        is_delta = op is ChangeOp.DELTA
        draft = self._draft(ids, is_delta=is_delta)
        routes, instances = draft.routes, draft.instances
        writes = bool(instances) or not is_delta
        publication = Publication(
            service=self.service,
            op=op,
            base=header.revision,
            revision=max(floor + 1, header.event_time * 1000) if writes else header.revision,
            event_time=header.event_time,
            routes=routes,
            instances=instances,
            digest=draft.digest,
            endpoints=draft.endpoints,
            rule=pending.rule or "resync",
            causes=tuple(pending.causes),
            answers=tuple(
                a if a.request_id not in draft.refused else replace(a, applied=False, reason=LAST_ENDPOINT)
                for a in pending.answers
            ),
            protected=draft.marks.protected,
            position=str(header.position),
        )
        return Plan(publication, draft.after, draft.leased, draft.marks, draft.spared)

    def _draft(self, ids: Iterable[str], *, is_delta: bool) -> _Draft:
        """Return the entries of these instances, and of the spares that the table needs or no longer needs."""
        marks = self._store.header.marks
        draft = _Draft(self._store, self._renderer, is_delta)
        spares: dict[str, InstanceView] = {}
        for instance in ids:
            known = self.view(instance)
            if known is not None and known.spare is not None:
                spares[instance] = known
            else:
                draft.write(instance, known)
        new = set(spares)
        # Not written yet: whether these stay depends on whether anything else does.
        leaving = (self._store.published.get(i, NOTHING) for i in new) if is_delta else ()
        is_bare = draft.endpoints == draft.marks.kept + sum(e.route_digest != 0 and not e.is_kept for e in leaving)
        if is_delta and marks.spares and (is_bare or marks.kept):
            for instance in self._spares() - draft.after.keys() - new:
                known = self.view(instance)
                if known is not None and known.spare is not None:
                    spares[instance] = known
        kept = self._kept(spares) if is_bare else set()
        for instance, spare in spares.items():
            before = self._store.published.get(instance, NOTHING)
            if instance in new or before.is_kept != (instance in kept):
                draft.write(instance, replace(spare, held=spare.spare) if instance in kept else spare)
                if instance in kept and spare.isolation is not None:
                    draft.refused.add(spare.isolation.request_id)
                    draft.spared += not before.is_kept
        return draft

    def done(self, plan: Plan) -> None:
        """Take note that the store holds `plan.publication`."""
        header, known, publication = self._store.header, self._store.published, plan.publication
        gone = publication.instances.keys() - plan.after.keys()
        if publication.op is ChangeOp.SNAPSHOT:
            gone = set(known) - plan.after.keys()
        for instance in gone:
            known.pop(instance, None)
        for instance, entry in plan.after.items():
            known[instance] = entry
        if plan.marks.spares or header.marks.spares:
            spares = self._spares() if publication.op is ChangeOp.DELTA else set()
            spares -= gone
            spares -= plan.after.keys()
            spares |= {i for i, entry in plan.after.items() if entry.mark is Mark.SPARE}
            self._store.spares = spares
        header.revision = publication.revision
        header.digest = publication.digest
        header.endpoints = publication.endpoints
        header.marks = plan.marks
        self._store.pending = Pending()

    # -- windows ---------------------------------------------------------------------------------------

    def leased_routes(self) -> Iterator[tuple[str, bool]]:
        """Yield every instance that was published, and whether the store has it in the table on a lease.

        May be read on after other calls; what was published in between may be told as it was before or after.
        """
        for instance in list(self._store.published):
            known = self._store.published.get(instance)
            facts = self._store.instances.get(instance)
            yield instance, bool(known and known.route_digest and facts and facts.is_registered)

    def end_window(self, window: ServiceWindow, leased: Set[str]) -> None:
        """Weigh by their load the instances that asked for it and are in the table (`leased`).

        A weight that readers should see anew is pending afterwards, like any other change.
        """
        before = {i: weight for i in self._store.weights if i in leased and (weight := self._store.weights[i])}
        if not before:
            return
        loads = ((i, window.tallies[i].cpu_mean) for i in before if i in window.tallies)
        header, pending = self._store.header, self._store.pending
        for instance, weight in adjust(before, {i: cpu for i, cpu in loads if cpu is not None}, window.end).items():
            self._store.weights[instance] = weight
            declared = self._store.instances[instance].effective_attributes.weight
            if weight.weigh(declared) != before[instance].weigh(declared):
                pending.dirty[instance] = None
                pending.rule = LOAD_RULE
                header.event_time = max(header.event_time, window.end)

    def drift(self, window: ServiceWindow, leased: Set[str]) -> int:
        """Return in how many instances table and beats disagree, without a fact that says why.

        That is: in the table on a lease (`leased`) since before the window, and no beat in it; or beating, and neither
        in the table nor known to be out of it. A long lease, a lapse that is deferred, and a change that crossed the
        end of the window look like that too: a number to look at, not one to act on.
        """
        beating = window.beating
        silent = sum(self._is_older(i, window.start) for i in leased - beating)
        return silent + sum(self._should_be_in(i) for i in beating - leased)

    def _is_older(self, instance: str, at: int) -> bool:
        facts = self._store.instances.get(instance)
        return facts is not None and facts.generation.at < at

    def _should_be_in(self, instance: str) -> bool:
        view = self.view(instance)
        return view is None or view.is_routable

    # -- housekeeping ----------------------------------------------------------------------------------

    def purge(self, now: int) -> int:
        """Forget tombstones and stray facts older than `TOMBSTONE_MS`, and old words of release; return how many facts.
        `now` is log time."""
        self._store.isolations = self._store.isolations.without_old(now)
        old = [
            instance
            for instance, facts in self._store.instances.items()
            if not facts.is_registered and facts.last_stamp.at < now - TOMBSTONE_MS
        ]
        for instance in old:
            del self._store.instances[instance]
            self._store.weights.pop(instance, None)
        return len(old)


def _spared(isolation: Isolation) -> Held:
    """What is said of one that is in the table although a repair isolated it."""
    return Held(Hold.ISOLATED, isolation.stamp.at, isolation.expires_at)
