"""`RouteReader` and `AnswerWaiter` against a real server, through every accident the registry can have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from sinks.redis_routes import RedisRouteStore
from tests.contracts.conftest import Server, eventually, valkey_binary
from waypost.client.connection import Backoff, connect
from waypost.client.follow import ChangeStream, Continuity
from waypost.client.keys import Keys
from waypost.client.routes import Answered, EndpointEvent, EventKind, RouteReader, open_answers
from waypost.errors import RegistryUnavailable
from waypost.model.events import Attributes
from waypost.model.fencing import Opened, WriterId, Written
from waypost.model.names import ServiceKey
from waypost.model.route_table import Answer, ChangeOp, Publication, digest
from waypost.wire.endpoint import encode_endpoint

PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")
T0 = 1_795_298_407_272
NOW = timedelta(0)
SOON = timedelta(seconds=10)
KEYS = Keys()


def entry(port: int) -> str:
    return encode_endpoint(Attributes(address="10.0.0.1", port=port), since=T0)


class Writer:
    """The job's end of the registry: remembers its tables and publishes to a server."""

    def __init__(self, server: Server) -> None:
        self.client = server.client()
        self.store = RedisRouteStore(server.url, timeout=timedelta(seconds=5))
        self.tables: dict[ServiceKey, dict[str, str]] = {}
        self.revision = T0 * 1000
        self.now = T0
        self.open()

    def open(self) -> None:
        self.now += 1
        opened = self.store.open(WriterId("a" * 32, 0), self.now)
        assert isinstance(opened, Opened)
        self.epoch = opened.epoch

    def publish(self, service: ServiceKey, op: ChangeOp = ChangeOp.DELTA, **routes: str | None) -> int:
        stored = self.store.meta(service)
        table = {} if op is not ChangeOp.DELTA else self.tables.get(service, {})
        table = {k: v for k, v in {**table, **routes}.items() if v is not None}
        self.revision += 1
        publication = Publication(
            service=service, op=op, base=stored.revision if stored else 0, revision=self.revision, event_time=T0,
            routes=routes, instances=routes, digest=digest(table), endpoints=len(table), rule="test",
        )  # fmt: skip
        assert self.store.publish(publication, self.epoch, T0) == Written()
        self.tables[service] = table
        return self.revision

    def answer(self, service: ServiceKey, *answers: Answer) -> None:
        stored = self.store.meta(service)
        revision = stored.revision if stored else 0
        publication = Publication(
            service=service, op=ChangeOp.DELTA, base=revision, revision=revision, event_time=T0,
            routes={}, instances={}, digest=0, endpoints=0, rule="", answers=answers,
        )  # fmt: skip
        assert self.store.publish(publication, self.epoch, T0) == Written()

    def close(self) -> None:
        self.store.close()
        self.client.close()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared_server: Server) -> Server:
    client = shared_server.client()
    client.flushall()
    client.close()
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    server = Server(valkey_binary(), tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def writer(server: Server) -> Iterator[Writer]:
    writer = Writer(server)
    yield writer
    writer.close()


@pytest.fixture
def make_reader() -> Iterator[Callable[..., RouteReader]]:
    readers: list[RouteReader] = []

    def make(server: Server, *services: ServiceKey, **options: Any) -> RouteReader:
        quick = Backoff(first=timedelta(milliseconds=5), ceiling=timedelta(milliseconds=50))
        reader = RouteReader(server.url, **{"backoff": quick, **options})
        reader.watch(*services)
        readers.append(reader)
        return reader

    yield make
    for reader in readers:
        reader.close()


def ports(reader: RouteReader, service: ServiceKey = PAY) -> dict[str, int]:
    return {instance: e.port for instance, e in reader.table(service).endpoints.items()}


def lose_service(client: Any, service: ServiceKey) -> None:
    """Make the server one that failed over before the last publication, which was about `service`."""
    client.delete(KEYS.route(service), KEYS.meta(service), KEYS.instances(service), KEYS.log(service))
    client.srem(KEYS.services, str(service))
    ((last, _),) = client.xrevrange(KEYS.changes, count=1)
    client.xdel(KEYS.changes, last)


def told(events: list[EndpointEvent]) -> list[tuple[str, str, int]]:
    return [(e.kind.value, e.instance, e.endpoint.port) for e in events]


def polled_until(reader: RouteReader, condition: Callable[[], object]) -> list[EndpointEvent]:
    events: list[EndpointEvent] = []

    def step() -> object:
        events.extend(reader.poll(timedelta(milliseconds=50)))
        return condition()

    eventually(step)
    return events


class TestFollowing:
    def test_it_reads_then_follows(self, server: Server, writer: Writer, make_reader: Any) -> None:
        writer.publish(PAY, a=entry(1), b=entry(2))
        reader = make_reader(server, PAY)
        assert reader.table(PAY).stale

        assert told(reader.poll(SOON)) == [("add", "a", 1), ("add", "b", 2)]
        revision = writer.publish(PAY, a=entry(9), b=None, c=entry(3))
        assert told(reader.poll(SOON)) == [("update", "a", 9), ("delete", "b", 2), ("add", "c", 3)]

        view = reader.table(PAY)
        assert (view.revision, view.stale, view.stale_since, view.exists) == (revision, False, None, True)
        assert ports(reader) == {"a": 9, "c": 3}

    def test_other_services_are_not_its_business(self, server: Server, writer: Writer, make_reader: Any) -> None:
        reader = make_reader(server, PAY)
        writer.publish(CART, x=entry(1))
        writer.publish(PAY, a=entry(1))

        events = polled_until(reader, lambda: reader.table(PAY).exists)

        assert {e.service for e in events} == {PAY}
        with pytest.raises(KeyError):
            reader.table(CART)

    def test_a_service_may_come_later_and_go(self, server: Server, writer: Writer, make_reader: Any) -> None:
        reader = make_reader(server, PAY)
        assert reader.poll(NOW) == []
        assert not reader.table(PAY).stale
        writer.publish(PAY, a=entry(1))
        assert told(reader.poll(SOON)) == [("add", "a", 1)]

        writer.publish(PAY, ChangeOp.REMOVED)

        assert told(reader.poll(SOON)) == [("delete", "a", 1)]
        assert not reader.table(PAY).exists
        writer.publish(PAY, a=entry(2))
        assert told(reader.poll(SOON)) == [("add", "a", 2)]

    def test_all_services_present_and_future(self, server: Server, writer: Writer, make_reader: Any) -> None:
        writer.publish(PAY, a=entry(1))
        reader = make_reader(server)
        reader.watch_all(lambda service: service.namespace != "secret")
        assert told(reader.poll(SOON)) == [("add", "a", 1)]

        writer.publish(ServiceKey("secret", "x"), s=entry(7))
        writer.publish(CART, x=entry(2))

        assert told(polled_until(reader, lambda: CART in reader.services())) == [("add", "x", 2)]
        assert reader.services() == [PAY, CART]

    def test_a_missed_entry_is_made_up_by_a_reading(self, server: Server, writer: Writer, make_reader: Any) -> None:
        writer.publish(PAY, a=entry(1))
        reader = make_reader(server, PAY)
        reader.poll(SOON)
        writer.publish(PAY, b=entry(2))
        (last,) = writer.client.xrevrange(KEYS.changes, count=1)
        writer.client.xdel(KEYS.changes, last[0])
        writer.publish(PAY, c=entry(3))

        polled_until(reader, lambda: ports(reader) == {"a": 1, "b": 2, "c": 3})

    def test_a_trimmed_stream_is_noticed_even_when_the_table_is_not_mentioned_again(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        writer.publish(PAY, a=entry(1))
        reader = make_reader(server, PAY)
        reader.poll(SOON)
        writer.publish(PAY, b=entry(2))
        writer.publish(CART, x=entry(1))
        writer.client.xtrim(KEYS.changes, maxlen=1, approximate=False)

        polled_until(reader, lambda: ports(reader) == {"a": 1, "b": 2})

    def test_a_removal_whose_entry_was_trimmed_is_noticed(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        writer.publish(PAY, a=entry(1))
        reader = make_reader(server, PAY)
        reader.poll(SOON)
        writer.publish(PAY, ChangeOp.REMOVED)
        writer.publish(CART, x=entry(1))
        writer.client.xtrim(KEYS.changes, maxlen=1, approximate=False)

        events = polled_until(reader, lambda: not reader.table(PAY).exists)

        assert told(events) == [("delete", "a", 1)]

    def test_an_unreadable_entry_leads_to_a_reading(self, server: Server, writer: Writer, make_reader: Any) -> None:
        reader = make_reader(server, PAY)
        reader.poll(NOW)
        writer.publish(PAY, a=entry(1))
        writer.client.xtrim(KEYS.changes, maxlen=0, approximate=False)
        writer.client.xadd(KEYS.changes, {"service": str(PAY), "op": "something new"})
        writer.client.xadd(KEYS.changes, {"nothing": "of the kind"})

        polled_until(reader, lambda: ports(reader) == {"a": 1})

    def test_an_unreadable_endpoint_is_left_out_and_the_others_are_served(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        writer.publish(PAY, a=entry(1), b='{"address":"10.0.0.1"}')
        reader = make_reader(server, PAY)

        assert told(reader.poll(SOON)) == [("add", "a", 1)]
        writer.publish(PAY, a="{}", b=entry(2))
        assert told(reader.poll(SOON)) == [("delete", "a", 1), ("add", "b", 2)]

    def test_keys_that_hold_no_table_spoil_nobody_elses(self, server: Server, writer: Writer, make_reader: Any) -> None:
        reader = make_reader(server)
        reader.watch_all()
        assert reader.life == ""
        writer.publish(PAY, a=entry(1))
        writer.client.sadd(KEYS.services, "no-slash", "default/broken", "default/number", b"\xff/\xfe")
        writer.client.set(KEYS.route(ServiceKey("default", "broken")), "not a hash")
        writer.client.hset(KEYS.meta(ServiceKey("default", "number")), "revision", "many")

        assert told(reader.poll(SOON)) == [("add", "a", 1)]
        writer.client.xadd(KEYS.changes, {"service": b"\xff\xfe"})
        writer.publish(CART, x=entry(2))

        assert told(polled_until(reader, lambda: CART in reader.services())) == [("add", "x", 2)]
        assert reader.life == writer.client.get(KEYS.generation)
        assert not reader.table(PAY).stale
        assert reader.table(ServiceKey("default", "broken")).stale
        with pytest.raises(RegistryUnavailable, match="no table"):
            reader.read(ServiceKey("default", "broken"))

    def test_events_are_yielded_until_it_is_closed(self, server: Server, writer: Writer, make_reader: Any) -> None:
        reader = make_reader(server, PAY)
        seen: list[EndpointEvent] = []
        thread = threading.Thread(target=lambda: seen.extend(reader.events()))
        thread.start()
        writer.publish(PAY, a=entry(1))
        eventually(lambda: ports(reader) == {"a": 1})
        writer.publish(PAY, a=None)
        eventually(lambda: ports(reader) == {})

        reader.close()

        thread.join(10)
        assert not thread.is_alive()
        assert [e.kind for e in seen] == [EventKind.ADD, EventKind.DELETE]
        assert reader.table(PAY).revision == writer.revision

    def test_one_reading_without_a_copy(self, server: Server, writer: Writer, make_reader: Any) -> None:
        reader = make_reader(server)
        assert not reader.read(PAY).exists

        revision = writer.publish(PAY, a=entry(1))

        view = reader.read(PAY)
        assert (view.revision, view.exists, view.endpoints["a"].port) == (revision, True, 1)


class TestAccidents:
    def test_a_wiped_registry_empties_nothing(self, server: Server, writer: Writer, make_reader: Any) -> None:
        writer.publish(PAY, a=entry(1))
        writer.publish(CART, x=entry(5))
        reader = make_reader(server, PAY, CART)
        reader.poll(SOON)
        revision = reader.table(PAY).revision

        writer.client.flushall()
        events = polled_until(reader, lambda: reader.table(PAY).stale and reader.table(CART).stale)
        writer.open()
        writer.publish(CART, ChangeOp.SNAPSHOT, x=entry(5))
        events += polled_until(reader, lambda: not reader.table(CART).stale)

        assert events == []
        assert (ports(reader), reader.table(PAY).revision, reader.table(PAY).stale) == ({"a": 1}, revision, True)

        writer.publish(PAY, ChangeOp.SNAPSHOT, a=entry(1), b=entry(2))
        assert told(polled_until(reader, lambda: not reader.table(PAY).stale)) == [("add", "b", 2)]

    def test_a_registry_that_comes_back_older_is_not_believed_until_it_has_caught_up(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        writer.publish(PAY, a=entry(1))
        old = writer.revision
        writer.publish(PAY, b=entry(2))
        reader = make_reader(server, PAY)
        reader.poll(SOON)
        newest = reader.table(PAY).revision

        writer.client.flushall()
        writer.open()
        writer.revision = old - 1
        writer.publish(PAY, ChangeOp.SNAPSHOT, a=entry(1))
        polled_until(reader, lambda: reader.table(PAY).stale)
        assert (ports(reader), reader.table(PAY).revision) == ({"a": 1, "b": 2}, newest)
        assert writer.publish(PAY, b=entry(2)) == newest
        polled_until(reader, lambda: not reader.table(PAY).stale)

        assert (ports(reader), reader.table(PAY).revision) == ({"a": 1, "b": 2}, newest)

    def test_a_killed_registry_leaves_the_last_known_table_and_its_return_is_noticed(
        self, own_server: Server, make_reader: Any
    ) -> None:
        writer = Writer(own_server)
        writer.publish(PAY, a=entry(1))
        reader = make_reader(own_server, PAY, now_ms=lambda: T0 + 5)
        reader.poll(SOON)

        own_server.kill()
        polled_until(reader, lambda: reader.table(PAY).stale)
        view = reader.table(PAY)
        assert (view.stale_since, view.exists, ports(reader)) == (T0 + 5, True, {"a": 1})

        own_server.start()
        writer.open()
        writer.publish(PAY, ChangeOp.SNAPSHOT, a=entry(1), b=entry(2))

        events = polled_until(reader, lambda: not reader.table(PAY).stale)
        assert told(events) == [("add", "b", 2)]
        writer.close()

    def test_a_replica_that_never_had_the_service_removes_nothing(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        writer.publish(CART, x=entry(1))
        writer.publish(PAY, a=entry(1))
        reader = make_reader(server, PAY)
        reader.poll(SOON)

        lose_service(writer.client, PAY)
        events = polled_until(reader, lambda: reader.table(PAY).stale)

        assert (events, ports(reader)) == ([], {"a": 1})

    def test_a_replica_found_after_a_lost_connection_removes_nothing(
        self, own_server: Server, make_reader: Any
    ) -> None:
        own_server.kill()
        own_server.start("--appendonly", "yes", "--appendfsync", "always")
        writer = Writer(own_server)
        writer.publish(CART, x=entry(1))
        writer.publish(PAY, a=entry(1))
        reader = make_reader(own_server, PAY, CART)
        reader.poll(SOON)
        own_server.kill()
        polled_until(reader, lambda: reader.table(PAY).stale)

        own_server.start("--appendonly", "yes", "--appendfsync", "always")
        lose_service(writer.client, PAY)
        events = polled_until(reader, lambda: not reader.table(CART).stale)

        assert (events, ports(reader), reader.table(PAY).stale) == ([], {"a": 1}, True)
        writer.close()

    def test_a_lost_connection_to_a_registry_that_kept_everything(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        writer.publish(PAY, a=entry(1))
        reader = make_reader(server, PAY)
        reader.poll(SOON)

        writer.client.client_kill_filter(_type="normal", skipme=True)
        writer.store.close()
        writer.publish(PAY, b=entry(2))

        events = polled_until(reader, lambda: ports(reader) == {"a": 1, "b": 2} and not reader.table(PAY).stale)
        assert told(events) == [("add", "b", 2)]

    def test_no_registry_at_all_is_an_empty_stale_table_and_an_error_for_one_reading(
        self, own_server: Server, make_reader: Any
    ) -> None:
        own_server.kill()
        reader = make_reader(own_server, PAY)

        assert reader.poll(timedelta(milliseconds=30)) == []
        assert (reader.table(PAY).stale, reader.table(PAY).revision) == (True, 0)
        with pytest.raises(RegistryUnavailable):
            reader.read(PAY)


class TestAcknowledgements:
    def test_what_was_applied_is_acknowledged_repeated_and_taken_back(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        clock = [T0]
        reader = make_reader(server, PAY, CART, reader_id="gw-1", now_ms=lambda: clock[0])
        revision = writer.publish(PAY, a=entry(1))
        polled_until(reader, lambda: reader.table(PAY).exists)
        ack = lambda: orjson.loads(writer.client.hget(KEYS.readers(PAY), "gw-1") or "{}")  # noqa: E731
        assert ack() == {"revision": revision, "at": T0}

        clock[0] += 10_000
        reader.poll(NOW)
        assert ack() == {"revision": revision, "at": T0 + 10_000}

        reader.close()
        assert not writer.client.exists(KEYS.readers(PAY), KEYS.readers(CART))

    def test_a_removed_service_does_not_come_back_as_an_acknowledgement(
        self, server: Server, writer: Writer, make_reader: Any
    ) -> None:
        clock = [T0]
        reader = make_reader(server, PAY, reader_id="gw-1", now_ms=lambda: clock[0])
        writer.publish(PAY, a=entry(1))
        polled_until(reader, lambda: reader.table(PAY).exists)

        writer.publish(PAY, ChangeOp.REMOVED)
        clock[0] += 10_000
        polled_until(reader, lambda: not reader.table(PAY).exists)

        assert not writer.client.exists(KEYS.readers(PAY))


class TestAnswers:
    def test_an_answer_given_before_the_wait_is_not_missed(self, server: Server, writer: Writer) -> None:
        revision = writer.publish(PAY, a=entry(1))
        with open_answers(server.url) as answers:
            writer.answer(PAY, Answer("r-1", True, "applied"), Answer("r-2", False, "superseded"))

            assert answers.wait("r-2", 10) == Answered(False, "superseded", revision, PAY)
            assert answers.wait("r-1", 10) == Answered(True, "applied", revision, PAY)

    def test_without_an_answer_it_returns_none_in_time(self, server: Server, writer: Writer) -> None:
        writer.answer(PAY, Answer("too-early", True, "applied"))
        with open_answers(server.url) as answers:
            writer.answer(PAY, Answer("somebody-elses", True, "applied"))

            assert answers.wait("too-early", 0.05) is None

    def test_an_answer_that_comes_while_waiting(self, server: Server, writer: Writer) -> None:
        with open_answers(server.url) as answers:
            results: list[Answered | None] = []
            thread = threading.Thread(target=lambda: results.append(answers.wait("r", 20)))
            thread.start()
            writer.answer(CART, Answer("r", False, "unknown-instance"))
            thread.join(20)

        assert results == [Answered(False, "unknown-instance", 0, CART)]

    def test_the_first_of_repeated_answers_counts(self, server: Server, writer: Writer) -> None:
        with open_answers(server.url) as answers:
            writer.answer(PAY, Answer("r", True, "applied"))
            writer.answer(PAY, Answer("r", False, "superseded"))

            first = answers.wait("r", 10)

        assert first is not None
        assert first.applied

    def test_one_request_can_be_answered_by_several_services(self, server: Server, writer: Writer) -> None:
        with open_answers(server.url) as answers:
            writer.answer(PAY, Answer("r", True, "applied"))
            assert answers.wait_for_all("r", {PAY, CART}, 0.05).keys() == {PAY}

            writer.answer(PAY, Answer("q", True, "applied"))
            writer.answer(CART, Answer("q", False, "last-endpoint"))
            found = answers.wait_for_all("q", {PAY, CART}, 20)

        assert {s: a.reason for s, a in found.items()} == {PAY: "applied", CART: "last-endpoint"}

    def test_a_registry_away_is_an_error(self, own_server: Server) -> None:
        answers = open_answers(own_server.url)
        own_server.kill()

        with pytest.raises(RegistryUnavailable):
            answers.wait("r", 0.2)
        with pytest.raises(RegistryUnavailable):
            open_answers(own_server.url)
        answers.close()


class TestChangeStream:
    @pytest.fixture
    def stream(self, server: Server, writer: Writer) -> Iterator[ChangeStream]:
        client = connect(server.url, timedelta(seconds=2))
        stream = ChangeStream(client, KEYS)
        stream.seek_end()
        yield stream
        client.close()

    def test_quiet_is_unbroken(self, stream: ChangeStream) -> None:
        assert stream.read(1) == ([], Continuity.UNBROKEN)

    def test_a_stream_longer_than_one_read(self, stream: ChangeStream, writer: Writer) -> None:
        for port in range(1, 8):
            writer.publish(PAY, a=entry(port))
        first, _ = stream.read(1, count=5)
        rest, _ = stream.read(1, count=5)

        revisions = [int(fields["revision"]) for fields in first + rest]
        assert (len(first), len(rest), revisions) == (5, 2, sorted(revisions))

    def test_another_generation_is_another_store(self, stream: ChangeStream, writer: Writer) -> None:
        writer.publish(PAY, a=entry(1))
        stream.read(1)
        writer.client.set(KEYS.generation, "another")

        assert stream.continuity() is Continuity.REPLACED

    def test_a_replica_that_lost_the_last_entries_is_another_store(self, stream: ChangeStream, writer: Writer) -> None:
        writer.publish(PAY, a=entry(1))
        writer.publish(PAY, a=entry(2))
        stream.read(1)
        writer.client.xdel(KEYS.changes, stream.position)

        assert stream.continuity() is Continuity.REPLACED


def test_backoff_grows_to_its_ceiling_and_starts_over() -> None:
    backoff = Backoff(first=timedelta(milliseconds=50), ceiling=timedelta(seconds=5), random=lambda: 1.0)

    waits = [backoff.next() for _ in range(40)]
    backoff.reset()

    assert waits[:3] == [timedelta(milliseconds=ms) for ms in (50, 100, 200)]
    assert waits[-1] == timedelta(seconds=5)
    assert backoff.next() == timedelta(milliseconds=50)


def test_both_shapes_of_an_xread_reply_are_understood() -> None:
    from waypost.client.follow import _entries

    entry_ = (b"1-1", {b"a": b"b"})
    assert _entries([[b"s", [entry_]]]) == _entries({b"s": [[entry_]]}) == [entry_]
    assert _entries(None) == _entries({}) == _entries([]) == []
