"""Schemas, golden examples and decoders say the same, as far as a schema can say it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import schemas
from tests.wire.publications import a_publication
from waypost.errors import DecodeError
from waypost.model.events import Attributes
from waypost.model.fencing import WriterId
from waypost.model.isolation import LONGEST_MS
from waypost.model.stamp import Stamp
from waypost.wire.alerts import decode_alert, encode_alert
from waypost.wire.beats import decode_beat, decode_heartbeat, encode_beat
from waypost.wire.changes import delta_fields, read_delta
from waypost.wire.config import ConfigRecord, checksum, decode_config, encode_config
from waypost.wire.dead_letter import decode_dead_letter, encode_dead_letter
from waypost.wire.endpoint import decode_endpoint, decode_instance, encode_endpoint, encode_instance
from waypost.wire.fields import read_object
from waypost.wire.isolation import decode_isolation, encode_isolation
from waypost.wire.policies import decode_policies, encode_policies
from waypost.wire.registry import decode_registration, encode_registration
from waypost.wire.repair_decisions import decode_decision, encode_decision
from waypost.wire.repair_results import decode_result, encode_result
from waypost.wire.route_changes import Chunk, decode_route_change, encode_restart, encode_route_changes
from waypost.wire.window_stats import decode_window_stats, encode_window_stats

ROOM = Path(schemas.__file__).parent
NOW = Stamp(1_795_298_407_272, 3, 1204)


def _all_beats(value: bytes) -> None:
    found = decode_heartbeat(None, value)
    if found.errors:
        raise found.errors[0]


def _config(value: bytes) -> ConfigRecord | None:
    """Decode a configuration whose checksum has the form of one as if it were right: a schema cannot say more."""
    doc = orjson.loads(value)
    if isinstance(doc, dict) and isinstance(doc.get("value"), str) and len(str(doc.get("checksum"))) == 64:
        doc["checksum"] = checksum(doc["value"]) if set(str(doc["checksum"])) <= set("0123456789abcdef") else "x"
    return decode_config(b"repair/control", orjson.dumps(doc))


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "registration-instance": lambda value: decode_registration(value, NOW),
    "registration-service": lambda value: decode_registration(value, NOW),
    "heartbeat": decode_beat,
    "node-batch": _all_beats,
    "dead-letter": decode_dead_letter,
    "route-value": decode_endpoint,
    "instance-value": decode_instance,
    "change-data": lambda value: read_delta(read_object(value, 1_000_000)),
    "route-changes": decode_route_change,
    "meta-window": lambda value: decode_window_stats(read_object(value, 1_000_000)),
    "alert": decode_alert,
    "isolation": lambda value: decode_isolation(value, Stamp(NOW.at - 1, 3, 1204)),
    "repair-action": decode_decision,
    "repair-result": decode_result,
    "repair-policies": decode_policies,
    "config": _config,
}
EXAMPLES = sorted(path.name for path in (ROOM / "examples").glob("*.json"))


def schema(message: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOM / f"{message}.schema.json").read_text()))


VALIDATORS = {message: schema(message) for message in DECODERS}


def golden(name: str) -> tuple[str, bytes]:
    return name.split(".")[0], (ROOM / "examples" / name).read_bytes().removesuffix(b"\n")


def test_every_message_has_a_schema_a_decoder_and_an_example() -> None:
    written = {path.name.removesuffix(".schema.json") for path in ROOM.glob("*.schema.json")}

    assert written == set(DECODERS) == {golden(name)[0] for name in EXAMPLES}


@pytest.mark.parametrize("message", DECODERS)
def test_schemas_are_schemas(message: str) -> None:
    Draft202012Validator.check_schema(VALIDATORS[message].schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_examples_pass_schema_and_decoder(name: str) -> None:
    message, value = golden(name)

    VALIDATORS[message].validate(json.loads(value))
    DECODERS[message](value)


def _place(value: Any) -> Attributes:
    return Attributes(
        address=value.address, port=value.port, weight=value.weight, zone=value.zone, node=value.node,
        metadata=value.metadata,
    )  # fmt: skip


REPAIRS: dict[str, Callable[[Any], bytes]] = {
    "alert": encode_alert,
    "isolation": encode_isolation,
    "repair-action": encode_decision,
    "repair-result": encode_result,
    "repair-policies": encode_policies,
    "config": lambda record: encode_config(record)[1],
}


def rewritten(message: str, value: bytes) -> bytes:
    """Decode, and encode again."""
    if message in ("registration-instance", "registration-service"):
        return encode_registration(decode_registration(value, NOW), ts=json.loads(value).get("ts"))
    if message == "heartbeat":
        return encode_beat(decode_beat(value))
    if message == "dead-letter":
        d = decode_dead_letter(value)
        return encode_dead_letter(d.topic, d.partition, d.offset, d.reason, d.value, d.detail)
    if message == "route-value":
        endpoint = decode_endpoint(value)
        return encode_endpoint(_place(endpoint), since=endpoint.since, held=endpoint.held).encode()
    if message == "instance-value":
        known = decode_instance(value)
        return encode_instance(**{name: getattr(known, name) for name in known.__slots__}).encode()
    if message == "change-data":
        return orjson.dumps(delta_fields(read_delta(read_object(value, 1_000_000))))
    if message == "meta-window":
        return orjson.dumps(encode_window_stats(decode_window_stats(read_object(value, 1_000_000))))
    if message in REPAIRS:
        return REPAIRS[message](DECODERS[message](value))
    found = decode_route_change(value)
    if not isinstance(found, Chunk):
        return encode_restart(WriterId(found.job_id, found.attempt), found.epoch, found.at)
    r = found.record
    (one,) = encode_route_changes(
        a_publication(
            service=r.service, op=r.op, base=r.base, revision=r.revision, event_time=r.event_time, rule=r.rule,
            digest=int(r.digest, 16), protected=r.protected, causes=r.causes,
            routes={**r.delta.set, **dict.fromkeys(r.delta.delete)},
        ),
        r.epoch,
    )  # fmt: skip
    return one


# The full beat names an endpoint, which nobody reads, and a node batch is an agent's to write: not ours.
OURS = [name for name in EXAMPLES if name != "heartbeat.full.json" and not name.startswith("node-batch")]


@pytest.mark.parametrize("name", OURS)
def test_golden_examples_are_written_byte_for_byte(name: str) -> None:
    message, value = golden(name)

    assert rewritten(message, value) == value


# Values every field is tried with. Left out is what a schema cannot say: addresses that cannot be called, times in
# the future, an id both set and deleted, i > n.
POOL: list[Any] = [
    None, True, False, -1, 0, 1, 2, 90.0, 1.5, 65_535, 65_536, 70_000, 86_400, 86_401, 2**53, 1e300, "", "x", "A", "UP",
    "pass", "update", "x y", "a\nb", "\u0085", "a/b", "x" * 64, "x" * 129, "x" * 254, "x" * 513, "x" * 1_025, [], ["x"],
    ["a:80"],
    ["a:0"], ["a"], [1], [None], [{}], [{"instance": "i"}], [{"instance": "i", "cpu": -1}], {}, {"k": "v"}, {"k": 1},
    {"": "v"},
    {"k": "\t"}, {"x" * 64: "v"},
]  # fmt: skip
ABSENT = object()


def _paths(doc: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    return [p for key, item in items for p in [(*path, key), *_paths(item, (*path, key))]]


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, Any]:
    """One golden example with up to two of its fields, or fields of its schema, changed or taken away."""
    message, value = golden(draw(st.sampled_from(EXAMPLES)))
    doc = json.loads(value)
    for _ in range(draw(st.integers(1, 2))):
        known = [(name,) for name in sorted(VALIDATORS[message].schema.get("properties", {}))]
        *parents, last = draw(st.sampled_from(_paths(doc) + known))
        target = doc
        for key in parents:
            target = target[key]
        change = draw(st.sampled_from([*POOL, ABSENT]))
        if change is not ABSENT:
            target[last] = copy.deepcopy(change)
        elif isinstance(target, list) or last in target:
            del target[last]
    return message, doc


def _beyond_schema(message: str, doc: Any) -> bool:
    """Tell whether only the decoder can judge: `endpoint` entries are checked by those who read them, and which
    form a record is of by both."""
    if message == "registration-service":
        seconds = doc.get("last_updated")
        return isinstance(seconds, (int, float)) and seconds > NOW.at // 1000
    if message == "registration-instance":
        return doc.get("op") is None and doc.get("instance") is None
    if message == "repair-policies":  # no two policies have one name
        several = doc.get("policies")
        names = [p.get("name") for p in several if isinstance(p, dict)] if isinstance(several, list) else []
        return len(names) != len({str(name) for name in names})
    if message == "isolation":  # nothing ends before its append time, or more than a week after it
        end = doc.get("expires_at")
        return isinstance(end, (int, float)) and not NOW.at <= end <= NOW.at + LONGEST_MS
    return message == "route-changes"


@settings(deadline=None, max_examples=600)
@given(mutants())
def test_schema_and_decoder_agree(mutant: tuple[str, Any]) -> None:
    message, doc = mutant
    by_schema = VALIDATORS[message].is_valid(doc)
    try:
        DECODERS[message](orjson.dumps(doc))
        by_decoder = True
    except DecodeError:
        by_decoder = False

    # The schema never refuses what the decoder takes; it may take more only where it cannot say it.
    assert by_schema or not by_decoder
    if not _beyond_schema(message, doc):
        assert by_schema == by_decoder
