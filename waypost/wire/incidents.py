"""Symptoms and open incidents ↔ bytes: keyed state of the incident fold. Explicit and versioned, as all state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.alert import Target
from waypost.model.census import About, InstanceId
from waypost.model.incident import Incident, Symptom
from waypost.model.incident_fold import Open
from waypost.model.names import ServiceKey

VERSION = 1


def encode_symptom(symptom: Symptom) -> bytes:
    """Encode one symptom."""
    return orjson.dumps((VERSION, *_symptom_fields(symptom)))


def decode_symptom(blob: bytes) -> Symptom:
    """Decode what `encode_symptom` wrote. Raises StateVersionError."""
    return _symptom(_load(blob))


def encode_open(one: Open) -> bytes:
    """Encode an open incident."""
    incident = one.incident
    return orjson.dumps(
        (
            VERSION,
            incident.about.value,
            incident.name,
            incident.since,
            [_symptom_fields(member) for member in incident.members],
            one.opened_at,
            [(fingerprint, *target) for fingerprint, target in one.firing],
            [_subject_fields(subject) for subject in one.silent],
            one.alerted,
            [_subject_fields(subject) for subject in one.arrived],
        )
    )


def decode_open(blob: bytes) -> Open:
    """Decode what `encode_open` wrote. Raises StateVersionError."""
    about, name, since, members, opened_at, firing, silent, alerted, *later = _load(blob)
    return Open(
        incident=Incident(
            about=About(about), name=name, since=since, members=tuple(_symptom(fields) for fields in members)
        ),
        opened_at=opened_at,
        firing=tuple((fingerprint, Target(namespace, target)) for fingerprint, namespace, target in firing),
        silent=tuple(_subject(fields) for fields in silent),
        alerted=alerted,
        arrived=tuple(_subject(fields) for fields in (later[0] if later else ())),
    )


def _subject_fields(subject: InstanceId) -> tuple[str, str]:
    return str(subject.service), subject.instance


def _subject(fields: Sequence[str]) -> InstanceId:
    service, instance = fields
    return InstanceId(ServiceKey.parse(service), instance)


def _symptom_fields(symptom: Symptom) -> tuple[str, str, int, str]:
    return *_subject_fields(symptom.subject), symptom.at, symptom.fingerprint


def _symptom(fields: Sequence[Any]) -> Symptom:
    service, instance, at, fingerprint = fields
    return Symptom(_subject((service, instance)), at, fingerprint)


def _load(blob: bytes) -> list[Any]:
    fields: list[Any]
    version, *fields = orjson.loads(blob)
    if version != VERSION:
        raise StateVersionError(
            f"state of version {version}, but this build reads version {VERSION}: "
            "restore the savepoint with the release that wrote it"
        )
    return fields
