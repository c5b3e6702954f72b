"""The real Traefik and the real Envoy, fed from a real Valkey, in front of real servers."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.tables import eventually
from tests.gateway.backends import Backend, Load, get
from tests.gateway.conftest import ROOT, Site
from tests.gateway.tables import an_endpoint
from waypost.model.events import Attributes
from waypost.model.names import ServiceKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")
KINDS = ("traefik", "traefik-redis", "envoy")
OUTAGE_S = 10.0


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(kind: str, make_site: Callable[..., Site], store: object) -> Site:
    return make_site(*_options(kind, store))


def _options(kind: str, store: object) -> tuple[str, ...]:
    return ("--traefik-redis", str(store.url), "--root", ROOT) if kind == "traefik-redis" else ()  # type: ignore[attr-defined]


def up(*backends: Backend, **weights: int) -> dict[str, Attributes]:
    return {b.name: an_endpoint(b.port, weight=weights.get(b.name, 100)) for b in backends}


def names(site: Site, path: str = "/default/payments/x", times: int = 12) -> set[str]:
    """Whoever answers; statuses that are not 200 as `!503`."""
    found = set()
    for _ in range(times):
        status, body = get(site.at.url, path)
        found.add(body.split(" ")[0] if status == 200 else f"!{status}")
    return found


def test_endpoints_come_go_and_an_empty_pool_is_503(site: Site, kind: str) -> None:
    a, b = site.backend("a"), site.backend("b")
    site.writer.publish(PAY, up(a))
    site.serve(kind)
    eventually(lambda: names(site) == {"a"})

    site.writer.publish(PAY, up(a, b))
    eventually(lambda: names(site) == {"a", "b"})
    site.writer.publish(PAY, up(b))
    eventually(lambda: names(site) == {"b"})
    site.writer.publish(PAY, {})
    eventually(lambda: names(site, times=2) == {"!503"})
    site.writer.publish(PAY, up(a))
    eventually(lambda: names(site) == {"a"})

    # A service that comes later, by path and by host; the prefix is cut off.
    site.writer.publish(CART, up(b))
    eventually(lambda: get(site.at.url, "/shop/cart/items?n=1") == (200, "b GET /items?n=1 0"))
    assert get(site.at.url, "/shop/cart") == (200, "b GET / 0")
    assert get(site.at.url, "/items", host="cart.shop.waypost") == (200, "b GET /items 0")
    assert get(site.at.url, "/items", host="cart.default.waypost")[0] == 404


def test_weights_are_kept_and_weight_zero_asks_for_nothing(site: Site, kind: str) -> None:
    heavy, light, none = (site.backend(name) for name in ("heavy", "light", "none"))
    site.writer.publish(PAY, up(heavy, light, none, heavy=300, light=100, none=0))
    site.serve(kind)
    eventually(lambda: names(site) == {"heavy", "light"})

    counted = Counter(get(site.at.url, "/default/payments/")[1].split(" ")[0] for _ in range(200))

    assert counted["none"] == 0
    assert 2.0 < counted["heavy"] / counted["light"] < 4.5, counted
    site.writer.publish(PAY, up(none, none=0))
    eventually(lambda: names(site) == {"none"})


def is_called(port: int) -> bool:
    """Tell whether somebody on this machine holds a connection to a local port, be it one that the other end closed."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    sockets = [line.split()[2:4] for line in lines]
    return any(peer.endswith(f":{port:04X}") and state in ("01", "08") for peer, state in sockets)


def test_an_instance_that_died_without_a_word_costs_no_request(site: Site, kind: str) -> None:
    a, b, c = (site.backend(name) for name in "abc")
    site.writer.publish(PAY, up(a, b, c))
    site.serve(kind)
    eventually(lambda: names(site) == {"a", "b", "c"})

    b.stop()
    # A request that is sent over a connection from before cannot be sent again: this is about those after it.
    eventually(lambda: not is_called(b.port))

    assert names(site, times=40) == {"a", "c"}
    body = b"x" * 100_000
    for _ in range(12):
        status, text = get(site.at.url, "/default/payments/p", method="POST", body=body)
        assert (status, text.split(" ", 1)[1]) == (200, "POST /p 100000")


def test_a_rolling_replacement_fails_no_request(site: Site, kind: str) -> None:
    old = [site.backend(f"old-{n}") for n in range(5)]
    new: list[Backend] = []
    site.writer.publish(PAY, up(*old))
    site.serve(kind)
    eventually(lambda: names(site, times=30) == {b.name for b in old})

    with Load(site.at.url, "/default/payments/roll", per_second=200) as load:
        for n, leaving in enumerate(list(old)):
            new.append(site.backend(f"new-{n}"))
            old.remove(leaving)
            # One out, one in, as a drain and a registration would; then it serves on for a while before it stops.
            site.writer.publish(PAY, up(*old, *new), draining=up(leaving))
            served = new[-1]
            eventually(lambda served=served: load.by[served.name] > 0)
            time.sleep(2.0)
            leaving.stop()
            site.writer.publish(PAY, up(*old, *new))

    assert load.failures == [], Counter(reason for _, reason in load.failures)
    # Each of the new ones was called before the next change; at 200/s that is many for each, on a busy machine some.
    assert load.made >= 200
    assert names(site, times=30) == {b.name for b in new}


