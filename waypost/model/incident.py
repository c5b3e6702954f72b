"""Many symptoms with one cause are one incident.

When a node dies, every instance on it falls silent and half of them raise alerts. Repairing each of them would be
wrong N times over; what failed is the node. So symptoms that are close together in time are compared by what they
have in common:

    a node      3 or more instances, and half or more of those known on it
    a version   3 or more instances of one service, half or more of that version, and none of another version
    a zone      instances of 2 or more nodes, and half or more of those known in it

The largest cause wins, a zone before its nodes: it explains more. Whoever is explained is not looked at again, so each
symptom is part of one incident at most. What an incident is about is decided on what is known of the fleet, never on
words in an alert.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from waypost.model.alert import CONFIG_REGRESSION, NODE_FAILURE, Alert, AlertStatus
from waypost.model.census import About, Cause, Census, InstanceId, causes
from waypost.model.names import ServiceKey, is_service


class Symptom(NamedTuple):
    """Something bad happened to an instance at `at` (epoch ms): an alert with this fingerprint, or "": its lease
    ended."""

    subject: InstanceId
    at: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRules:
    """`window_ms`: how close together. Ten seconds is a lease's tick and an Alertmanager group of the same second;
    doubled, more coincidences look like causes."""

    window_ms: int = 10_000
    instances: int = 3
    percent: int = 50
    zone_nodes: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One cause. `name` is the node or zone, or `<namespace>/<service>@<version>`; `since` its first symptom."""

    about: About
    name: str
    since: int
    members: tuple[Symptom, ...]

    @property
    def id(self) -> str:
        """Return the name under which its parts are refused: stable while it has the same first symptom."""
        told = f"{self.about.value}\n{self.name}\n{self.since}"
        return f"{self.about.value}-{blake2b(told.encode(), digest_size=6).hexdigest()}"

    @property
    def fingerprints(self) -> frozenset[str]:
        """Return which alerts are part of it."""
        return frozenset(symptom.fingerprint for symptom in self.members if symptom.fingerprint)


def incidents(symptoms: Iterable[Symptom], fleet: Census, rules: IncidentRules, now: int) -> list[Incident]:
    """Return the incidents of the last `window_ms` before `now`, the largest first. Neither the order nor copies of
    symptoms matter."""
    first: dict[InstanceId, Symptom] = {}
    members: defaultdict[InstanceId, set[Symptom]] = defaultdict(set)
    for symptom in symptoms:
        if now - rules.window_ms < symptom.at <= now and symptom.subject in fleet:
            members[symptom.subject].add(symptom)
            first[symptom.subject] = min(first.get(symptom.subject, symptom), symptom, key=lambda s: s.at)
    groups: defaultdict[Cause, set[InstanceId]] = defaultdict(set)
    for subject in first:
        for cause in causes(subject, fleet[subject]):
            groups[cause].add(subject)
    found: list[Incident] = []
    order = list(About)
    while True:
        failing = _failing_versions(groups)
        claims = [cause for cause in groups if _is_cause(cause, groups[cause], failing, fleet, rules)]
        if not claims:
            return found
        largest = min(claims, key=lambda c: (-len(groups[c]), order.index(c.about), c.name))
        explained = sorted(groups[largest])
        found.append(
            Incident(
                about=largest.about,
                name=largest.name,
                since=min(first[subject].at for subject in explained),
                members=tuple(sorted(s for subject in explained for s in members[subject])),
            )
        )
        for subject in explained:
            for cause in causes(subject, fleet[subject]):
                groups[cause].discard(subject)


def as_alert(incident: Incident, status: AlertStatus = AlertStatus.FIRING) -> Alert | None:
    """Return the alert to decide instead of the members'. None for a zone: there is nothing to repair on it, its
    members are left to people. None for a node whose name no cluster can have: a registration may say anything."""
    labels = {"incident": incident.id}
    if incident.about is About.NODE:
        if not is_service(incident.name):
            return None
        return Alert(
            type=NODE_FAILURE, status=status, fingerprint=incident.id, starts_at=incident.since, node=incident.name,
            labels=labels,
        )  # fmt: skip
    if incident.about is About.VERSION:
        service, _, version = incident.name.partition("@")
        key = ServiceKey.parse(service)
        return Alert(
            type=CONFIG_REGRESSION, status=status, fingerprint=incident.id, starts_at=incident.since,
            namespace=key.namespace, service=key.service, labels={**labels, "version": version},
        )  # fmt: skip
    return None


def _failing_versions(groups: Mapping[Cause, set[InstanceId]]) -> Mapping[str, int]:
    """Return of how many versions of a service somebody has a symptom."""
    found: defaultdict[str, int] = defaultdict(int)
    for cause, subjects in groups.items():
        if cause.about is About.VERSION and subjects:
            found[cause.name.partition("@")[0]] += 1
    return found


def _is_cause(
    cause: Cause, affected: set[InstanceId], failing: Mapping[str, int], fleet: Census, rules: IncidentRules
) -> bool:
    if len(affected) < rules.instances or len(affected) * 100 < fleet.size(cause) * rules.percent:
        return False
    if cause.about is About.ZONE:
        return len({fleet[subject].node for subject in affected} - {""}) >= rules.zone_nodes
    if cause.about is About.VERSION:
        service = cause.name.partition("@")[0]
        # All instances of one version of one: it may as well be anything else.
        return failing[service] == 1 and fleet.versions(ServiceKey.parse(service)) > 1
    return True
