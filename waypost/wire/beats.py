"""Heartbeats, the records of `service-heartbeat`.

A plain beat is a JSON object under the instance's id as key, and every field of it is optional: `{"cpu":0.4}`
under `pod-7` renews pod-7. A node batch carries the beats of many instances in one record:

    {"node":"n1","beats":[{"instance":"payments-1","cpu":0.4},{"instance":"webhook-1","status":"pass"}]}

`decode_beat` is the hottest function of the house (every beat of the fleet passes it), so it walks the few fields
that are there instead of asking for each one that might be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from waypost.errors import DecodeError
from waypost.model.beats import PLAIN, Beat
from waypost.model.lifecycle import BEAT_WORDS, Health
from waypost.wire.attributes import read_node
from waypost.wire.fields import MAX_SAFE_INTEGER, as_list, as_object, as_text, read_object, required, wrong_type
from waypost.wire.names import read_instance, read_namespace, service_name

MAX_BYTES = 64 * 1024
MAX_BATCH = 1_000
MAX_ENDPOINT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """All beats of one record as (instance id, beat), and what was wrong with those that could not be read."""

    beats: tuple[tuple[str, Beat], ...] = ()
    errors: tuple[DecodeError, ...] = ()


def decode_beat(value: str | bytes) -> Beat:
    """Read one plain beat. Raises DecodeError, `escaped-batch` when the object is a node batch.

    Callers pick out batches before, by the text `"beats"`; a batch that arrives here wrote that name with
    escapes, and is refused rather than taken for a beat of its node.
    """
    doc = read_object(value, MAX_BYTES)
    return _beat(doc) if doc else PLAIN


def _beat(doc: dict[str, Any]) -> Beat:
    service = namespace = ""
    health: Health | None = None
    cpu: float | None = None
    mem: float | None = None
    ts: int | None = None
    for name, item in doc.items():
        if name == "cpu":
            cpu = item if type(item) is float and item >= 0.0 else _load("cpu", item)
        elif name == "mem":
            mem = item if type(item) is float and item >= 0.0 else _load("mem", item)
        elif name == "beats":
            raise DecodeError("escaped-batch", "a node batch where a plain beat is expected")
        elif item is None:
            continue
        elif name == "status":
            health = _health(item)
        elif name == "service":
            service = service_name(item)
        elif name == "namespace":
            namespace = read_namespace(item, "")
        elif name == "endpoint":
            as_text("endpoint", item, MAX_ENDPOINT)
        elif name == "ts":
            if type(item) is not int and type(item) is not float:
                raise wrong_type("ts", "a number", item)
            # Beyond it, it is no time of anybody's clock; what it says of lag is nothing, and harms nobody.
            ts = int(item) if -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER else None
    return Beat(service=service, namespace=namespace, health=health, cpu=cpu, mem=mem, ts=ts)


def _load(name: str, item: Any) -> float | None:
    """Return a load figure, in whatever unit the producer uses. The parser lets no infinity or NaN pass."""
    if item is None:
        return None
    if type(item) is not float and type(item) is not int:
        raise wrong_type(name, "a number", item)
    if item < 0:
        raise DecodeError("load-out-of-range", f"{name} must not be negative")
    return float(item)


def _health(item: Any) -> Health | None:
    if type(item) is not str:
        raise wrong_type("status", "a string", item)
    if item in BEAT_WORDS:
        return BEAT_WORDS[item]
    word = item.lower() if item.isascii() else item
    if word not in BEAT_WORDS:
        raise DecodeError("unknown-status", f"the status of a beat is one of {', '.join(BEAT_WORDS)}")
    return BEAT_WORDS[word]


def decode_heartbeat(key: bytes | None, value: bytes | None) -> Heartbeats:
    """Read one record of `service-heartbeat`, plain beat or node batch. Witness records are not for this.

    Raises DecodeError when the record as a whole cannot be read. A bad beat in a batch is listed in `errors` (its
    detail begins with its index) and takes no other beat with it. The key of a batch is not looked at.
    """
    if value is None:
        raise DecodeError("tombstone", "a null value is no beat")
    doc = read_object(value, MAX_BYTES)
    if "beats" in doc:
        return _batch(doc)
    return Heartbeats(beats=((_instance_of(key), _beat(doc)),))


def _instance_of(key: bytes | None) -> str:
    if not key:
        raise DecodeError("key-missing", "a plain beat says whose it is by the record's key")
    try:
        instance = key.decode("ascii")
    except UnicodeDecodeError:
        instance = ""
    return read_instance(instance)


def _batch(doc: dict[str, Any]) -> Heartbeats:
    items = as_list("beats", doc["beats"])
    if len(items) > MAX_BATCH:
        raise DecodeError("too-many-beats", f"{len(items)} beats in one record, at most {MAX_BATCH} are allowed")
    if doc.get("node") is not None:
        read_node(doc["node"])
    beats: list[tuple[str, Beat]] = []
    errors: list[DecodeError] = []
    for index, item in enumerate(items):
        try:
            one = as_object("a beat", item)
            beats.append((read_instance(required(one, "instance")), _beat(one)))
        except DecodeError as error:
            errors.append(DecodeError(error.reason, f"beat {index}: {error.detail}"))
    return Heartbeats(beats=tuple(beats), errors=tuple(errors))


def encode_beat(beat: Beat) -> bytes:
    """Write one plain beat, only the fields it has; `decode_beat` gives it back. The key is the instance id."""
    return orjson.dumps(_fields(beat))


def encode_batches(node: str, beats: Iterable[tuple[str, Beat]]) -> Iterator[bytes]:
    """Write the beats of many instances as node batches, as few as the limits of a record allow; none for no beats.

    `decode_heartbeat` gives them back, in order. A batch's key is free; producers of this project use the node's name.
    """
    frame = len(orjson.dumps({"node": node, "beats": []}))
    items: list[bytes] = []
    size = frame
    for instance, beat in beats:
        item = orjson.dumps({"instance": instance, **_fields(beat)})
        if items and (len(items) == MAX_BATCH or size + len(item) + 1 > MAX_BYTES):
            yield _batch_of(node, items)
            items, size = [], frame
        items.append(item)
        size += len(item) + 1
    if items:
        yield _batch_of(node, items)


def _batch_of(node: str, items: list[bytes]) -> bytes:
    return orjson.dumps({"node": node, "beats": [orjson.Fragment(item) for item in items]})


def _fields(beat: Beat) -> dict[str, Any]:
    doc: dict[str, Any] = {}
    if beat.service:
        doc["service"] = beat.service
    if beat.namespace:
        doc["namespace"] = beat.namespace
    if beat.health is not None:
        doc["status"] = beat.health.value
    if beat.cpu is not None:
        doc["cpu"] = beat.cpu
    if beat.mem is not None:
        doc["mem"] = beat.mem
    if beat.ts is not None:
        doc["ts"] = beat.ts
    return doc
