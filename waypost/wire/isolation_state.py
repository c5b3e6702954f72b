"""Isolations ↔ bytes in keyed state: the words of a service, and the word about a node.

Versioned and explicit, as `waypost.wire.fold_state`. Read without the checks that a record has to pass: it has passed
them, and a rule that becomes stricter must not keep a job from starting.
"""

from __future__ import annotations

from typing import Any

import orjson

from waypost.errors import StateVersionError
from waypost.model.isolation import Isolation, Isolations, Verb
from waypost.model.names import ServiceKey
from waypost.model.stamp import Stamp

VERSION = 1


def encode_words(words: Isolations) -> bytes:
    """Encode every word that is kept."""
    return orjson.dumps((VERSION, [_fields(word) for word in words.words.values()]), default=tuple)


def decode_words(blob: bytes) -> Isolations:
    """Decode what `encode_words` wrote."""
    found = [_word(fields) for fields in _load(blob)]
    return Isolations({word.slot: word for word in found})


def encode_word(word: Isolation) -> bytes:
    """Encode a single word."""
    return orjson.dumps((VERSION, _fields(word)), default=tuple)


def decode_word(blob: bytes) -> Isolation:
    """Decode what `encode_word` wrote."""
    return _word(_load(blob))


def _fields(word: Isolation) -> tuple[Any, ...]:
    return (
        word.verb.value,
        word.service,
        word.instance,
        word.node,
        word.cause,
        word.by,
        word.expires_at,
        word.request_id,
        word.stamp,
    )


def _word(fields: list[Any]) -> Isolation:
    verb, service, instance, node, cause, by, expires_at, request_id, stamp = fields
    return Isolation(
        verb=Verb(verb),
        service=None if service is None else ServiceKey(*service),
        instance=instance,
        node=node,
        cause=cause,
        by=by,
        expires_at=expires_at,
        request_id=request_id,
        stamp=Stamp(*stamp),
    )


def _load(blob: bytes) -> list[Any]:
    version, fields = orjson.loads(blob)
    if version != VERSION:
        raise StateVersionError(
            f"isolations of version {version}, but this build reads version {VERSION}: "
            "restore the savepoint with the release that wrote it, take a new one, then upgrade in steps"
        )
    return list(fields)
