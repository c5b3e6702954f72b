"""From facts to what the store holds: whatever happens on the way, the store ends with the pure table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.memory import MemoryRouteStore, StoredService
from tests.model.events import (
    LAW,
    SERVICE,
    T0,
    a_fact,
    a_set,
    declared,
    deregistered,
    drained,
    registered,
    service_logs,
    updated,
)
from tests.model.stores import DictStore, FrozenStore
from tests.model.test_service import seen
from waypost.errors import StoreUnavailable
from waypost.model.events import LeaseFact, RouteEvent
from waypost.model.fencing import NeedSnapshot, NotOpen, Opened, WriterId, Written
from waypost.model.lifecycle import Declared
from waypost.model.route_table import Answer, ChangeOp, Publication, digest, format_digest
from waypost.model.service import MAX_CAUSES, ServiceFold
from waypost.model.stamp import Cause
from waypost.wire.endpoint import JsonRenderer, decode_endpoint, decode_instance

WRITER = WriterId("job", 0)


@dataclass
class Publisher:
    """Writes a fold's plans to a store as the operator does, and remembers what readers could have seen."""

    state: DictStore = field(default_factory=DictStore)
    store: MemoryRouteStore = field(default_factory=MemoryRouteStore)
    published: list[Publication] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fold = ServiceFold(SERVICE, self.state, JsonRenderer())
        self.epoch = self._open()

    def _open(self) -> int:
        opened = self.store.open(WRITER, T0)
        assert isinstance(opened, Opened)
        return opened.epoch

    def tell(self, *events: RouteEvent) -> None:
        for event in events:
            self.fold.apply(event, Cause("service-registry", event.stamp.partition, event.stamp.offset))

    def flush(self, *, lose_answer: bool = False) -> None:
        """Bring the store up to date; with `lose_answer` the first write arrives and nobody hears of it."""
        plan = self.fold.plan()
        while plan is not None:
            outcome = self.store.publish(plan.publication, self.epoch, T0)
            if isinstance(outcome, Written):
                self.published.append(plan.publication)
                self.epochs.append(self.epoch)
                if lose_answer:
                    return
                self.fold.done(plan)
                self.check()
                return
            if isinstance(outcome, NotOpen):
                self.epoch = self._open()
                self.state.pending.snapshot = True
                plan = self.fold.plan()
            else:
                assert isinstance(outcome, NeedSnapshot)
                plan = self.fold.plan(above=max(outcome.stored_revision, 1))

    @property
    def stored(self) -> StoredService:
        return self.store.services.get(SERVICE) or StoredService()

    def check(self) -> None:
        """The store holds the pure table, and the digest kept by increments is that of what it really holds."""
        visible = seen(self.fold)
        views = {i: v for i in self.fold.ids() if (v := self.fold.view(i)) is not None}
        held = {i: decode_endpoint(text) for i, text in self.stored.route.items()}
        table = {i for i, v in views.items() if v.is_routable}
        if table:
            assert held.keys() == table
        else:
            assert held.keys() <= {i for i, v in views.items() if v.spare is not None}
        assert {i: (e.address, e.port, e.weight) for i, e in held.items()} == {
            i: (views[i].attributes.address, views[i].attributes.port, views[i].attributes.weight) for i in held
        }
        known = {i: decode_instance(text) for i, text in self.stored.instances.items()}
        assert {i: (k.declared, k.health, k.lease) for i, k in known.items()} == {
            i: facts[2:5] for i, facts in visible.items()
        }
        assert {i: k.isolated.by if k.isolated else None for i, k in known.items()} == {
            i: v.isolation.by if v.isolation else None for i, v in views.items()
        }
        assert all(k.since > 0 for k in known.values())
        assert {i: e.since for i, e in held.items()} == {i: k.since for i, k in known.items() if k.routable}
        header = self.state.header
        assert header.digest == digest(self.stored.route)
        assert header.endpoints == len(self.stored.route)
        if self.stored.meta:
            assert self.stored.meta["digest"] == format_digest(header.digest)
            assert self.stored.meta["revision"] == str(header.revision)


def a_publisher(*events: RouteEvent) -> Publisher:
    publisher = Publisher()
    publisher.tell(*events)
    publisher.flush()
    return publisher


# -- examples ----------------------------------------------------------------------------------------------


