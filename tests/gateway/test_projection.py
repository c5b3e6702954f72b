"""Traefik's keys in a real server: what is written, when, and what is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.contracts.conftest import Server
from tests.e2e.tables import eventually
from tests.gateway.fixed import FixedFeed, a_target
from waypost.client.connection import Backoff, connect
from waypost.errors import SettingsError
from waypost.gateway import traefik
from waypost.gateway.projection import Projection, check_root
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")
ROOT = "own/root"
SOON = timedelta(milliseconds=50)
NEVER = timedelta(hours=1)
SERVERS = f"{ROOT}/http/services/payments.default/loadBalancer/servers"


@pytest.fixture
def start(store: Server) -> Iterator[Callable[..., Projection]]:
    running: list[tuple[Projection, threading.Thread]] = []

    def start(feed: FixedFeed, **options: Any) -> Projection:
        quick = Backoff(first=timedelta(milliseconds=5), ceiling=timedelta(milliseconds=50))
        client = connect(store.url, timedelta(seconds=1))
        projection = Projection(client, ROOT, Rules(), feed, backoff=quick, **{"touch": SOON, **options})  # type: ignore[arg-type]
        thread = threading.Thread(target=projection.run)
        thread.start()
        running.append((projection, thread))
        return projection

    yield start
    for projection, thread in running:
        projection.stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def client(store: Server) -> Iterator[Any]:
    client = store.client()
    yield client
    client.close()


def keys(client: Any) -> dict[str, str]:
    return {key: client.get(key) for key in client.scan_iter(match=f"{ROOT}/*")}


def wanted(feed: FixedFeed) -> dict[str, str]:
    tables = feed.tables()
    assert tables is not None
    return traefik.keys(ROOT, [traefik.definitions(s, pool, Rules()) for s, pool in tables.pools.items()])


def test_what_is_stored_is_the_projection_and_follows_it(start: Any, client: Any) -> None:
    feed = FixedFeed({PAY: (a_target(1),)})
    start(feed)
    eventually(lambda: keys(client) == wanted(feed))

    feed.become({PAY: (a_target(2),), CART: ()})
    eventually(lambda: keys(client) == wanted(feed))
    feed.become({})
    eventually(lambda: keys(client) == wanted(feed))

    assert keys(client)[traefik.sentinel(ROOT)] == "8"


def test_only_differences_are_written(start: Any, client: Any) -> None:
    feed = FixedFeed({PAY: (a_target(1), a_target(2)), CART: (a_target(5),)})
    start(feed, touch=NEVER)
    eventually(lambda: keys(client) == wanted(feed))
    client.config_set("notify-keyspace-events", "Kg$")
    events = client.pubsub()
    events.psubscribe("__keyspace@0__:*")
    eventually(lambda: events.get_message(timeout=0.1) is not None)

    feed.become({PAY: (a_target(2), a_target(3)), CART: (a_target(5),)})
    eventually(lambda: keys(client) == wanted(feed))

    told = set()
    while (message := events.get_message(timeout=0.3)) is not None:
        told.add((message["channel"].removeprefix(f"__keyspace@0__:{SERVERS}/"), message["data"]))
    events.close()
    assert told == {
        (f"10.0.0.1:{port}/{leaf}", op) for port, op in ((1, "del"), (3, "set")) for leaf in ("url", "weight")
    }


def test_nothing_is_written_before_there_are_tables(start: Any, client: Any) -> None:
    client.set(traefik.sentinel(ROOT), "8")
    client.set(f"{SERVERS}/10.0.0.1:1/url", "http://10.0.0.1:1")
    feed = FixedFeed()
    start(feed)

    with pytest.raises(AssertionError):
        eventually(lambda: len(keys(client)) != 2, 0.5)
    feed.become({PAY: (a_target(1),)})
    eventually(lambda: keys(client) == wanted(feed))


def test_a_wiped_store_is_filled_again_and_told_to_tell(start: Any, client: Any, store: Server) -> None:
    feed = FixedFeed({PAY: (a_target(1),)})
    start(feed)
    eventually(lambda: keys(client) == wanted(feed))
    client.flushall()
    eventually(lambda: keys(client) == wanted(feed))

    store.kill()
    feed.become({PAY: (a_target(2),)})
    store.start()

    eventually(lambda: keys(client) == wanted(feed))
    flags = lambda: set(client.config_get("notify-keyspace-events")["notify-keyspace-events"])  # noqa: E731
    eventually(lambda: set("Kg$") <= flags())
    client.config_set("notify-keyspace-events", "Ex")
    eventually(lambda: flags() >= set("KEg$x"))


def test_the_sentinel_is_touched_for_those_who_missed_something(start: Any, client: Any) -> None:
    client.config_set("notify-keyspace-events", "Kg$")
    start(FixedFeed({}))
    events = client.pubsub()
    events.psubscribe(f"__keyspace@0__:{traefik.sentinel(ROOT)}")

    eventually(lambda: (m := events.get_message(timeout=0.1)) and m["data"] == "set")
    events.close()


def test_an_edit_by_hand_is_mended(start: Any, client: Any) -> None:
    feed = FixedFeed({PAY: (a_target(1),)})
    start(feed, compare=SOON)
    eventually(lambda: keys(client) == wanted(feed))

    client.set(f"{ROOT}/http/routers/bad/bogus", "1")  # one unknown key, and Traefik takes no update any more
    client.delete(f"{SERVERS}/10.0.0.1:1/url")

    eventually(lambda: keys(client) == wanted(feed))


def test_keys_of_somebody_else_are_left_alone(start: Any, client: Any) -> None:
    client.set(f"{ROOT}/http/routers/by-hand/rule", "Host(`x`)")
    feed = FixedFeed({PAY: (a_target(1),)})
    start(feed)

    with pytest.raises(AssertionError):
        eventually(lambda: len(keys(client)) != 1, 0.5)
    client.delete(f"{ROOT}/http/routers/by-hand/rule")
    eventually(lambda: keys(client) == wanted(feed))


@pytest.mark.parametrize("root", ["", "/", "a/", "/a", "a//b", "a*", "a b", "a/[b]", "a\n"])
def test_a_root_that_could_match_other_keys_is_refused(root: str) -> None:
    with pytest.raises(SettingsError):
        check_root(root)
