"""A call of the provider: by weight, elsewhere when it fails, and with a reason when nobody serves."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import httpx
import pytest

from microservices.failover import Failover, Limits, NobodyServed, Served
from tests.examples.asking import CEILING_S, serving
from waypost.client.copies import TableView
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import Endpoint

PROVIDER = ServiceKey("default", "data-provider")
PATIENT = Limits(connect=CEILING_S, call=CEILING_S, total=CEILING_S)
HELLO = b'{"message":"hello"}'

Endpoints = Mapping[str, Endpoint]


def a_table(endpoints: Endpoints, *, stale: bool = False) -> TableView:
    return TableView(service=PROVIDER, revision=1, event_time=0, endpoints=endpoints, exists=True, stale=stale)


def get(table: Callable[[], TableView], limits: Limits = PATIENT, seed: int = 0) -> Served:
    async def got() -> Served:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            return await Failover(table, client, limits=limits, chance=random.Random(seed)).get("/data")

    return asyncio.run(got())


@pytest.fixture
def dead() -> Iterator[Endpoint]:
    """An endpoint that refuses connections: bound, so that nobody else gets the port, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Endpoint(address="127.0.0.1", port=bound.getsockname()[1])


def test_the_first_that_serves_is_named() -> None:
    with serving(HELLO) as endpoint:
        served = get(lambda: a_table({"p-1": endpoint}))

    assert served == Served(data={"message": "hello"}, by="p-1", tries=1)


def test_a_dead_endpoint_costs_a_try_and_no_answer(dead: Endpoint) -> None:
    with serving(HELLO) as endpoint:
        table = a_table({"dead": dead, "p-1": endpoint})
        served = [get(lambda: table, seed=seed) for seed in range(20)]

    assert {s.by for s in served} == {"p-1"}
    assert {s.tries for s in served} == {1, 2}


@pytest.mark.parametrize("status", [500, 503, 404, 302])
def test_an_answer_that_is_not_200_is_a_failed_try(status: int) -> None:
    with serving(b"no", status) as bad, serving(HELLO) as good:
        table = a_table({"bad": bad, "good": good})
        served = [get(lambda: table, seed=seed) for seed in range(10)]
        with pytest.raises(NobodyServed, match=rf"bad: status {status}"):
            get(lambda: a_table({"bad": bad}))

    assert {s.by for s in served} == {"good"}


def test_what_is_not_json_is_a_failed_try() -> None:
    with serving(b"<html>") as other, pytest.raises(NobodyServed, match="other: answered something that is not JSON"):
        get(lambda: a_table({"other": other}))


def test_an_endpoint_that_hangs_is_given_up() -> None:
    release = threading.Event()
    with serving(HELLO, held_by=release) as hanging, serving(HELLO) as good:
        tables = iter([{"hanging": hanging}, {"hanging": hanging, "good": good}])
        served = get(lambda: a_table(next(tables)), Limits(connect=CEILING_S, call=0.2, total=CEILING_S))

    assert (served.by, served.tries) == ("good", 2)


def test_the_whole_of_it_ends_in_time_however_many_hang() -> None:
    release = threading.Event()
    with serving(HELLO, held_by=release) as hanging, pytest.raises(NobodyServed, match="no answer within") as caught:
        get(lambda: a_table(dict.fromkeys("abc", hanging)), Limits(call=0.3, total=0.4))

    assert 1 <= caught.value.tries <= 2


def test_the_table_is_looked_up_anew_for_each_try(dead: Endpoint) -> None:
    with serving(HELLO) as endpoint:
        tables = iter([{"dead": dead}, {"new": endpoint}])
        served = get(lambda: a_table(next(tables)))

    assert (served.by, served.tries) == ("new", 2)


def test_nobody_is_tried_twice_and_three_tries_are_all(dead: Endpoint) -> None:
    with pytest.raises(NobodyServed) as caught:
        get(lambda: a_table(dict.fromkeys("abcde", dead)))

    tried = [part.split(":")[0] for part in str(caught.value).split(" failed: ")[1].split("; ")]
    assert len(set(tried)) == caught.value.tries == 3
    assert str(caught.value).startswith("all 3 tried endpoints of default/data-provider failed: ")
    assert str(caught.value).count("cannot connect") == 3


def test_the_only_endpoint_is_not_called_all() -> None:
    with serving(b"", 503) as endpoint, pytest.raises(NobodyServed) as caught:
        get(lambda: a_table({"p-1": endpoint}))

    assert str(caught.value) == "the only tried endpoint of default/data-provider failed: p-1: status 503"
    assert caught.value.tries == 1


@pytest.mark.parametrize(
    ("stale", "reason"),
    [
        (False, "no endpoint in the table of default/data-provider"),
        (True, "no endpoint in the table of default/data-provider (Redis does not confirm the table)"),
    ],
)
def test_an_empty_table_is_told(stale: bool, reason: str) -> None:
    with pytest.raises(NobodyServed) as caught:
        get(lambda: a_table({}, stale=stale))

    assert (str(caught.value), caught.value.tries) == (reason, 0)


def test_calls_are_shared_by_weight() -> None:
    with serving(HELLO) as endpoint:
        light, none = replace(endpoint, weight=25), replace(endpoint, weight=0)
        table = a_table({"heavy": endpoint, "light": light, "none": none})
        shares = Counter(get(lambda: table, seed=seed).by for seed in range(60))

    assert shares.keys() == {"heavy", "light"}
    assert shares["heavy"] > shares["light"]


def test_an_ipv6_endpoint_is_called_in_brackets() -> None:
    refused = Endpoint(address="::1", port=1)

    with pytest.raises(NobodyServed, match="p-1: cannot connect"):
        get(lambda: a_table({"p-1": refused}))