def test_a_registration_becomes_an_endpoint() -> None:
    publisher = a_publisher(registered(0, weight=7, zone="a", metadata={"v": "2"}))

    assert orjson.loads(publisher.stored.route["p-1"]) == {
        "address": "10.0.0.1",
        "port": 8080,
        "weight": 7,
        "zone": "a",
        "node": "",
        "metadata": {"v": "2"},
        "since": T0,
        "held": False,
    }


def test_nothing_pending_is_nothing_to_publish() -> None:
    assert a_publisher(registered(0)).fold.plan() is None


def test_registering_again_unchanged_publishes_nothing_to_the_routes() -> None:
    publisher = a_publisher(registered(0))

    publisher.tell(registered(30))
    publisher.flush()

    assert publisher.published[-1].routes == {}
    assert decode_endpoint(publisher.stored.route["p-1"]).since == T0


def test_a_renewed_lease_that_never_lapsed_publishes_nothing_to_the_routes() -> None:
    publisher = a_publisher(registered(0))

    publisher.tell(a_fact(LeaseFact.RENEWED, 30, 0))
    publisher.flush()

    assert publisher.published[-1].routes == {}


def test_declaring_the_same_set_again_publishes_nothing() -> None:
    publisher = a_publisher(a_set(0, "10.0.0.1:80"))

    publisher.tell(a_set(30, "10.0.0.1:80", last_updated=2))

    assert publisher.fold.plan() is None


def test_since_is_when_an_instance_became_what_it_is() -> None:
    publisher = a_publisher(registered(0, declared=Declared.STARTING))
    assert decode_instance(publisher.stored.instances["p-1"]).since == T0

    publisher.tell(declared(Declared.UP, 5))
    publisher.flush()
    assert decode_endpoint(publisher.stored.route["p-1"]).since == T0 + 5_000

    publisher.tell(updated(6, weight=1))
    publisher.flush()
    assert decode_endpoint(publisher.stored.route["p-1"]).since == T0 + 5_000


def test_an_instance_that_comes_and_goes_between_two_writes_leaves_nothing() -> None:
    publisher = a_publisher(registered(0, "p-2"))

    publisher.tell(registered(1), deregistered(2))
    publisher.flush()

    assert set(publisher.stored.instances) == {"p-2"}
    assert publisher.published[-1].routes == {}


def test_a_revision_is_the_logs_time_and_goes_up_within_one_moment() -> None:
    publisher = a_publisher(registered(0))
    publisher.tell(registered(0, "p-2"))
    publisher.flush()

    assert [p.revision for p in publisher.published] == [T0 * 1000, T0 * 1000 + 1]


def test_answers_alone_take_no_revision() -> None:
    publisher = a_publisher(registered(0), deregistered(1))
    revision = publisher.published[-1].revision

    publisher.tell(deregistered(2, request_id="r-1"))
    publisher.flush()

    last = publisher.published[-1]
    assert (last.base, last.revision) == (revision, revision)
    assert last.answers == (Answer("r-1", False, "already-deregistered"),)


def test_every_request_is_answered_also_when_it_changed_nothing() -> None:
    publisher = Publisher()

    publisher.tell(
        registered(0, request_id="a"),
        drained(1, "p-9", request_id="b"),
        a_set(2, request_id="c"),
        a_set(3, last_updated=0, request_id="d"),
    )
    publisher.flush()

    assert [(a.request_id, a.applied, a.reason) for a in publisher.published[-1].answers] == [
        ("a", True, "applied"),
        ("b", False, "unknown-instance"),
        ("c", True, "applied"),
        ("d", False, "stale-last-updated"),
    ]


def test_a_publication_names_the_records_that_caused_it_up_to_a_bound() -> None:
    publisher = a_publisher(*(registered(n, f"p-{n}") for n in range(MAX_CAUSES + 5)))

    assert len(publisher.published[-1].causes) == MAX_CAUSES
    assert publisher.published[-1].rule == "register"


def test_a_wiped_store_gets_a_whole_table_under_a_higher_revision() -> None:
    publisher = a_publisher(registered(0), registered(1, "p-2"))
    before = publisher.published[-1].revision

    publisher.store.wipe()
    publisher.tell(drained(2, "p-2"))
    publisher.flush()

    assert publisher.published[-1].op is ChangeOp.SNAPSHOT
    assert publisher.published[-1].revision > before
    assert set(publisher.stored.route) == {"p-1"}


