"""Entries of the `changes` stream in Redis, which tells readers what to change in their copy of a table.

An entry is a flat dictionary of strings, as Redis streams are; numbers travel as decimal strings because Lua
would round them. Its fields:

    service     namespace/service          op      delta, snapshot or removed
    revision    of the table afterwards    base    of the table it applies to
    event_time  epoch ms of the log        data    {"set":{id:endpoint},"delete":[id]}
    answers     [{"request_id","applied","reason"}]

A reader whose revision is not `base` rereads the table. `revision` equal to `base` changes nothing: the entry
is there for its answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Delta, Publication
from waypost.wire.fields import (
    MAX_SAFE_INTEGER,
    as_bool,
    as_list,
    as_object,
    as_text,
    read_json,
    read_object,
    required,
)
from waypost.wire.names import MAX_REQUEST_ID, read_instance, read_namespace, service_name
from waypost.wire.words import read_word

MAX_BYTES = 512 * 1024 * 1024
"""What Redis itself allows for one string: a snapshot of any size is one entry."""

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """One entry of the stream, for readers.

    `delta.set` maps instance id → the endpoint's canonical JSON, byte for byte as in the route hash (decode it
    with `decode_endpoint`). For a SNAPSHOT it is the whole table; for REMOVED it is empty.
    """

    service: ServiceKey
    op: ChangeOp
    base: int
    revision: int
    event_time: int
    delta: Delta
    answers: tuple[Answer, ...] = ()


def encode_change(publication: Publication) -> dict[str, str]:
    """Return the fields of the stream entry for one publication."""
    delta = route_delta(publication)
    answers = [{"request_id": a.request_id, "applied": a.applied, "reason": a.reason} for a in publication.answers]
    return {
        "service": str(publication.service),
        "revision": str(publication.revision),
        "base": str(publication.base),
        "op": publication.op.value,
        "data": orjson.dumps(delta_fields(delta)).decode(),
        "event_time": str(publication.event_time),
        "answers": orjson.dumps(answers).decode(),
    }


def decode_change(fields: Mapping[Any, Any]) -> RouteChange:
    """Read one entry of the stream; names and values may be str or bytes. Raises DecodeError."""
    texts = {_text(name): item for name, item in fields.items()}
    return RouteChange(
        service=_service(_text(required(texts, "service"))),
        op=read_word(ChangeOp, {"op": _text(required(texts, "op"))}, "op"),
        base=_number(texts, "base"),
        revision=_number(texts, "revision"),
        event_time=_number(texts, "event_time"),
        delta=read_delta(read_object(_text(required(texts, "data")), MAX_BYTES)),
        answers=_answers(_text(required(texts, "answers"))),
    )


def route_delta(publication: Publication) -> Delta:
    """Return what a publication says about routes, ids in order."""
    routes = publication.routes
    return Delta(
        set={i: text for i, text in sorted(routes.items()) if text is not None},
        delete=tuple(sorted(i for i, text in routes.items() if text is None)),
    )


def delta_fields(delta: Delta) -> dict[str, Any]:
    """Return a delta as JSON fields. The endpoints' JSON goes in as it is."""
    return {"set": {i: orjson.Fragment(text) for i, text in delta.set.items()}, "delete": list(delta.delete)}


def read_delta(doc: dict[str, Any]) -> Delta:
    """Read what `delta_fields` wrote. Raises DecodeError."""
    entries = as_object("set", required(doc, "set"))
    gone = tuple(read_instance(item) for item in as_list("delete", required(doc, "delete")))
    if not entries.keys().isdisjoint(gone):
        raise DecodeError("ambiguous-change", "an id is both set and deleted")
    return Delta(
        # Our encoder and this parser keep the order of keys, so the bytes come out as they went in.
        set={read_instance(i): orjson.dumps(as_object("an endpoint", e)).decode() for i, e in entries.items()},
        delete=gone,
    )


def _text(item: Any) -> str:
    if isinstance(item, bytes):
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError("bad-utf8", "a field of the entry is not UTF-8") from None
    if isinstance(item, str):
        return item
    raise DecodeError("wrong-type", "fields of a stream entry are strings")


def _number(texts: dict[str, Any], name: str) -> int:
    text = _text(required(texts, name))
    if not _NUMBER.match(text):
        raise DecodeError("wrong-type", f"{name} must be a decimal number")
    number = int(text)
    if number > MAX_SAFE_INTEGER:
        raise DecodeError("number-out-of-range", f"{name} must be below 2**53")
    return number


def _service(text: str) -> ServiceKey:
    namespace, _, service = text.partition("/")
    return ServiceKey(read_namespace(namespace, ""), service_name(service))


def _answers(text: str) -> tuple[Answer, ...]:
    items = as_list("answers", read_json(text, MAX_BYTES))
    return tuple(_answer(as_object("an answer", item)) for item in items)


def _answer(doc: dict[str, Any]) -> Answer:
    return Answer(
        request_id=as_text("request_id", required(doc, "request_id"), MAX_REQUEST_ID),
        applied=as_bool("applied", required(doc, "applied")),
        reason=as_text("reason", required(doc, "reason"), 253),
    )
