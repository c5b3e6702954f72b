"""The route fold of one service: what the log says of its instances, and what to publish because of it.

The fold is a last-writer-wins map. Every fact carries the stamp of the record that stated it and gives way only
to a higher stamp, so records may arrive in any order and any number of times: the facts end the same. A fact
about an instance that is not registered (yet) is kept and takes effect when the registration arrives.

An endpoint is in the table because an instance-form registration says so, or, when there is none, because a
service-form set lists it. So a set never touches what another source registered, and never leaves anything
behind when it changes.

Time is an argument, storage is a port (`ServiceStore`): the Flink operator backs it with keyed state, tests with
dictionaries. Nothing here publishes; `ServiceFold.plan` says what should be published, and `done` is called
once it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Protocol

from waypost.model.dynamic_weights import LoadWeight, adjust, follows_load
from waypost.model.events import (
    Attributes,
    InstanceEvent,
    LeaseFact,
    LeaseTransition,
    Op,
    RouteEvent,
    SetEvent,
)
from waypost.model.health_window import ServiceWindow
from waypost.model.lifecycle import Declared, Health, Lease, is_routable
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Publication, entry_digest
from waypost.model.service_state import (
    NOTHING,
    DeclaredSet,
    InstanceFacts,
    Pending,
    Position,
    Published,
    ServiceStore,
    state_facts,
)
from waypost.model.stamp import Cause

TOMBSTONE_MS = 24 * 3600 * 1000
"""How long a deregistration is remembered. Must outlast the longest replay that may still bring an older
record of the same instance; a day covers a restore from yesterday's savepoint."""


class Renderer(Protocol):
    """Turns facts into the JSON that readers see; `waypost.wire.endpoint` has the real one."""

    def route(self, attributes: Attributes, since: int) -> str: ...

    def instance(self, view: InstanceView, since: int) -> str: ...


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One known instance with its three facts, as people see it. `attributes` is what was registered; `weight` is
    what gateways get, which differs when it follows the instance's load."""

    attributes: Attributes
    source: str
    declared: Declared
    health: Health
    lease: Lease
    generation: int
    weight: int

    @property
    def routed(self) -> Attributes:
        """What the table says of it."""
        known = self.attributes
        return known if self.weight == known.weight else replace(known, weight=self.weight)


@dataclass(frozen=True, slots=True)
class Plan:
    """A publication, what `Published` will say of each instance once the store has it, and which of these instances
    are then in the table on a lease."""

    publication: Publication
    after: Mapping[str, Published]
    leased: Set[str]


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

LOAD_RULE = "load"
"""What `meta` and the audit log call a change of weights that follow the load."""

MAX_ANSWERS = 1_000
"""Answers waiting per service, the newest ones; while the store is away nobody gets any."""

MAX_CAUSES = 16
"""Causes listed per publication; a storm that merges thousands of records names the first ones."""


