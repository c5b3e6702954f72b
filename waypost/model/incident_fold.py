"""From single symptoms to open incidents, one event after the other.

    alert about a pod ──┐                     ┌──► an alert about the cause, decided like any other
    lease ended ────────┴─► gathered, judged ─┴──► its members are told that they are part of it

    open ──► the members' alerts are over ──► over: the alert is resolved
      ├────► without any: whoever was silent is back, or as many others are there ──► over
      └────► without any an hour has passed, with some twelve ──► over; what still fires is decided on its own

What belongs to an open incident later joins it. What the brake holds (`waypost.model.gate`) is no symptom: so many at
once rather speak against the beats' way than against the instances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace

from waypost.model.alert import Alert, AlertStatus, Target
from waypost.model.census import About, Cause, Census, InstanceId, Known, causes
from waypost.model.incident import Incident, IncidentRules, Symptom, as_alert, incidents
from waypost.model.names import ServiceKey

GATHER_MS = 200
"""After a symptom, before all are judged together: a storm costs one judgement and not one per alert."""

KEPT_MS = 300_000
"""How long a symptom waits for others. They are compared by when they began, and an Alertmanager may group for
minutes before it tells of one."""

OPEN_MS = 3_600_000
"""How long an incident without alerts is open at most: then silence says nothing any more."""

ALERTED_MS = 12 * OPEN_MS
"""The same for one with alerts: as long as an alert is believed that nobody repeats."""

MAX_SYMPTOMS = 20_000
"""Beyond it the oldest is dropped: it is then decided on its own."""

_GRID_MS = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """These alerts of a target are part of an incident; "": of none any more."""

    target: Target
    incident: str
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An incident that is not over. `firing`: whose alerts are not, by fingerprint; `silent`: whose leases ended, and
    for whom none of `arrived` has made up."""

    incident: Incident
    opened_at: int
    firing: tuple[tuple[str, Target], ...] = ()
    silent: tuple[InstanceId, ...] = ()
    arrived: tuple[InstanceId, ...] = ()
    alerted: bool = False

    @property
    def until(self) -> int:
        """Return when it is over at the latest."""
        return self.opened_at + (ALERTED_MS if self.alerted else OPEN_MS)

    @property
    def cause(self) -> Cause:
        return Cause(self.incident.about, self.incident.name)

    @property
    def over(self) -> bool:
        return not self.firing and (self.alerted or not self.silent)


Told = Alert | Part


def symptom_id(symptom: Symptom) -> str:
    """Return the name under which a symptom is kept: one per alert, and one per instance whose lease ended."""
    return symptom.fingerprint or f"{symptom.subject.service}/{symptom.subject.instance}"