def test_what_producers_may_write_stops_no_update(site: Site, kind: str) -> None:
    a, b = site.backend("a"), site.backend("b")
    site.writer.publish(PAY, up(a))
    site.serve(kind)
    eventually(lambda: names(site) == {"a"})

    zones = ['"}]', "`) || Path(`/", "\x00\x1f\u2028", "\N{GRINNING FACE}", "../../etc", "z" * 253]
    hostile = {f"z{n}": an_endpoint(b.port, zone=zone) for n, zone in enumerate(zones)}
    ids = {name: an_endpoint(b.port, weight=weight) for name, weight in (("A", 65_535), ("a", 1), ("_:.-", 1))}
    nowhere = {"dns": an_endpoint(b.port, address="localhost"), "v6": an_endpoint(b.port, address="::1", weight=0)}
    site.writer.publish(PAY, {**hostile, **ids, **nowhere})
    eventually(lambda: names(site) == {"b"})
    several = {f"z{n}": an_endpoint(b.port, address=f"127.0.0.{n + 1}", zone=z) for n, z in enumerate(zones)}
    site.writer.publish(PAY, {**several, **up(b)})
    site.writer.publish(CART, {})
    eventually(lambda: get(site.at.url, "/shop/cart/")[0] == 503)

    site.writer.publish(PAY, up(a))
    eventually(lambda: names(site) == {"a"})


def test_the_feed_ends_in_order(site: Site, kind: str) -> None:
    site.writer.publish(PAY, {})
    site.serve(kind)
    eventually(lambda: get(site.at.url, "/default/payments/")[0] == 503)

    assert site.feed.end() == 0

    last = json.loads((site.directory / "feed.log").read_text().splitlines()[-1])
    assert (last["event"], last["service"]) == ("ended", "waypost-gateway-feed")


def test_the_feed_may_die_and_come_back(site: Site, kind: str) -> None:
    a, b = site.backend("a"), site.backend("b")
    site.writer.publish(PAY, up(a))
    site.serve(kind)
    eventually(lambda: names(site) == {"a"})

    site.feed.kill()
    site.writer.publish(PAY, up(b))
    until = time.monotonic() + OUTAGE_S
    while time.monotonic() < until:
        assert names(site) == {"a"}
        time.sleep(0.2)

    site.feed.start()
    eventually(lambda: names(site) == {"b"})


def test_a_store_that_cannot_be_reached_changes_nothing(site: Site, kind: str) -> None:
    a, b = site.backend("a"), site.backend("b")
    site.writer.publish(PAY, up(a))
    site.serve(kind)
    eventually(lambda: names(site) == {"a"})

    _freeze(site, signal.SIGSTOP)
    until = time.monotonic() + OUTAGE_S
    while time.monotonic() < until:
        assert names(site) == {"a"}
        time.sleep(0.2)
    _freeze(site, signal.SIGCONT)

    site.writer.publish(PAY, up(b))
    eventually(lambda: names(site) == {"b"})


def test_a_store_that_restarts_empty_changes_nothing_until_it_is_filled(site: Site, kind: str) -> None:
    a, b = site.backend("a"), site.backend("b")
    site.writer.publish(PAY, up(a))
    site.writer.publish(CART, up(b))
    site.serve(kind)
    eventually(lambda: names(site) == {"a"} and names(site, "/shop/cart/") == {"b"})

    site.store.kill()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert names(site) == {"a"}
    site.store.start()  # without notify-keyspace-events, as a server whose configuration nobody mended
    until = time.monotonic() + OUTAGE_S
    while time.monotonic() < until:
        assert names(site) == {"a"}
        assert names(site, "/shop/cart/") == {"b"}
        time.sleep(0.2)

    site.writer.rebuild()
    site.writer.publish(PAY, up(b))
    eventually(lambda: names(site) == {"b"})
    assert names(site, "/shop/cart/") == {"b"}


def test_a_gateway_that_starts_during_an_outage_is_told_the_last_known_table(site: Site, kind: str) -> None:
    if kind == "traefik-redis":
        pytest.skip("what it reads from is what is away")
    a = site.backend("a")
    site.writer.publish(PAY, up(a))
    eventually(lambda: get(site.feed_url, "/readyz")[0] == 200)

    site.store.kill()
    site.serve(kind)

    eventually(lambda: names(site) == {"a"})


def _freeze(site: Site, sig: signal.Signals) -> None:
    assert site.store._process is not None
    site.store._process.send_signal(sig)
