"""What a checkpoint holds: everything comes back, and only what this build can read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.events import ATTRIBUTES, NOW, VALUES
from waypost.errors import StateVersionError
from waypost.model.beats import Beat
from waypost.model.dynamic_weights import LoadWeight
from waypost.model.events import Attributes, Hold
from waypost.model.gate import Clock
from waypost.model.health_window import ShardTallies, Tally
from waypost.model.leases import Lease, LeaseShard, TimedBeat, UnknownBeat
from waypost.model.lifecycle import Declared, Health
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer
from waypost.model.service_state import DeclaredSet, Header, InstanceFacts, Mark, Marks, Pending, Position, Published
from waypost.model.stamp import ORIGIN, Cause, Stamp
from waypost.wire import fold_state as codec
from waypost.wire.beats import decode_beat

STAMPS = st.builds(Stamp, st.integers(0, NOW), st.integers(-1, 100), st.integers(-1, 2**53 - 1))
IDS = st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DIGESTS = st.integers(0, 2**64 - 1)
CHANGES = st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name]))
STATE = settings(derandomize=True, deadline=None, max_examples=60)


@STATE
@given(
    st.builds(
        InstanceFacts,
        generation=STAMPS,
        attributes=st.none() | ATTRIBUTES,
        initial=st.sampled_from(Declared),
        source=TEXTS,
        removed=STAMPS,
        changes=st.dictionaries(st.just("weight") | st.just("zone"), st.tuples(STAMPS, st.integers(0, 9) | TEXTS)),
        declared=st.sampled_from(Declared),
        declared_stamp=STAMPS,
        health=st.sampled_from(Health),
        health_stamp=STAMPS,
        failing_since=STAMPS,
        lapsed=st.booleans(),
        lease_generation=STAMPS,
        lease_stamp=STAMPS,
        hold=st.none() | st.sampled_from(Hold),
        until=st.integers(0, NOW),
        last_beat=st.integers(0, NOW),
        damped_until=st.integers(0, NOW),
        damped_generation=STAMPS,
        damped_stamp=STAMPS,
    )
)
def test_facts_come_back(facts: InstanceFacts) -> None:
    assert codec.decode_facts(codec.encode_facts(facts)) == facts


def test_facts_of_before_it_was_kept_since_when_an_instance_fails_are_read() -> None:
    facts = InstanceFacts(health=Health.FAIL, health_stamp=Stamp(NOW, 0, 1), failing_since=Stamp(NOW - 9, 0, 0))

    older = codec.decode_facts(orjson.dumps(orjson.loads(codec.encode_facts(facts))[:-1]))

    assert older == replace(facts, failing_since=ORIGIN)
    assert (facts.failed, older.failed) == (facts.failing_since, facts.health_stamp)


@STATE
@given(st.none() | ATTRIBUTES, st.none() | st.sampled_from(["n1", "n2"]))
def test_a_node_is_found_without_decoding_what_names_it(attributes: Attributes | None, changed: str | None) -> None:
    changes = {} if changed is None else {"node": (Stamp(NOW), changed)}
    fields = orjson.loads(codec.encode_facts(InstanceFacts(attributes=attributes, changes=changes)))

    named = {changed, attributes.node if attributes is not None else None}
    for node in ("n1", "n2", *filter(None, named)):
        assert codec.names_node(fields, node) == (node in named)


@STATE
@given(CHANGES, STAMPS)
def test_an_update_of_any_field_comes_back(change: tuple[str, Any], stamp: Stamp) -> None:
    facts = InstanceFacts(changes={change[0]: (stamp, change[1])})

    assert codec.decode_facts(codec.encode_facts(facts)) == facts


@STATE
@given(
    st.builds(
        DeclaredSet,
        STAMPS,
        st.integers(0, 2**53 - 1),
        st.booleans(),
        st.dictionaries(IDS, st.tuples(IDS, st.integers(1, 65_535)), max_size=5),
    )
)
def test_sets_come_back(declared: DeclaredSet) -> None:
    assert codec.decode_set(codec.encode_set(declared)) == declared


@STATE
@given(st.builds(Published, DIGESTS, st.integers(0, NOW), st.sampled_from(Mark)))
def test_what_was_published_comes_back(published: Published) -> None:
    assert codec.decode_published(codec.encode_published(published)) == published


@STATE
@given(
    st.builds(
        Header,
        st.integers(0, 2**53 - 1),
        st.integers(0, NOW),
        st.builds(Position, STAMPS, st.integers(0, NOW)),
        DIGESTS,
        st.integers(0, 9),
        st.integers(0, 9),
        st.builds(Marks, *[st.integers(0, 9)] * 3),
        STAMPS,
        STAMPS,
    )
)
def test_headers_come_back(header: Header) -> None:
    assert codec.decode_header(codec.encode_header(header)) == header


@STATE
@given(
    st.builds(
        Pending,
        dirty=st.lists(IDS, max_size=4).map(dict.fromkeys),
        causes=st.lists(st.builds(Cause, TEXTS, st.integers(0, 9), st.integers(0, 9)), max_size=3),
        answers=st.lists(st.builds(Answer, TEXTS, st.booleans(), TEXTS), max_size=3),
        rule=TEXTS,
        snapshot=st.booleans(),
    )
)
def test_what_is_pending_comes_back_in_its_order(pending: Pending) -> None:
    again = codec.decode_pending(codec.encode_pending(pending))

    assert again == pending
    assert list(again.dirty) == list(pending.dirty)


@STATE
@given(
    st.builds(
        LoadWeight, STAMPS, st.integers(100, 1000), st.integers(100, 1000), st.integers(0, 9_000), st.booleans(),
        st.integers(0, 3), st.integers(0, NOW),
    )
)  # fmt: skip
def test_weights_by_load_come_back(weight: LoadWeight) -> None:
    assert codec.decode_weight(codec.encode_weight(weight)) == weight


SERVICES = st.builds(ServiceKey, st.sampled_from(["default", "staging"]), st.sampled_from(["a", "b"]))


@st.composite
def shards(draw: st.DrawFn) -> LeaseShard:
    shard = LeaseShard()
    for instance in draw(st.lists(IDS, unique=True, max_size=4)):
        for service in draw(st.lists(SERVICES, unique=True, min_size=1, max_size=2)):
            lease = Lease(
                service,
                draw(STAMPS),
                draw(st.integers(2_000, 86_400_000)),
                draw(st.integers(0, NOW)),
                draw(st.booleans()),
                draw(st.none() | st.sampled_from(Health)),
            )
            shard.leases.setdefault(instance, []).append(lease)
            if not lease.lapsed:
                shard.next_deadline = min(shard.next_deadline, lease.deadline)
    for instance in draw(st.lists(IDS, unique=True, max_size=2)):
        shard.removed[instance] = {draw(SERVICES): draw(STAMPS)}
        shard.updates[instance] = {draw(SERVICES): (draw(STAMPS), draw(st.integers(2_000, 9_000)))}
        raw = draw(st.sampled_from(["{}", '{"cpu":0.4}', '{"service":"a","status":"fail"}']))
        newest = TimedBeat(instance, draw(STAMPS), decode_beat(raw), raw)
        shard.unknown[instance] = UnknownBeat(draw(st.integers(0, NOW)), newest, draw(st.integers(0, NOW)))
    return shard


@STATE
@given(shards())
def test_a_shard_comes_back_from_its_three_parts(shard: LeaseShard) -> None:
    again = codec.decode_shard(
        codec.encode_directory(shard, 128), codec.encode_last_beats(shard), codec.encode_unknown(shard), 128
    )

    assert (again.leases, again.removed, again.updates, again.unknown) == (
        shard.leases,
        shard.removed,
        shard.updates,
        shard.unknown,
    )
    assert again.next_deadline == shard.next_deadline
    assert again.next_report <= min((waiting.due for waiting in shard.unknown.values()), default=again.next_report)


def test_a_shard_of_which_nothing_was_written_is_empty() -> None:
    assert codec.decode_shard(None, None, None, 128) == LeaseShard()


def test_last_beats_take_eight_bytes_a_lease() -> None:
    shard = LeaseShard()
    for n in range(1000):
        shard.leases[f"i-{n}"] = [Lease(ServiceKey("default", "a"), Stamp(NOW), 90_000, NOW)]

    assert len(codec.encode_last_beats(shard)) == 8_000


def a_counting_shard() -> LeaseShard:
    """Three leases, the nth with n beats since its window began."""
    shard = LeaseShard()
    for n in range(3):
        lease = Lease(ServiceKey("default", "a"), Stamp(NOW), 90_000, NOW, slot=shard.tallies.new_slot())
        shard.leases[f"i-{n}"] = [lease]
        for _ in range(n):
            shard.tallies.count(lease.slot, Beat(cpu=0.25), NOW, NOW)
    return shard


def taken(shard: LeaseShard) -> dict[str, Tally]:
    return {i: shard.tallies.take(lease.slot) for i, [lease] in shard.leases.items()}


def test_tallies_come_back_with_their_leases() -> None:
    shard = a_counting_shard()
    parts = (codec.encode_directory(shard, 128), codec.encode_last_beats(shard), None, 128)

    again = codec.decode_shard(*parts, codec.encode_tallies(shard))

    assert taken(again) == taken(shard)
    assert taken(a_counting_shard())["i-2"] == Tally(2, 0, 2, 500, 250)


def test_a_shard_written_before_there_were_windows_begins_to_count_with_the_restore() -> None:
    shard = a_counting_shard()

    again = codec.decode_shard(codec.encode_directory(shard, 128), codec.encode_last_beats(shard), None, 128)

    assert again.leases == shard.leases
    assert set(taken(again).values()) == {Tally()}
    again.tallies.count(again.leases["i-2"][0].slot, Beat(), NOW, NOW)
    assert taken(again)["i-2"] == Tally(beats=1)


def test_tallies_of_another_version_are_refused_with_the_remedy() -> None:
    blob = codec.encode_tallies(LeaseShard(tallies=ShardTallies()))

    with pytest.raises(StateVersionError, match="restore the savepoint with the release that wrote it"):
        codec.decode_shard(None, None, None, 128, bytes((blob[0] + 1,)) + blob[1:])


def test_a_lease_without_a_last_beat_of_its_own_counts_from_its_registration() -> None:
    """The directory may be one registration ahead of the beats: they are written apart."""
    shard = LeaseShard(leases={"i-1": [Lease(ServiceKey("default", "a"), Stamp(NOW), 90_000, NOW + 5)]})

    again = codec.decode_shard(codec.encode_directory(shard, 128), None, None, 128)

    assert again.leases["i-1"][0].deadline == NOW + 90_000


def test_state_of_another_number_of_shards_is_refused_with_the_remedy() -> None:
    blob = codec.encode_directory(LeaseShard(), 128)

    with pytest.raises(StateVersionError, match=r"lease\.shards=128"):
        codec.decode_shard(blob, None, None, 64)


@pytest.mark.parametrize(
    ("decode", "blob"),
    [
        (codec.decode_facts, codec.encode_facts(InstanceFacts())),
        (codec.decode_set, codec.encode_set(DeclaredSet(Stamp(0), 0, True, {}))),
        (codec.decode_published, codec.encode_published(Published(0, 0))),
        (codec.decode_header, codec.encode_header(Header())),
        (codec.decode_pending, codec.encode_pending(Pending())),
        (codec.decode_weight, codec.encode_weight(LoadWeight(Stamp(0)))),
        (codec.decode_clock, codec.encode_clock(Clock())),
        (lambda b: codec.decode_shard(b, None, None, 128), codec.encode_directory(LeaseShard(), 128)),
        (lambda b: codec.decode_shard(None, None, b, 128), codec.encode_unknown(LeaseShard())),
    ],
)
def test_state_of_another_version_is_refused_with_the_remedy(decode: Any, blob: bytes) -> None:
    fields = orjson.loads(blob)
    decode(blob)

    with pytest.raises(StateVersionError, match="restore the savepoint with the release that wrote it"):
        decode(orjson.dumps([fields[0] + 1, *fields[1:]]))


@STATE
@given(st.dictionaries(SERVICES, st.integers(1, 2**31)))
def test_the_gates_numbers_come_back(live: dict[ServiceKey, int]) -> None:
    assert codec.decode_live(codec.encode_live(live)) == live


@STATE
@given(st.builds(Clock, st.integers(0, NOW), st.integers(0, NOW), st.integers(0, NOW)))
def test_the_gates_clock_comes_back(clock: Clock) -> None:
    assert codec.decode_clock(codec.encode_clock(clock)) == clock
