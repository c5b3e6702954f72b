"""The feed against a real server, through every accident the registry can have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.contracts.conftest import Server
from tests.e2e.tables import eventually
from tests.gateway.tables import KEYS, TableWriter, an_endpoint
from waypost.client.connection import Backoff, connect
from waypost.client.routes import RouteReader
from waypost.gateway.feed import Feed
from waypost.gateway.pool import Target
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")
TIMEOUT = timedelta(seconds=1)


@pytest.fixture
def writer(store: Server) -> Iterator[TableWriter]:
    writer = TableWriter(store.url)
    yield writer
    writer.close()


@pytest.fixture
def make_feed(store: Server) -> Iterator[Callable[..., Feed]]:
    running: list[tuple[Feed, threading.Thread]] = []

    def make(rules: Rules | None = None, **options: Any) -> Feed:
        quick = Backoff(first=timedelta(milliseconds=5), ceiling=timedelta(milliseconds=50))
        reader = RouteReader(connect(store.url, TIMEOUT), backoff=quick)
        feed = Feed(reader, connect(store.url, TIMEOUT), rules or Rules(), **options)
        thread = threading.Thread(target=feed.run)
        thread.start()
        running.append((feed, thread))
        return feed

    yield make
    for feed, thread in running:
        feed.stop()
        thread.join(20)
        assert not thread.is_alive()


def ports(feed: Feed, service: ServiceKey = PAY) -> dict[int, bool] | None:
    """Port → whether it drains; None while the service is not known."""
    tables = feed.tables()
    if tables is None or service not in tables.pools:
        return None
    return {target.port: target.draining for target in tables.pools[service]}


def test_it_knows_every_table_and_follows(writer: TableWriter, make_feed: Any) -> None:
    writer.publish(PAY, {"a": an_endpoint(1)})
    writer.publish(CART, {})
    feed = make_feed()
    eventually(lambda: ports(feed) == {1: False} and ports(feed, CART) == {})
    told: list[tuple[frozenset[ServiceKey], bool]] = []
    feed.listen(lambda *news: told.append(news))

    writer.publish(PAY, {"a": an_endpoint(1, zone="z"), "b": an_endpoint(2)})
    eventually(lambda: ports(feed) == {1: False, 2: False})
    writer.publish(ServiceKey("default", "new"), {})
    eventually(lambda: ports(feed, ServiceKey("default", "new")) == {})

    assert feed.tables().pools[PAY][0] == Target(address="127.0.0.1", port=1, weight=100, zone="z")
    assert told == [(frozenset({PAY}), False), (frozenset({ServiceKey("default", "new")}), True)]
    assert not feed.stale


def test_before_there_were_tables_there_are_none(store: Server, make_feed: Any) -> None:
    feed = make_feed()
    time.sleep(0.1)
    assert feed.tables() is None  # an empty store is one that nobody has written to yet, or one that was wiped

    writer = TableWriter(store.url)
    eventually(lambda: feed.tables() is not None and feed.tables().pools == {})
    writer.publish(PAY, {"a": an_endpoint(1)})
    eventually(lambda: ports(feed) == {1: False})
    writer.close()


def test_a_store_that_was_opened_just_now_is_given_time_to_be_filled(
    store: Server, writer: TableWriter, make_feed: Any
) -> None:
    writer.publish(PAY, {"a": an_endpoint(1)})
    client = store.client()
    opened = int(time.time() * 1000)
    client.hset(KEYS.epoch, "opened_at", opened)

    feed = make_feed(settle=timedelta(seconds=2))

    eventually(lambda: feed.tables() is not None)
    seconds, micros = client.time()
    assert seconds * 1000 + micros // 1000 >= opened + 2000
    client.close()


def test_a_wiped_store_empties_nothing(store: Server, writer: TableWriter, make_feed: Any) -> None:
    writer.publish(PAY, {"a": an_endpoint(1)})
    writer.publish(CART, {"x": an_endpoint(5)})
    feed = make_feed()
    eventually(lambda: ports(feed) and ports(feed, CART))

    client = store.client()
    client.flushall()
    client.close()
    eventually(lambda: feed.stale)
    assert (ports(feed), ports(feed, CART)) == ({1: False}, {5: False})

    writer.rebuild()
    writer.publish(PAY, {"b": an_endpoint(2)})
    eventually(lambda: ports(feed) == {2: False} and not feed.stale)
    assert ports(feed, CART) == {5: False}


def test_a_killed_store_empties_nothing(store: Server, writer: TableWriter, make_feed: Any) -> None:
    writer.publish(PAY, {"a": an_endpoint(1)})
    feed = make_feed()
    eventually(lambda: ports(feed))

    store.kill()
    eventually(lambda: feed.stale)
    assert ports(feed) == {1: False}

    store.start()
    writer.rebuild()
    writer.publish(PAY, {"b": an_endpoint(2)})
    eventually(lambda: ports(feed) == {2: False} and not feed.stale)


def test_who_drains_is_known_of_services_that_somebody_asked_about(writer: TableWriter, make_feed: Any) -> None:
    a, b = an_endpoint(1), an_endpoint(2)
    writer.publish(PAY, {"b": b}, draining={"a": a})
    feed = make_feed()
    eventually(lambda: ports(feed) == {2: False})

    feed.want_draining(PAY, ServiceKey("no`name", "x"))
    eventually(lambda: ports(feed) == {1: True, 2: False})
    writer.publish(PAY, {}, draining={"a": a, "b": b})
    eventually(lambda: ports(feed) == {1: True, 2: True})
    # Deregistered: its table does not change, only its revision does.
    writer.publish(PAY, {}, draining={"b": b})
    eventually(lambda: ports(feed) == {2: True})


def test_only_services_of_its_namespaces(writer: TableWriter, make_feed: Any) -> None:
    writer.publish(PAY, {"a": an_endpoint(1)})
    writer.publish(CART, {"x": an_endpoint(5)})

    feed = make_feed(Rules(namespaces=frozenset({"shop"})))

    eventually(lambda: ports(feed, CART) == {5: False})
    assert ports(feed) is None


def test_what_is_no_table_spoils_nobody_else(store: Server, writer: TableWriter, make_feed: Any) -> None:
    client = store.client()
    writer.publish(PAY, {"a": an_endpoint(1)})
    client.sadd(KEYS.services, "no-slash", "a`)||Host(`b/c", "../x/y", "default/broken", "default/number", b"\xff/\xfe")
    client.set(KEYS.route(ServiceKey("default", "broken")), "not a hash")
    client.hset(KEYS.meta(ServiceKey("default", "number")), "revision", "many")
    client.hset(KEYS.route(PAY), "evil", '{"address":"`)||Path(`/","port":1}')
    client.xadd(KEYS.changes, {b"\xff": b"\xfe", "service": "a/b/c"})
    feed = make_feed()
    eventually(lambda: ports(feed) == {1: False})

    client.xadd(KEYS.changes, {"service": b"\xff\xfe", "revision": "x"})
    writer.publish(CART, {"x": an_endpoint(5)})
    eventually(lambda: ports(feed, CART) == {5: False})

    assert set(feed.tables().pools) == {PAY, CART}
    client.close()