def test_after_a_lost_answer_the_table_is_written_whole() -> None:
    publisher = a_publisher(registered(0))

    publisher.tell(registered(1, "p-2"))
    publisher.flush(lose_answer=True)
    publisher.flush()

    assert publisher.published[-1].op is ChangeOp.SNAPSHOT
    assert set(publisher.stored.route) == {"p-1", "p-2"}


def test_a_snapshot_is_above_the_revision_the_store_holds() -> None:
    publisher = Publisher()
    publisher.tell(registered(0))

    plan = publisher.fold.plan(above=T0 * 2000)

    assert plan is not None
    assert plan.publication.revision == T0 * 2000 + 1


# -- properties --------------------------------------------------------------------------------------------

STEPS = st.sampled_from(["flush", "flush", "wait", "wait", "lose", "away", "back", "wipe", "foreign"])


@settings(LAW, max_examples=200)
@given(
    service_logs(max_size=16),
    st.lists(STEPS, min_size=16, max_size=16),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_whatever_happens_the_store_ends_with_the_pure_table_and_no_reader_sees_time_go_back(
    log: list[RouteEvent], steps: list[str], random: Any, through_codecs: bool
) -> None:
    publisher = Publisher(state=FrozenStore() if through_codecs else DictStore())
    events = [*log, *random.sample(log, k=len(log) // 3)]
    random.shuffle(events)

    for event, step in zip(events, steps, strict=False):
        publisher.tell(event)
        if isinstance(publisher.state, FrozenStore):
            publisher.state.refreeze()
        if step == "away":
            publisher.store.available = False
        elif step == "back":
            publisher.store.available = True
        elif step == "wipe":
            publisher.store.wipe()
        elif step == "foreign" and SERVICE in publisher.store.services:
            meta = publisher.stored.meta
            meta["revision"] = str(int(meta["revision"]) + 7)
        elif step in ("flush", "lose"):
            try:
                publisher.flush(lose_answer=step == "lose")
            except StoreUnavailable:
                pass

    publisher.store.available = True
    publisher.state.pending.snapshot = True  # what the comparison with a wiped or foreign store asks for
    publisher.flush()

    publisher.check()
    written = list(zip(publisher.epochs, publisher.published, strict=True))
    versions = [(epoch, p.revision) for epoch, p in written if p.revision != p.base or p.op is not ChangeOp.DELTA]
    assert versions == sorted(set(versions))  # a wiped store has a new epoch
    assert [p.event_time for p in publisher.published] == sorted(p.event_time for p in publisher.published)


@LAW
@given(service_logs(), st.data())
def test_how_changes_are_gathered_makes_no_difference_to_the_table(log: list[RouteEvent], data: st.DataObject) -> None:
    one_by_one, gathered = Publisher(), Publisher()
    for event in log:
        one_by_one.tell(event)
        one_by_one.flush()
        gathered.tell(event)
        if data.draw(st.booleans()):
            gathered.flush()
    gathered.flush()

    def without_since(publisher: Publisher) -> dict[str, Any]:
        return {i: {**orjson.loads(text), "since": 0} for i, text in publisher.stored.route.items()}

    assert without_since(one_by_one) == without_since(gathered)


@LAW
@given(service_logs())
def test_a_reader_who_applies_the_changes_has_the_stores_table(log: list[RouteEvent]) -> None:
    publisher = Publisher()
    copy: dict[str, str] = {}
    revision = 0

    for event in log:
        publisher.tell(event)
        publisher.flush()
    for change in publisher.store.changes:
        data = orjson.loads(change["data"])
        assert int(change["base"]) == revision
        copy = {i: orjson.dumps(e).decode() for i, e in data["set"].items()} | {
            i: text for i, text in copy.items() if i not in data["delete"] and i not in data["set"]
        }
        revision = int(change["revision"])

    assert copy == publisher.stored.route


@LAW
@given(service_logs())
def test_replaying_a_whole_log_changes_no_route(log: list[RouteEvent]) -> None:
    publisher = a_publisher(*log)
    before = dict(publisher.stored.route)

    publisher.tell(*log)
    publisher.flush()

    assert publisher.stored.route == before