@dataclass(slots=True)
class IncidentFold:
    """`symptoms` by `symptom_id` and `open` by the incident's id are whatever keeps them; they are changed in place.
    `unjudged_since`: the beginning of the oldest symptom that has come since the last judgement, 0 for none."""

    census: Census
    symptoms: MutableMapping[str, Symptom]
    open: MutableMapping[str, Open]
    rules: IncidentRules = field(default_factory=IncidentRules)
    unjudged_since: int = 0

    def on_alert(self, alert: Alert, now: int) -> list[Told]:
        """Take a notification, after whoever decides about it has had it."""
        if not alert.firing:
            self.symptoms.pop(alert.fingerprint, None)
            return self._ended(alert.fingerprint)
        target = alert.target
        if target is None or target.is_node or not alert.pod:
            return []
        subject = self.census.of_pod(ServiceKey(*target), alert.pod)
        if subject is None:
            return []  # Nobody knows it: it proves nothing.
        symptom = Symptom(subject, min(alert.starts_at, now), alert.fingerprint)
        joined = self._joined(symptom)
        if joined is not None:
            return joined
        if alert.fingerprint not in self.symptoms:
            self._keep(symptom)
        return []

    def on_lapse(self, subject: InstanceId, at: int) -> None:
        """Note that the lease of an instance ended, which is known to the census still."""
        symptom = Symptom(subject, at)
        if self._joined(symptom) is None:
            self._keep(symptom)

    def on_return(self, subject: InstanceId) -> list[Told]:
        """Note that an instance, which the census knows, has come into its table (again)."""
        self.symptoms.pop(symptom_id(Symptom(subject, 0)), None)
        told: list[Told] = []
        for name, one in list(self.open.items()):
            made_up_for = self._made_up_for(one, subject)
            if made_up_for is not None:
                silent = tuple(s for s in one.silent if s != made_up_for)
                told += self._after(name, replace(one, silent=silent, arrived=(*one.arrived, subject)))
        return told

    def _made_up_for(self, one: Open, arrived: InstanceId) -> InstanceId | None:
        """Return which of the silent need not come back any more, None for nobody.

        Pods that are made anew have new names. One that runs on the node says as much of the node as the one that was
        there; for a version one of another does, because it was rolled back. Each counts once, however often it comes.
        """
        if arrived in one.silent:
            return arrived
        if arrived in one.arrived:
            return None
        known = self.census[arrived] if arrived in self.census else Known()
        of_service = [subject for subject in one.silent if subject.service == arrived.service]
        is_of_it = one.cause in causes(arrived, known)
        if one.cause.about is About.VERSION:
            return next(iter(of_service), None) if not is_of_it else None
        return next(iter((*of_service, *one.silent)), None) if is_of_it else None

    def on_time(self, now: int) -> list[Told]:
        """Judge what has gathered, and let go of what is too old."""
        for name, symptom in list(self.symptoms.items()):
            if symptom.at <= now - KEPT_MS:
                del self.symptoms[name]
        self.census.forget(now - KEPT_MS)
        told: list[Told] = []
        for name, one in list(self.open.items()):
            if now >= one.until:
                told += self._after(name, replace(one, silent=(), firing=()))
                told += _parts("", one.firing)
        for end in self._ends():
            for incident in incidents(self.symptoms.values(), self.census, self.rules, end):
                told += self._opened(incident, now)
        self.unjudged_since = 0
        return told

    def next_at(self) -> int | None:
        """Return when something has to be forgotten, None when there is nothing."""
        waiting = [symptom.at + KEPT_MS for symptom in self.symptoms.values()]
        return min([*waiting, *(one.until for one in self.open.values())], default=None)

    def _ends(self) -> list[int]:
        """Return at which moments to look back, the fullest first: a cause shows where most of it can be seen."""
        at = [symptom.at for symptom in self.symptoms.values()]
        ends = {end for one in at if (end := -(-one // _GRID_MS) * _GRID_MS) >= self.unjudged_since}
        if len(at) < self.rules.instances:
            return []
        return sorted(ends, key=lambda end: (-sum(end - self.rules.window_ms < one <= end for one in at), end))

    def _opened(self, incident: Incident, now: int) -> Iterator[Told]:
        for member in incident.members:
            self.symptoms.pop(symptom_id(member), None)
        firing = tuple((m.fingerprint, _target(m.subject)) for m in incident.members if m.fingerprint)
        silent = tuple(dict.fromkeys(m.subject for m in incident.members if not m.fingerprint))
        self.open[incident.id] = Open(
            incident=incident, opened_at=now, firing=firing, silent=silent, alerted=bool(firing)
        )
        yield from _parts(incident.id, firing)
        alert = as_alert(incident)
        if alert is not None:
            yield alert

    def _joined(self, symptom: Symptom) -> list[Told] | None:
        """Return what a symptom of an open incident leads to, None when it is none."""
        mine = set(causes(symptom.subject, self.census[symptom.subject])) if symptom.subject in self.census else set()
        for name, one in self.open.items():
            if one.cause not in mine:
                continue
            if not symptom.fingerprint:
                if symptom.subject not in one.silent:
                    self.open[name] = replace(one, silent=(*one.silent, symptom.subject))
                return []
            member = (symptom.fingerprint, _target(symptom.subject))
            if member not in one.firing:
                self.open[name] = replace(one, firing=(*one.firing, member), alerted=True)
            # Also to one that was told before: it may have begun again.
            return list(_parts(name, (member,)))
        return None

    def _ended(self, fingerprint: str) -> list[Told]:
        told: list[Told] = []
        for name, one in list(self.open.items()):
            left = tuple(member for member in one.firing if member[0] != fingerprint)
            if len(left) < len(one.firing):
                told += self._after(name, replace(one, firing=left))
        return told

    def _after(self, name: str, one: Open) -> list[Told]:
        if not one.over:
            self.open[name] = one
            return []
        del self.open[name]
        alert = as_alert(one.incident, AlertStatus.RESOLVED)
        return [alert] if alert is not None else []

    def _keep(self, symptom: Symptom) -> None:
        if len(self.symptoms) >= MAX_SYMPTOMS:
            del self.symptoms[min(self.symptoms, key=lambda name: self.symptoms[name].at)]
        self.symptoms[symptom_id(symptom)] = symptom
        self.unjudged_since = min(self.unjudged_since or symptom.at, symptom.at)


def _target(subject: InstanceId) -> Target:
    return Target(subject.service.namespace, subject.service.service)


def _parts(incident: str, firing: Iterable[tuple[str, Target]]) -> Iterator[Part]:
    by_target: defaultdict[Target, list[str]] = defaultdict(list)
    for fingerprint, target in firing:
        by_target[target].append(fingerprint)
    for target, fingerprints in sorted(by_target.items()):
        yield Part(target, incident, tuple(fingerprints))
