"""The contract of `RouteStore`, on the fake and on the real servers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinks.memory import MemoryRouteStore
from sinks.redis_routes import RedisRouteStore
from waypost.client.keys import Keys
from waypost.errors import PublicationRefused, StoreUnavailable
from waypost.model.fencing import (
    NOBODY,
    Fenced,
    NeedSnapshot,
    NotOpen,
    Opened,
    RouteStore,
    StoredMeta,
    TablePart,
    WriterId,
    Written,
)
from waypost.model.health_window import WindowStats
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Publication, digest
from waypost.model.stamp import Cause

from .conftest import Server, valkey_binary

T0 = 1_795_298_407_272
PAY = ServiceKey("default", "payments")
CART = ServiceKey("shop", "cart")
R1 = T0 * 1000 + 1
"""A revision of the size they have in production: its last digits do not survive a Lua tostring()."""

JOB, OTHER_JOB = "a" * 32, "b" * 32

PATIENT = timedelta(seconds=30)
"""What a store answers is tested here, not how fast: on a busy machine the largest publication takes longer than the
quarter of a second it has in production."""


def endpoint(port: int = 8080, **fields: object) -> str:
    return orjson.dumps({"address": "10.1.2.3", "port": port, "weight": 100, **fields}).decode()


def a_publication(op: ChangeOp, base: int, revision: int, routes: dict[str, str | None], **fields: Any) -> Publication:
    table = {k: v for k, v in routes.items() if v is not None}
    defaults: dict[str, Any] = {
        "service": PAY,
        "event_time": T0,
        "instances": routes,
        "digest": digest(table),
        "endpoints": len(table),
        "rule": "test",
        "position": f"{T0}:0:1",
    }
    return Publication(op=op, base=base, revision=revision, routes=routes, **{**defaults, **fields})


def a_delta(base: int, revision: int, routes: dict[str, str | None], **fields: Any) -> Publication:
    return a_publication(ChangeOp.DELTA, base, revision, routes, **fields)


def a_snapshot(revision: int, routes: dict[str, str | None], **fields: Any) -> Publication:
    return a_publication(ChangeOp.SNAPSHOT, 0, revision, routes, **fields)


def a_removal(base: int, revision: int, **fields: Any) -> Publication:
    return a_publication(ChangeOp.REMOVED, base, revision, {}, **fields)


def a_window(end: int = T0 + 60_000, **fields: Any) -> WindowStats:
    defaults: dict[str, Any] = {
        "start": end - 60_000,
        "beats": 6,
        "late": 1,
        "instances": 3,
        "healthy": 2,
        "cpu_mean": 437,
        "cpu_max": 1_050,
        "lag_max_ms": 81,
        "drift": 0,
    }
    return WindowStats(end=end, **{**defaults, **fields})


@dataclass(frozen=True)
class View:
    """Everything a reader can see."""

    services: set[str]
    routes: dict[str, dict[str, str]]
    metas: dict[str, dict[str, str]]
    instances: dict[str, dict[str, str]]
    logs: dict[str, list[dict[str, str]]]
    changes: list[dict[str, str]]


class MemorySubject:
    def __init__(self) -> None:
        self.store = MemoryRouteStore()
        self.route_store: RouteStore = self.store

    def wipe(self) -> None:
        self.store.wipe()

    def edit_meta(self, **fields: str) -> None:
        self.store.services[PAY].meta.update(fields)

    def unlist(self) -> None:
        self.store.services[PAY].listed = False

    def view(self) -> View:
        services = {str(k): v for k, v in self.store.services.items()}
        return View(
            services={k for k, v in services.items() if v.listed},
            routes={k: dict(v.route) for k, v in services.items() if v.route},
            metas={k: dict(v.meta) for k, v in services.items()},
            instances={k: dict(v.instances) for k, v in services.items() if v.instances},
            logs={k: list(v.log) for k, v in services.items()},
            changes=list(self.store.changes),
        )


class RedisSubject:
    def __init__(self, server: Server) -> None:
        self.client = server.client()
        self.client.flushall()
        self.store = RedisRouteStore(server.url, timeout=PATIENT)
        self.route_store: RouteStore = self.store

    def wipe(self) -> None:
        self.client.flushall()

    def edit_meta(self, **fields: str) -> None:
        self.client.hset(Keys().meta(PAY), mapping=fields)

    def unlist(self) -> None:
        self.client.srem(Keys().services, str(PAY))

    def view(self) -> View:
        keys = Keys()
        found: dict[str, dict[str, Any]] = {"route": {}, "meta": {}, "instances": {}, "log": {}}
        for key in self.client.scan_iter(match=f"{keys.prefix}{{*"):
            service, part = key.removeprefix(keys.prefix + "{").split("}:")
            if part == "log":
                found[part][service] = [fields for _, fields in self.client.xrange(key)]
            elif part in found:
                found[part][service] = self.client.hgetall(key)
        return View(
            services=set(self.client.smembers(keys.services)),
            routes=found["route"],
            metas=found["meta"],
            instances=found["instances"],
            logs=found["log"],
            changes=[fields for _, fields in self.client.xrange(keys.changes)],
        )

    def close(self) -> None:
        self.store.close()
        self.client.close()


Subject = MemorySubject | RedisSubject


@pytest.fixture(params=["memory", "valkey_server", "redis_server"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        yield MemorySubject()
        return
    real = RedisSubject(request.getfixturevalue(request.param))
    yield real
    real.close()


@pytest.fixture
def store(subject: Subject) -> RouteStore:
    return subject.route_store


WRITER = WriterId(JOB, 0)


def opened(store: RouteStore, writer: WriterId = WRITER, now_ms: int = T0) -> int:
    result = store.open(writer, now_ms)
    assert isinstance(result, Opened)
    return result.epoch


class TestEpochs:
    def test_the_first_epoch_is_now(self, store: RouteStore) -> None:
        assert opened(store, now_ms=T0) == T0

    def test_epochs_never_go_back_when_the_clock_does(self, store: RouteStore) -> None:
        first = opened(store, WriterId(JOB, 0), T0)
        second = opened(store, WriterId(JOB, 1), T0 - 60_000)
        third = opened(store, WriterId(OTHER_JOB, 0), T0 - 90_000)

        assert first < second < third

    def test_an_epoch_of_any_size_is_exact(self, store: RouteStore) -> None:
        micros = (1 << 53) - 3

        assert opened(store, WriterId(JOB, 0), micros) == micros
        assert opened(store, WriterId(JOB, 1), T0) == micros + 1

    def test_a_second_subtask_of_an_attempt_shares_its_epoch(self, store: RouteStore) -> None:
        first = opened(store, WriterId(JOB, 3), T0)

        assert store.open(WriterId(JOB, 3), T0 + 5_000) == Opened(first, store.look().generation or "")

    def test_an_earlier_attempt_cannot_open(self, store: RouteStore) -> None:
        epoch = opened(store, WriterId(JOB, 10), T0)

        assert store.open(WriterId(JOB, 9), T0 + 1) == Fenced(WriterId(JOB, 10), epoch)

    def test_another_job_takes_over_whatever_its_attempt(self, store: RouteStore) -> None:
        mine = opened(store, WriterId(JOB, 7), T0)
        theirs = opened(store, WriterId(OTHER_JOB, 0), T0)

        assert store.publish(a_delta(0, R1, {"i": endpoint()}), mine, T0) == Fenced(WriterId(OTHER_JOB, 0), theirs)
        assert store.publish(a_delta(0, R1, {"i": endpoint()}), theirs, T0) == Written()

    def test_a_stale_epoch_is_fenced_and_changes_nothing(self, store: RouteStore, subject: Subject) -> None:
        old = opened(store, WriterId(JOB, 0), T0)
        assert store.publish(a_delta(0, R1, {"i": endpoint()}), old, T0) == Written()
        new = opened(store, WriterId(JOB, 1), T0)
        before = subject.view()

        for late in (
            a_delta(R1, R1 + 1, {"i": None}),
            a_snapshot(R1 + 9, {}),
            a_removal(R1, R1 + 1),
            a_delta(R1, R1, {}, answers=(Answer("r", True, "x"),)),
        ):
            assert store.publish(late, old, T0) == Fenced(WriterId(JOB, 1), new)

        assert subject.view() == before

    def test_fencing_is_told_before_a_wrong_base(self, store: RouteStore) -> None:
        old = opened(store, WriterId(JOB, 0))
        opened(store, WriterId(JOB, 1))

        assert isinstance(store.publish(a_delta(5, 6, {"i": endpoint()}), old, T0), Fenced)


class TestLivesOfTheStore:
    def test_before_any_writer_there_is_no_generation_and_nothing_is_accepted(
        self, store: RouteStore, subject: Subject
    ) -> None:
        assert store.look().generation is None
        assert store.publish(a_delta(0, R1, {"i": endpoint()}), T0, T0) == NotOpen()
        assert subject.view().changes == []

    def test_only_the_owners_look_is_a_sign_of_its_life(self, store: RouteStore) -> None:
        old = opened(store, WriterId(JOB, 0))
        epoch = opened(store, WriterId(OTHER_JOB, 0))
        first = store.look()

        assert store.look(old) == store.look() == first
        assert first.epoch == epoch
        signs = [store.look(epoch).signs for _ in range(3)]
        assert signs == [first.signs + n for n in (1, 2, 3)]
        assert store.look().signs == signs[-1]

    def test_a_new_writer_does_not_change_the_generation(self, store: RouteStore) -> None:
        opened(store, WriterId(JOB, 0))
        name = store.look().generation
        opened(store, WriterId(JOB, 1))
        opened(store, WriterId(OTHER_JOB, 0))

        assert name is not None
        assert store.look().generation == name

    def test_after_a_wipe_the_writer_opens_again_under_a_higher_epoch_in_a_new_generation(
        self, store: RouteStore, subject: Subject
    ) -> None:
        writer = WriterId(JOB, 0)
        before, life = opened(store, writer, T0), store.look().generation
        assert store.publish(a_delta(0, R1, {"i": endpoint()}), before, T0) == Written()

        subject.wipe()

        assert store.publish(a_delta(R1, R1 + 1, {"j": endpoint()}), before, T0) == NotOpen()
        assert store.meta(PAY) is None
        after = opened(store, writer, T0 - 1_000)
        assert after > before
        assert store.look().generation not in (None, life)
        assert store.publish(a_snapshot(R1 + 1, {"i": endpoint()}), after, T0) == Written()


class TestRevisions:
    def test_a_delta_sets_and_deletes(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint(1), "b": endpoint(2)}), epoch, T0) == Written()
        assert store.publish(a_delta(R1, R1 + 1, {"a": None, "c": endpoint(3)}), epoch, T0) == Written()

        view = subject.view()
        assert view.routes == {str(PAY): {"b": endpoint(2), "c": endpoint(3)}}
        assert view.instances == view.routes
        assert view.services == {str(PAY)}
        assert [entry["revision"] for entry in view.logs[str(PAY)]] == [str(R1), str(R1 + 1)]
        assert [(c["op"], c["base"], c["revision"]) for c in view.changes] == [
            ("delta", "0", str(R1)),
            ("delta", str(R1), str(R1 + 1)),
        ]

    def test_meta_says_what_was_published(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        publication = a_delta(
            0,
            R1,
            {"a": endpoint()},
            rule="registered",
            causes=(Cause("service-registry", 3, 9_007_199_254_740_993),),
            protected=True,
            position=f"{T0}:3:77",
        )
        assert store.publish(publication, epoch, T0 + 5) == Written()

        meta = subject.view().metas[str(PAY)]
        assert meta.pop("digest") == f"{digest({'a': endpoint()}):016x}"
        assert orjson.loads(meta.pop("cause")) == [
            {"topic": "service-registry", "partition": 3, "offset": 9_007_199_254_740_993}
        ]
        assert meta == {
            "revision": str(R1),
            "epoch": str(epoch),
            "updated_at": str(T0 + 5),
            "event_time": str(T0),
            "endpoints": "1",
            "protected": "1",
            "rule": "registered",
            "position": f"{T0}:3:77",
        }
        stored = store.meta(PAY)
        assert stored is not None
        assert (stored.revision, stored.epoch, stored.event_time, stored.position) == (R1, epoch, T0, f"{T0}:3:77")

    @pytest.mark.parametrize("base", [0, R1 - 1, R1 + 1])
    def test_a_wrong_base_needs_a_snapshot_and_changes_nothing(
        self, store: RouteStore, subject: Subject, base: int
    ) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        before = subject.view()

        assert store.publish(a_delta(base, R1 + 5, {"b": endpoint()}), epoch, T0) == NeedSnapshot(R1)
        assert store.publish(a_removal(base, R1 + 5), epoch, T0) == NeedSnapshot(R1)

        assert subject.view() == before

    def test_a_delta_written_twice_is_refused_the_second_time(self, store: RouteStore) -> None:
        epoch = opened(store)
        delta = a_delta(0, R1, {"a": endpoint()})

        assert store.publish(delta, epoch, T0) == Written()
        assert store.publish(delta, epoch, T0) == NeedSnapshot(R1)

    def test_a_delta_on_a_table_the_store_does_not_have_needs_a_snapshot(self, store: RouteStore) -> None:
        assert store.publish(a_delta(R1, R1 + 1, {"a": endpoint()}), opened(store), T0) == NeedSnapshot(0)

    def test_a_snapshot_replaces_everything(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint(1), "b": endpoint(2)}), epoch, T0) == Written()
        snapshot = a_snapshot(R1 + 7, {"b": endpoint(9)}, instances={"b": endpoint(9), "x": endpoint(3)})

        assert store.publish(snapshot, epoch, T0) == Written()

        view = subject.view()
        assert view.routes[str(PAY)] == {"b": endpoint(9)}
        assert view.instances[str(PAY)] == {"b": endpoint(9), "x": endpoint(3)}
        assert view.metas[str(PAY)]["revision"] == str(R1 + 7)

    def test_an_empty_snapshot_leaves_a_service_without_endpoints(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        assert store.publish(a_snapshot(R1 + 1, {}), epoch, T0) == Written()

        view = subject.view()
        assert (view.services, view.routes) == ({str(PAY)}, {})
        assert view.metas[str(PAY)]["endpoints"] == "0"

    @pytest.mark.parametrize("revision", [R1, R1 - 1, 1])
    def test_a_snapshot_never_takes_the_revision_back(self, store: RouteStore, subject: Subject, revision: int) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        before = subject.view()

        assert store.publish(a_snapshot(revision, {}), epoch, T0) == NeedSnapshot(R1)

        assert subject.view() == before

    def test_neighbouring_revisions_of_real_size_are_told_apart(self, store: RouteStore) -> None:
        epoch = opened(store)
        for step in range(20):
            base = R1 + step if step else 0
            assert store.publish(a_delta(base, R1 + step + 1, {"a": endpoint(step + 1)}), epoch, T0) == Written()
        assert store.publish(a_delta(R1 + 19, R1 + 21, {"a": None}), epoch, T0) == NeedSnapshot(R1 + 20)

    def test_answers_alone_are_visible_and_change_nothing_else(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        before = subject.view()
        answers = (Answer("r-1", False, "stale"), Answer('r-"2"', True, "no-change"))

        assert store.publish(a_delta(R1, R1, {}, answers=answers), epoch, T0 + 99) == Written()

        after = subject.view()
        assert replace(after, changes=before.changes) == before
        change = after.changes[-1]
        assert (change["service"], change["revision"], change["base"]) == (str(PAY), str(R1), str(R1))
        assert orjson.loads(change["answers"]) == [
            {"request_id": "r-1", "applied": False, "reason": "stale"},
            {"request_id": 'r-"2"', "applied": True, "reason": "no-change"},
        ]

    def test_answers_alone_do_not_create_a_service(self, store: RouteStore, subject: Subject) -> None:
        publication = a_delta(0, 0, {}, answers=(Answer("r", False, "unknown-instance"),))

        assert store.publish(publication, opened(store), T0) == Written()

        view = subject.view()
        assert (view.services, view.metas, len(view.changes)) == (set(), {}, 1)

    def test_a_removed_service_leaves_only_its_entry_in_changes(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        assert store.publish(a_delta(0, R1, {"c": endpoint()}, service=CART), epoch, T0) == Written()

        assert store.publish(a_removal(R1, R1 + 1), epoch, T0) == Written()

        view = subject.view()
        assert view.services == set(view.routes) == set(view.metas) == set(view.instances) == set(view.logs)
        assert view.services == {str(CART)}
        assert (view.changes[-1]["op"], view.changes[-1]["service"]) == ("removed", str(PAY))
        assert store.meta(PAY) is None

    def test_a_removed_service_can_come_back(self, store: RouteStore) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        assert store.publish(a_removal(R1, R1 + 1), epoch, T0) == Written()

        assert store.publish(a_delta(0, R1 + 2, {"a": endpoint()}), epoch, T0) == Written()

    @pytest.mark.parametrize(
        "nonsense",
        [
            a_delta(R1, R1 - 1, {"a": endpoint()}),
            a_delta(R1, R1, {"a": endpoint()}),
            a_delta(0, 1 << 53, {"a": endpoint()}),
            a_snapshot(0, {"a": endpoint()}),
            a_snapshot(R1, {"a": None}),
        ],
    )
    def test_a_publication_that_could_never_be_right_is_the_writers_mistake(
        self, store: RouteStore, subject: Subject, nonsense: Publication
    ) -> None:
        epoch = opened(store)

        with pytest.raises(ValueError):
            store.publish(nonsense, epoch, T0)

        assert subject.view().changes == []


HOSTILE = (
    'double " quotes and \\ backslashes',
    "line\nbreak\ttab\x00nul\x7f",
    "中文 · ünïcödé · 🚦 · \u2028\u2029 · \ufeff",
    "}} {{ %s %d $1 ${x} ]] --",
    '{"set":{},"delete":["a"]}',
    "0123 1e400 1795298407272001",
)


def all_parts(store: RouteStore, count: int) -> list[TablePart]:
    parts = [store.part(PAY, "0", count)]
    while parts[-1].cursor != "0":
        parts.append(store.part(PAY, parts[-1].cursor, count))
    return parts


class TestWhatAnAuditReads:
    def test_nothing_of_a_service_nobody_published(self, store: RouteStore) -> None:
        opened(store)

        assert store.part(PAY, "0", 10) == TablePart(None, 0, 0, False, (), "0")

    def test_everything_that_was_published(self, store: RouteStore) -> None:
        epoch = opened(store)
        routes = {f"i-{n}": endpoint(n + 1, zone="å") for n in range(3)}
        publication = a_snapshot(R1, routes, instances={**routes, "down": endpoint()})
        assert store.publish(publication, epoch, T0) == Written()

        part = store.part(PAY, "0", 1_000)

        assert dict(part.entries) == routes
        assert (part.endpoints, part.known, part.listed, part.cursor) == (3, 4, True, "0")
        assert part.meta == store.meta(PAY)
        assert part.meta == StoredMeta(R1, epoch, f"{digest(routes):016x}", T0, f"{T0}:0:1", 3)

    def test_large_tables_come_in_parts_that_together_are_whole(self, store: RouteStore) -> None:
        epoch = opened(store)
        routes = {f"i-{n}": endpoint(n + 1, zone="a" * 64) for n in range(700)}
        assert store.publish(a_snapshot(R1, routes), epoch, T0) == Written()

        parts = all_parts(store, 100)

        assert len(parts) > 1
        assert dict(entry for part in parts for entry in part.entries) == routes
        assert {part.endpoints for part in parts} == {700}

    def test_an_entry_that_stays_is_read_whatever_goes_away_meanwhile(self, store: RouteStore) -> None:
        epoch = opened(store)
        routes = {f"i-{n:03}": endpoint(n + 1, zone="a" * 64) for n in range(700)}
        assert store.publish(a_snapshot(R1, routes), epoch, T0) == Written()

        first = store.part(PAY, "0", 100)
        gone: dict[str, str | None] = dict.fromkeys([instance for instance, _ in first.entries][:90])
        assert store.publish(a_delta(R1, R1 + 1, gone), epoch, T0) == Written()
        found, cursor = dict(first.entries), first.cursor
        while cursor != "0":
            part = store.part(PAY, cursor, 100)
            found.update(part.entries)
            cursor = part.cursor

        assert routes.keys() - gone.keys() <= found.keys()

    def test_a_service_that_is_not_listed(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_snapshot(R1, {"a": endpoint()}), epoch, T0) == Written()
        subject.unlist()

        assert not store.part(PAY, "0", 10).listed
        assert store.publish(a_snapshot(R1 + 1, {"a": endpoint()}), epoch, T0) == Written()
        assert store.part(PAY, "0", 10).listed


class TestTablesOfAHigherEpoch:
    def test_they_are_not_overwritten_before_an_epoch_above_theirs_was_taken(
        self, store: RouteStore, subject: Subject
    ) -> None:
        epoch = opened(store)
        assert store.publish(a_snapshot(R1, {"a": endpoint()}), epoch, T0) == Written()
        subject.edit_meta(epoch=str(epoch + 1_000))

        assert store.publish(a_snapshot(R1 + 1, {}), epoch, T0) == Fenced(NOBODY, epoch + 1_000)
        higher = store.open(WRITER, T0, above=epoch + 1_000)

        assert isinstance(higher, Opened)
        assert higher.epoch == epoch + 1_001
        assert store.publish(a_snapshot(R1 + 1, {}), higher.epoch, T0) == Written()

    def test_other_subtasks_share_the_epoch_that_was_taken(self, store: RouteStore) -> None:
        epoch = opened(store)
        first = store.open(WRITER, T0, above=epoch + 5)
        second = store.open(WRITER, T0, above=epoch + 5)

        assert first == second == store.open(WRITER, T0)


class TestTexts:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_hostile_metadata_survives_byte_for_byte(self, store: RouteStore, subject: Subject, text: str) -> None:
        routes: dict[str, str | None] = {
            "a": endpoint(metadata={text[:20]: text}),
            "b:1._-Z": f'{{"escaped":"\\u00e9{1}"}}',
        }
        causes = (Cause(text, 0, 1),)

        epoch = opened(store)
        assert store.publish(a_delta(0, R1, routes, rule=text, causes=causes), epoch, T0) == Written()
        assert store.publish(a_snapshot(R1 + 1, routes, rule=text), epoch, T0) == Written()

        view = subject.view()
        assert view.routes[str(PAY)] == view.instances[str(PAY)] == routes
        assert view.metas[str(PAY)]["rule"] == view.logs[str(PAY)][0]["rule"] == text
        assert orjson.loads(view.logs[str(PAY)][0]["cause"])[0]["topic"] == text
        for change in view.changes:
            data = orjson.loads(change["data"])
            assert data == {"set": {k: orjson.loads(v or "") for k, v in routes.items()}, "delete": []}

    def test_five_thousand_endpoints_at_once(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        many: dict[str, str | None] = {
            f"payments-{n:05}": endpoint(n + 1, metadata={"pad": "x" * 200}) for n in range(5_000)
        }

        assert store.publish(a_snapshot(R1, many), epoch, T0) == Written()
        assert subject.view().routes[str(PAY)] == many

        assert store.publish(a_delta(R1, R1 + 1, dict.fromkeys(many)), epoch, T0) == Written()
        view = subject.view()
        assert (view.routes, view.instances) == ({}, {})


class TestWindows:
    """What `refresh` writes stands beside a table, and nobody who reads the table has to notice."""

    def test_a_window_is_told_in_meta_and_nowhere_else(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        before = subject.view()

        assert store.refresh(PAY, a_window(), epoch) == Written()

        after = subject.view()
        assert replace(after, metas={}) == replace(before, metas={})
        assert after.metas[str(PAY)] == before.metas[str(PAY)] | {
            "window_start": str(T0),
            "window_end": str(T0 + 60_000),
            "window_beats": "6",
            "window_late": "1",
            "window_instances": "3",
            "window_healthy": "2",
            "cpu_mean": "0.437",
            "cpu_max": "1.050",
            "lag_max_ms": "81",
            "drift": "0",
        }

    def test_what_nobody_said_is_empty(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0)
        store.refresh(PAY, a_window(), epoch)

        nothing = {"cpu_mean": None, "cpu_max": None, "lag_max_ms": None, "drift": None}
        store.refresh(PAY, a_window(T0 + 120_000, **nothing), epoch)

        meta = subject.view().metas[str(PAY)]
        assert {name: meta[name] for name in nothing} == dict.fromkeys(nothing, "")

    def test_the_next_change_keeps_the_window_and_a_window_disturbs_no_change(
        self, store: RouteStore, subject: Subject
    ) -> None:
        epoch = opened(store)
        store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0)
        store.refresh(PAY, a_window(), epoch)

        assert store.publish(a_delta(R1, R1 + 1, {"b": endpoint()}), epoch, T0) == Written()

        assert subject.view().metas[str(PAY)]["window_end"] == str(T0 + 60_000)
        assert subject.view().metas[str(PAY)]["revision"] == str(R1 + 1)

    def test_an_older_window_is_not_written_and_the_same_one_is(self, store: RouteStore, subject: Subject) -> None:
        epoch = opened(store)
        store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0)
        store.refresh(PAY, a_window(beats=1), epoch)

        assert store.refresh(PAY, a_window(T0 + 59_999, beats=2), epoch) == Written()
        assert subject.view().metas[str(PAY)]["window_beats"] == "1"
        assert store.refresh(PAY, a_window(beats=3), epoch) == Written()
        assert subject.view().metas[str(PAY)]["window_beats"] == "3"

    def test_a_window_of_a_service_without_a_table_is_written_nowhere(
        self, store: RouteStore, subject: Subject
    ) -> None:
        epoch = opened(store)

        assert store.refresh(PAY, a_window(), epoch) == NeedSnapshot(0)

        assert subject.view().metas == {}

    def test_a_replaced_writer_and_one_that_never_opened_write_no_window(
        self, store: RouteStore, subject: Subject
    ) -> None:
        assert store.refresh(PAY, a_window(), T0) == NotOpen()
        old = opened(store, WriterId(JOB, 0))
        store.publish(a_delta(0, R1, {"a": endpoint()}), old, T0)
        new = opened(store, WriterId(JOB, 1))
        before = subject.view()

        assert store.refresh(PAY, a_window(), old) == Fenced(WriterId(JOB, 1), new)

        assert subject.view() == before


INSTANCES = st.sampled_from(["a", "b", "c", "10.1.2.3:8080"])
TEXTS = st.builds(lambda p, m: endpoint(p, metadata={"m": m}), st.integers(1, 65_535), st.text(max_size=8).filter(
    lambda s: not any(0xD800 <= ord(c) <= 0xDFFF for c in s)
))  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from([JOB, OTHER_JOB]), st.integers(0, 3)),
    st.tuples(st.just("wipe"), st.none(), st.none()),
    st.tuples(st.just("refresh"), st.sampled_from([PAY, CART]), st.tuples(st.integers(0, 3), st.integers(0, 1))),
    st.tuples(
        st.just("publish"),
        st.sampled_from(list(ChangeOp)),
        st.tuples(
            st.sampled_from([PAY, CART]),
            st.integers(-1, 1),  # how far the base is from what is stored
            st.integers(0, 2),  # how far the revision is above the base
            st.integers(0, 1),  # which of the epochs known: the newest, the one before
            st.dictionaries(INSTANCES, st.one_of(st.none(), TEXTS), max_size=4),
        ),
    ),
)


def run_steps(subject: Subject, steps: list[tuple[Any, Any, Any]]) -> list[object]:
    """Run one scenario and return every outcome; revisions and epochs depend only on the steps and the store."""
    store, epochs, seen = subject.route_store, [T0], []
    revisions: dict[ServiceKey, int] = {}
    for number, (step, first, second) in enumerate(steps):
        if step == "wipe":
            subject.wipe()
        elif step == "open":
            result = store.open(WriterId(first, second), T0 + number)
            if isinstance(result, Opened):
                epochs.append(result.epoch)
                seen.append(result.epoch)
            else:
                seen.append(result)
        elif step == "refresh":
            minutes, which = second
            epoch = epochs[-1 - min(which, len(epochs) - 1)]
            seen.append(store.refresh(first, a_window(T0 + 60_000 * minutes, beats=number), epoch))
        else:
            service, off, step_up, which, routes = second
            stored = store.meta(service)
            base = max(0, (stored.revision if stored else 0) + off)
            if first is ChangeOp.DELTA and step_up == 0:
                routes = {}
            if first is ChangeOp.SNAPSHOT:
                routes = {k: v for k, v in routes.items() if v is not None}
            revision = base + step_up + (0 if first is ChangeOp.DELTA else 1)
            publication = a_publication(first, base, revision, routes, service=service, rule=f"step-{number}")
            outcome = store.publish(publication, epochs[-1 - min(which, len(epochs) - 1)], T0 + number)
            seen.append(outcome)
            after = store.meta(service)
            if outcome == Written() and after is not None:
                assert after.revision >= revisions.get(service, 0) or stored is None
                revisions[service] = after.revision
    return seen


@pytest.mark.parametrize("server_name", ["valkey_server", "redis_server"])
def test_fake_and_real_cannot_be_told_apart(server_name: str, request: pytest.FixtureRequest) -> None:
    real = RedisSubject(request.getfixturevalue(server_name))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(STEPS, max_size=25))
    def check(steps: list[tuple[Any, Any, Any]]) -> None:
        real.wipe()
        real.route_store = RedisRouteStore(real.client)
        fake = MemorySubject()

        assert run_steps(fake, steps) == run_steps(real, steps)
        assert fake.view() == real.view()

    check()
    real.close()


class TestTheFakeCanFail:
    def test_it_raises_what_the_real_one_raises(self) -> None:
        store = MemoryRouteStore()
        store.available = False

        for call in every_call(store):
            with pytest.raises(StoreUnavailable):
                call()


def every_call(store: RouteStore) -> list[Callable[[], object]]:
    return [
        lambda: store.open(WriterId(JOB, 0), T0),
        store.look,
        lambda: store.meta(PAY),
        lambda: store.part(PAY, "0", 10),
        lambda: store.publish(a_delta(0, R1, {"a": endpoint()}), T0, T0),
    ]


class TestRealServersFail:
    @pytest.fixture
    def own_server(self, tmp_path: Path) -> Iterator[Server]:
        server = Server(valkey_binary(), tmp_path)
        server.start()
        yield server
        server.kill()

    def test_a_killed_server_is_unavailable_within_a_second_and_usable_after_its_restart(
        self, own_server: Server
    ) -> None:
        store = RedisRouteStore(own_server.url)
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()

        own_server.kill()

        for call in every_call(store):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable) as caught:
                call()
            assert time.monotonic() - began < 10.0
            assert isinstance(caught.value.__cause__, redis.RedisError)

        own_server.start()

        assert store.publish(a_delta(R1, R1 + 1, {"a": endpoint()}), epoch, T0) == NotOpen()
        again = opened(store, WriterId(JOB, 0), T0)
        assert again > epoch
        assert store.publish(a_snapshot(R1 + 1, {"a": endpoint()}), again, T0) == Written()
        store.close()

    def test_a_server_that_hangs_is_unavailable_within_a_second(self, own_server: Server) -> None:
        store = RedisRouteStore(own_server.url)
        opened(store)
        client = own_server.client()
        client.execute_command("CLIENT", "PAUSE", "30000", "ALL")

        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.look()

        assert time.monotonic() - began < 10.0
        store.close()
        client.close()

    def test_scripts_survive_script_flush(self, own_server: Server) -> None:
        store = RedisRouteStore(own_server.url)
        epoch = opened(store)
        client = own_server.client()
        client.script_flush()

        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        store.close()
        client.close()

    @pytest.mark.parametrize(
        "trouble",
        [
            ("CONFIG", "SET", "maxmemory", "1mb"),
            ("REPLICAOF", "127.0.0.1", "1"),
        ],
        ids=["OOM", "READONLY"],
    )
    def test_a_server_that_refuses_writes_is_unavailable_and_unchanged(
        self, own_server: Server, trouble: tuple[str, ...]
    ) -> None:
        store = RedisRouteStore(own_server.url)
        epoch = opened(store)
        assert store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        client = own_server.client()
        client.execute_command(*trouble)

        with pytest.raises(StoreUnavailable):
            store.publish(a_delta(R1, R1 + 1, {"b": endpoint()}), epoch, T0)

        assert client.hkeys(Keys().route(PAY)) == ["a"]
        store.close()
        client.close()

    @pytest.mark.parametrize("part", ["route", "meta", "instances", "log", "services", "changes"])
    def test_a_key_of_a_wrong_type_stops_the_script_before_its_first_write(
        self, valkey_server: Server, part: str
    ) -> None:
        subject = RedisSubject(valkey_server)
        epoch = opened(subject.store)
        keys = Keys()
        wrong = {"services": keys.services, "changes": keys.changes}.get(part) or getattr(keys, part)(PAY)
        subject.client.set(wrong, "not what it should be")
        before = sorted(subject.client.keys())

        with pytest.raises(PublicationRefused):
            subject.store.publish(a_snapshot(R1, {"a": endpoint()}), epoch, T0)

        assert sorted(subject.client.keys()) == before
        subject.close()

    def test_a_meta_key_of_a_wrong_type_is_that_services_trouble_alone(self, valkey_server: Server) -> None:
        subject = RedisSubject(valkey_server)
        opened(subject.store)
        subject.client.set(Keys().meta(PAY), "not what it should be")

        with pytest.raises(PublicationRefused):
            subject.store.meta(PAY)
        with pytest.raises(PublicationRefused):
            subject.store.part(PAY, "0", 10)
        with pytest.raises(PublicationRefused):
            subject.store.refresh(PAY, a_window(), T0)

        subject.close()

    def test_epochs_rise_from_process_to_process_whatever_their_clocks(self, valkey_server: Server) -> None:
        subject = RedisSubject(valkey_server)
        first = opened(RedisRouteStore(subject.client), WriterId(JOB, 0), T0)
        second = opened(RedisRouteStore(subject.client), WriterId(JOB, 1), T0 - 60_000)

        assert second == first + 1
        subject.close()

    def test_a_table_of_a_later_epoch_is_not_overwritten_when_the_epoch_key_was_lost(
        self, valkey_server: Server
    ) -> None:
        subject = RedisSubject(valkey_server)
        epoch = opened(subject.store)
        assert subject.store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        subject.client.delete(Keys().epoch)
        behind = RedisRouteStore(subject.client)
        lower = opened(behind, WriterId(OTHER_JOB, 0), T0 - 1)

        assert behind.publish(a_snapshot(R1 + 1, {}), lower, T0) == Fenced(WriterId("", -1), epoch)
        assert behind.refresh(PAY, a_window(), lower) == Fenced(WriterId("", -1), epoch)
        assert subject.client.hkeys(Keys().route(PAY)) == ["a"]
        subject.close()

    @pytest.mark.parametrize("scribble", ["", "x", "1e300", "inf", "-5", "9007199254740992", "\udcff"])
    def test_what_somebody_scribbled_into_meta_is_overwritten(self, valkey_server: Server, scribble: str) -> None:
        subject = RedisSubject(valkey_server)
        epoch = opened(subject.store)
        assert subject.store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        scribbled = scribble.encode(errors="surrogateescape")
        subject.client.hset(Keys().meta(PAY), mapping={"revision": scribbled, "epoch": scribbled, "digest": scribbled})
        subject.client.hset(Keys().route(PAY), "a", scribbled)

        part = subject.store.part(PAY, "0", 10)
        assert part.meta is None or part.meta.revision != R1
        assert subject.store.publish(a_snapshot(R1 + 1, {"a": endpoint()}), epoch, T0) == Written()

        stored = subject.store.meta(PAY)
        assert stored is not None
        assert (stored.revision, stored.epoch) == (R1 + 1, epoch)
        subject.close()

    def test_streams_are_trimmed(self, valkey_server: Server) -> None:
        subject = RedisSubject(valkey_server)
        store = RedisRouteStore(subject.client, changes_maxlen=200, log_maxlen=100)
        epoch = opened(store)
        for n in range(600):
            assert store.publish(a_delta(n, n + 1, {"a": endpoint(n + 1)}), epoch, T0) == Written()

        assert 200 <= subject.client.xlen(Keys().changes) <= 400
        assert 100 <= subject.client.xlen(Keys().log(PAY)) <= 300
        subject.close()

    def test_nothing_that_was_written_expires_by_itself(self, valkey_server: Server) -> None:
        """A TTL would be a clock of its own: tables would go when writers pause, not when instances die."""
        subject = RedisSubject(valkey_server)
        epoch = opened(subject.store)
        for publication in (a_delta(0, R1, {"a": endpoint()}), a_snapshot(R1 + 1, {"a": endpoint(), "b": endpoint()})):
            assert subject.store.publish(publication, epoch, T0) == Written()
            assert subject.store.refresh(PAY, a_window(), epoch) == Written()

            names = subject.client.keys()
            assert {Keys().route(PAY), Keys().meta(PAY), Keys().instances(PAY), Keys().epoch} <= set(names)
            assert {name: subject.client.ttl(name) for name in names} == dict.fromkeys(names, -1)
        subject.close()

    def test_fields_of_others_in_meta_stay(self, valkey_server: Server) -> None:
        subject = RedisSubject(valkey_server)
        epoch = opened(subject.store)
        assert subject.store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()
        subject.client.hset(Keys().meta(PAY), "window_start", "7")

        assert subject.store.publish(a_delta(R1, R1 + 1, {"a": None}), epoch, T0) == Written()
        assert subject.store.publish(a_snapshot(R1 + 2, {}), epoch, T0) == Written()

        assert subject.client.hget(Keys().meta(PAY), "window_start") == "7"
        subject.close()

    def test_prefixes_do_not_see_each_other(self, valkey_server: Server) -> None:
        subject = RedisSubject(valkey_server)
        other = RedisRouteStore(subject.client, prefix="elsewhere:")
        epoch = opened(subject.store)
        assert subject.store.publish(a_delta(0, R1, {"a": endpoint()}), epoch, T0) == Written()

        assert (other.look().generation, other.meta(PAY)) == (None, None)
        subject.close()


def test_the_scripts_come_out_of_a_zip_and_outlive_it(tmp_path: Path) -> None:
    """Flink ships the rooms as one archive, may import from it without unpacking, and in thread mode deletes it
    while the modules of a task's first attempt live on."""
    root = Path(__file__).parents[2]
    archive = tmp_path / "job.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for room in ("sinks", "waypost"):
            for file in (root / room).rglob("*"):
                if file.suffix in (".py", ".lua"):
                    target.write(file, file.relative_to(root))
    program = (
        f"import os, sinks.redis_routes as r; os.remove({str(archive)!r}); "
        "r.RedisRouteStore('redis://127.0.0.1:1'); "
        "print(r.__file__, len(r._OPEN._source), len(r._PUBLISH._source))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    where, *sizes = done.stdout.split()
    assert where.startswith(str(archive))
    assert all(int(size) > 500 for size in sizes)
