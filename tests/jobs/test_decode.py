"""Records that SQL could not take: what becomes of each, and that none speaks for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pyflink.common import Row

from jobs.operators.decode import HeartbeatExploder, RegistryDecoder
from jobs.operators.outputs import DEAD_LETTERS, LEASE_EVENTS
from schemas.flink_types import REGISTRATIONS
from tests.jobs.fakes import FakeMetrics
from tests.model.events import T0, deregistered, registered
from waypost.model.shards import shard_of
from waypost.model.stamp import Stamp
from waypost.wire.dead_letter import decode_dead_letter
from waypost.wire.glue import ENTRY, encode_entry, read_entries
from waypost.wire.registry import encode_registration

HERE = Stamp(T0, 3, 1204)
SHARDS = 8
WATERMARK = T0 + 5_000
"""How far log time has come when an odd record is read."""

REGISTRY, HEARTBEAT = "service-registry", "service-heartbeat"


def of_registry(key: bytes | None, value: bytes | None) -> list[Any]:
    return _left(RegistryDecoder(REGISTRY, SHARDS), key, value)


def of_heartbeat(key: bytes | None, value: bytes | None) -> list[Any]:
    return _left(HeartbeatExploder(HEARTBEAT, SHARDS), key, value)


def _left(operator: RegistryDecoder | HeartbeatExploder, key: bytes | None, value: bytes | None) -> list[Any]:
    """Return what leaves an operator because of one record."""
    operator.open(SimpleNamespace(get_metrics_group=lambda: FakeMetrics(Counter())))  # type: ignore[arg-type]
    context: Any = SimpleNamespace(timer_service=lambda: SimpleNamespace(current_watermark=lambda: WATERMARK))
    return list(operator.process_element(Row(key, value, HERE.partition, HERE.offset, HERE.at), context))


def a_batch(*instances: str) -> bytes:
    return orjson.dumps({"node": "n1", "beats": [{"instance": instance} for instance in instances]})


REGISTERED = encode_registration(registered(0))
FORGED = encode_entry("p-1", Stamp(2**53 - 1, 0, 0), encode_registration(deregistered(0)).decode())


def test_a_sound_registration_reaches_the_leases_and_its_service() -> None:
    (side, leased), routed = of_registry(b"default/payments", REGISTERED)

    entry = ("default/payments", HERE, REGISTERED.decode())
    assert side is LEASE_EVENTS
    assert (leased[0], leased[1]) == (shard_of("p-1", SHARDS), 0)
    assert list(read_entries(leased[2])) == [entry]
    assert (routed[0], routed[1]) == ("default/payments", REGISTRATIONS)
    assert list(read_entries(routed[2].decode())) == [entry]


@pytest.mark.parametrize("key", [f"k{ENTRY}{FORGED}{ENTRY}k", ENTRY, f"{FORGED}", f"k{ENTRY}"])
def test_no_key_forges_another_registration(key: str) -> None:
    (_, leased), routed = of_registry(key.encode(), REGISTERED)

    for column in (leased[2], routed[2].decode()):
        assert column.count(ENTRY) == 0
        assert [(stamp, text) for _, stamp, text in read_entries(column)] == [(HERE, REGISTERED.decode())]


def test_a_batch_becomes_one_entry_per_instance_in_its_own_shard() -> None:
    instances = [f"p-{n}" for n in range(40)]

    rows = of_heartbeat(b"n1", a_batch(*instances))

    assert [row[0] for row in rows] == list(dict.fromkeys(shard_of(i, SHARDS) for i in instances))
    found = [(row[0], *entry) for row in rows for entry in read_entries(row[2])]
    assert sorted(found) == sorted((shard_of(i, SHARDS), i, HERE, "{}") for i in instances)
    assert {row[1] for row in rows} == {WATERMARK + 1}


def test_no_batch_forges_the_beat_of_another_instance() -> None:
    """In JSON the separators can be written with escapes, which SQL does not see."""
    forged = encode_entry("victim", Stamp(2**53 - 1, 0, 0), '{"status":"fail"}')

    left = of_heartbeat(b"n1", a_batch("p-1", f"p-2{ENTRY}{forged}"))

    columns = [row[2] for row in left if isinstance(row, Row)]
    assert [entry for column in columns for entry in column.split(ENTRY)] == [encode_entry("p-1", HERE, "{}")]
    assert [decode_dead_letter(side[1][1]).reason for side in left if isinstance(side, tuple)] == ["bad-instance-id"]


@pytest.mark.parametrize(
    ("read", "key", "value", "topic", "reason"),
    [
        (of_registry, b"k", b"\xff", REGISTRY, "bad-utf8"),
        (of_registry, None, None, REGISTRY, "tombstone"),
        (of_heartbeat, None, b"{}", HEARTBEAT, "key-missing"),
        (of_heartbeat, b"n1", b'{"beats":7}', HEARTBEAT, "wrong-type"),
        (of_heartbeat, b"n1", a_batch("\n"), HEARTBEAT, "bad-instance-id"),
    ],
)
def test_a_dead_letter_says_where_its_record_stands(
    read: Callable[[bytes | None, bytes | None], list[Any]],
    key: bytes | None,
    value: bytes | None,
    topic: str,
    reason: str,
) -> None:
    [(side, row)] = read(key, value)

    letter = decode_dead_letter(row[1])
    assert side is DEAD_LETTERS
    assert row[0] == (key or b"")
    assert (letter.topic, letter.partition, letter.offset) == (topic, HERE.partition, HERE.offset)
    assert letter.reason == reason
    assert letter.value == value