class ServiceFold:
    """The fold of one service over its store."""

    def __init__(self, service: ServiceKey, store: ServiceStore, renderer: Renderer) -> None:
        self.service = service
        self._store = store
        self._renderer = renderer

    # -- folding ---------------------------------------------------------------------------------------

    def apply(self, event: RouteEvent, cause: Cause | None = None, *, answer: bool = True) -> Verdict:
        """Fold one event and return what became of it. Folding it again changes nothing.

        `answer` is False for a record so old that nobody waits any more, as in a replay of the whole log.
        """
        store = self._store
        if isinstance(event, InstanceEvent):
            verdict, touched = self._apply_instance(event)
            rule = event.op.value
        elif isinstance(event, SetEvent):
            verdict, touched = self._apply_set(event)
            rule = "set"
        else:
            verdict, touched = self._apply_lease(event)
            rule = f"lease-{event.fact.value}" if event.fact is not LeaseFact.HEALTH else "beat-health"
        header, pending = store.header, store.pending
        registry, leases = header.position
        if isinstance(event, LeaseTransition):
            header.position = Position(registry, max(leases, event.stamp.at))
        else:
            header.position = Position(max(registry, event.stamp), leases)
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
        facts = self._store.instances.get(event.instance) or InstanceFacts()
        was_registered = facts.is_registered
        if not state_facts(facts, event):
            return SUPERSEDED, ()
        self._store.instances[event.instance] = facts
        self._follow_load(event.instance, facts)
        if facts.is_registered or was_registered:
            return APPLIED, (event.instance,)
        # Nothing registered this id, or it is gone. The fact is kept, in case the log still brings the
        # registration (producers that do not key by service), but as of now the record has no effect.
        return (ALREADY_GONE if facts.attributes and event.op is Op.DEREGISTER else UNKNOWN_INSTANCE), ()

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
            if event.stamp <= facts.health_stamp:
                return SUPERSEDED, ()
            facts.health, facts.health_stamp = event.health, event.stamp
        else:
            if event.generation < facts.generation:
                return OLD_GENERATION, ()
            if (event.generation, event.stamp) <= (facts.lease_generation, facts.lease_stamp):
                return SUPERSEDED, ()
            facts.lapsed = event.fact is LeaseFact.LAPSED
            facts.lease_generation, facts.lease_stamp = event.generation, event.stamp
        self._store.instances[event.instance] = facts
        return APPLIED, ((event.instance,) if facts.is_registered else ())

    # -- what readers should see -----------------------------------------------------------------------

    def view(self, instance: str) -> InstanceView | None:
        """Return what is known of one instance, None when nothing speaks for it."""
        facts = self._store.instances.get(instance)
        if facts is not None and facts.is_registered:
            attributes = facts.effective_attributes
            by_load = self._store.weights.get(instance) if follows_load(attributes.metadata) else None
            return InstanceView(
                attributes=attributes,
                source=facts.source,
                declared=facts.effective_declared,
                health=facts.effective_health,
                lease=facts.effective_lease,
                generation=facts.generation.at,
                weight=attributes.weight if by_load is None else by_load.weigh(attributes.weight),
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
        return InstanceView(
            attributes=attributes,
            source=source,
            declared=Declared.UP,
            health=Health.PASS if declared_set.healthy else Health.FAIL,
            lease=Lease.NONE,
            generation=stamp.at,
            weight=attributes.weight,
        )

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

    def _plan(self, op: ChangeOp, ids: Iterable[str], floor: int) -> Plan:
        header, pending = self._store.header, self._store.pending
        is_delta = op is ChangeOp.DELTA
        routes: dict[str, str | None] = {}
        instances: dict[str, str | None] = {}
        after: dict[str, Published] = {}
        leased: set[str] = set()
        total, count = (header.digest, header.endpoints) if is_delta else (0, 0)
        for instance in ids:
            known = self._store.published.get(instance)
            before = known or NOTHING
            view = self.view(instance)
            routable = view is not None and is_routable(view.declared, view.health, view.lease)
            is_as_before = known is not None and routable == bool(known.route_digest)
            since = before.since if is_as_before else header.event_time
            if view is None:
                instances[instance] = None
                route = None
            else:
                instances[instance] = self._renderer.instance(view, since)
                route = self._renderer.route(view.routed, since) if routable else None
                if routable and view.lease is not Lease.NONE:
                    leased.add(instance)
            entry = Published(entry_digest(instance, route) if route is not None else 0, since)
            if view is not None:
                after[instance] = entry
            replaced = before.route_digest if is_delta else 0
            if entry.route_digest != replaced:
                routes[instance] = route
                total ^= entry.route_digest ^ replaced
                count += (entry.route_digest != 0) - (replaced != 0)
        writes = bool(instances) or not is_delta
        publication = Publication(
            service=self.service,
            op=op,
            base=header.revision,
            revision=max(floor + 1, header.event_time * 1000) if writes else header.revision,
            event_time=header.event_time,
            routes=routes,
            instances=instances,
            digest=total,
            endpoints=count,
            rule=pending.rule or "resync",
            causes=tuple(pending.causes),
            answers=tuple(pending.answers),
            position=str(header.position),
        )
        return Plan(publication, after, leased)

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
        header.revision = publication.revision
        header.digest = publication.digest
        header.endpoints = publication.endpoints
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
        return view is None or is_routable(view.declared, view.health, view.lease)

    # -- housekeeping ----------------------------------------------------------------------------------

    def purge(self, now: int) -> int:
        """Forget tombstones and stray facts older than `TOMBSTONE_MS` and return how many; `now` is log time."""
        old = [
            instance
            for instance, facts in self._store.instances.items()
            if not facts.is_registered and facts.last_stamp.at < now - TOMBSTONE_MS
        ]
        for instance in old:
            del self._store.instances[instance]
            self._store.weights.pop(instance, None)
        return len(old)
