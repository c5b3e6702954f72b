"""What gateways get over HTTP, asked in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from tests.gateway.fixed import FixedFeed, a_target
from waypost.gateway.application import MAX_BODY, make_application
from waypost.gateway.rules import Rules
from waypost.model.names import ServiceKey

PAY, CART = ServiceKey("default", "payments"), ServiceKey("shop", "cart")
EDS, CDS, RDS = ("/v3/discovery:endpoints", "/v3/discovery:clusters", "/v3/discovery:routes")
CEILING_S = 30.0


@contextlib.asynccontextmanager
async def asking(feed: FixedFeed) -> AsyncIterator[httpx.AsyncClient]:
    app = make_application(feed, Rules())  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://feed", timeout=CEILING_S) as client,
    ):
        client.release = app.state.release  # type: ignore[attr-defined]
        yield client


def run(feed: FixedFeed, body: Any) -> Any:
    async def go() -> Any:
        async with asking(feed) as client:
            return await asyncio.wait_for(body(client), CEILING_S)

    return asyncio.run(go())


def question(*names: str, version: str = "", **more: Any) -> dict[str, Any]:
    return {"node": {"id": "n"}, "resource_names": list(names), "version_info": version, **more}


def test_before_the_first_tables_nobody_is_told_that_there_are_none() -> None:
    async def ask(client: httpx.AsyncClient) -> list[int]:
        asked = [await client.get(path) for path in ("/traefik", "/readyz", "/healthz")]
        asked += [await client.post(path, json=question("default/payments")) for path in (EDS, CDS, RDS)]
        return [response.status_code for response in asked]

    assert run(FixedFeed(), ask) == [503, 503, 200, 503, 503, 503]


def test_an_empty_table_is_told_when_it_is_known_to_be_empty() -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        document = (await client.get("/traefik")).json()
        assert document["http"]["services"]["payments.default"]["loadBalancer"]["passHostHeader"] is True
        [said] = (await client.post(EDS, json=question("default/payments"))).json()["resources"]
        assert said["endpoints"] == []

    run(FixedFeed({PAY: ()}), ask)


def test_the_document_is_sent_once_to_those_who_remember_it() -> None:
    feed = FixedFeed({PAY: (a_target(1),), CART: (a_target(5),)})

    async def ask(client: httpx.AsyncClient) -> None:
        first = await client.get("/traefik")
        tag = first.headers["etag"]
        again = await client.get("/traefik", headers={"If-None-Match": f'"x", {tag}'})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
        assert first.headers["x-waypost-stale"] == "false"

        feed.stale = True
        feed.become({PAY: (a_target(2),), CART: (a_target(5),)})
        changed = await client.get("/traefik", headers={"If-None-Match": tag})
        assert (changed.status_code, changed.headers["x-waypost-stale"]) == (200, "true")
        balancers = {name: s["loadBalancer"]["servers"] for name, s in changed.json()["http"]["services"].items()}
        assert balancers == {
            "payments.default": [{"url": "http://10.0.0.1:2", "weight": 1}],
            "cart.shop": [{"url": "http://10.0.0.1:5", "weight": 1}],
        }
        ready = (await client.get("/readyz")).json()
        assert ready == {"status": "ready", "stale": True, "services": 2, "endpoints": 2}

    run(feed, ask)


def test_a_question_with_the_present_version_is_held_until_there_is_news_about_it() -> None:
    feed = FixedFeed({PAY: (a_target(1),), CART: (a_target(5),)})
    patience = {"x-envoy-expected-rq-timeout-ms": "60000"}

    async def ask(client: httpx.AsyncClient) -> None:
        now = (await client.post(EDS, json=question("default/payments"))).json()
        assert feed.asked == {PAY}
        held = asyncio.create_task(
            client.post(EDS, json=question("default/payments", version=now["version_info"]), headers=patience)
        )
        await asyncio.sleep(0.05)
        feed.become({PAY: (a_target(1),), CART: (a_target(6),)})
        await asyncio.sleep(0.05)
        assert not held.done()

        feed.become({PAY: (a_target(2),), CART: (a_target(6),)})
        news = (await held).json()
        assert news["version_info"] != now["version_info"]
        [assignment] = news["resources"]
        [locality] = assignment["endpoints"]
        assert locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] == 2

    run(feed, ask)


def test_a_held_question_is_answered_in_good_time_with_nothing_new() -> None:
    feed = FixedFeed({PAY: ()})

    async def ask(client: httpx.AsyncClient) -> None:
        now = (await client.post(CDS, json=question())).json()["version_info"]
        for timeout in ("200", "-1", "soon", "9" * 40):
            headers = {"x-envoy-expected-rq-timeout-ms": timeout}
            later = await client.post(CDS, json=question(version=now), headers=headers)
            assert (later.status_code, later.content) == (304, b"")

    run(feed, ask)


def test_the_end_of_the_process_holds_nobody_up() -> None:
    feed = FixedFeed({PAY: ()})

    async def ask(client: httpx.AsyncClient) -> int:
        now = (await client.post(CDS, json=question())).json()["version_info"]
        headers = {"x-envoy-expected-rq-timeout-ms": "60000"}
        held = asyncio.create_task(client.post(CDS, json=question(version=now), headers=headers))
        await asyncio.sleep(0.05)
        client.release()  # type: ignore[attr-defined]
        return (await held).status_code

    assert run(feed, ask) == 304


def test_a_new_service_wakes_nobody_who_asked_about_another_one() -> None:
    feed = FixedFeed({PAY: ()})

    async def ask(client: httpx.AsyncClient) -> None:
        now = (await client.post(EDS, json=question("default/payments"))).json()["version_info"]
        headers = {"x-envoy-expected-rq-timeout-ms": "60000"}
        held = asyncio.create_task(client.post(EDS, json=question("shop/cart", version=now), headers=headers))
        await asyncio.sleep(0.05)
        again = (await held).json()["version_info"]  # of nothing: it is not known yet
        held = asyncio.create_task(client.post(EDS, json=question("shop/cart", version=again), headers=headers))
        await asyncio.sleep(0.05)
        feed.become({PAY: (), ServiceKey("a", "b"): ()})
        await asyncio.sleep(0.05)
        assert not held.done()
        feed.become({PAY: (), CART: ()})
        assert [r["cluster_name"] for r in (await held).json()["resources"]] == ["shop/cart"]

    run(feed, ask)


def test_services_that_come_are_told_as_clusters_and_routes() -> None:
    feed = FixedFeed({PAY: ()})

    async def ask(client: httpx.AsyncClient) -> None:
        now = (await client.post(CDS, json=question())).json()
        assert [c["name"] for c in now["resources"]] == ["default/payments"]
        headers = {"x-envoy-expected-rq-timeout-ms": "60000"}
        version = now["version_info"]
        held = asyncio.create_task(client.post(CDS, json=question(version=version), headers=headers))
        await asyncio.sleep(0.05)
        feed.become({PAY: (), CART: ()})
        assert [c["name"] for c in (await held).json()["resources"]] == ["default/payments", "shop/cart"]
        [configuration] = (await client.post(RDS, json=question("waypost"))).json()["resources"]
        assert [h["name"] for h in configuration["virtual_hosts"]] == ["payments.default", "cart.shop", "by_path"]

    run(feed, ask)


def test_a_service_nobody_knows_is_left_out_so_envoy_keeps_what_it_has() -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        names = ("default/nobody", "no-slash", "a/b/c", "x" * 300, "default/payments")
        said = (await client.post(EDS, json=question(*names))).json()
        assert [r["cluster_name"] for r in said["resources"]] == ["default/payments"]

    run(FixedFeed({PAY: ()}), ask)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"resource_names":"all"}', 400),
        (b'{"resource_names":[1]}', 400),
        (orjson.dumps({"resource_names": ["a/b"] * 10_001}), 400),
        (b" " * (MAX_BODY + 1), 413),
        (b'{"node":7,"error_detail":[],"version_info":{}}', 200),
        (b'{"error_detail":{"message":"no, thank you"}}', 200),
    ],
)
def test_a_question_that_is_none_is_refused(body: bytes, status: int) -> None:
    async def ask(client: httpx.AsyncClient) -> int:
        response = await client.post(EDS, content=body)
        return response.status_code

    assert run(FixedFeed({PAY: ()}), ask) == status


def test_what_is_not_there_is_404_and_a_wrong_method_405() -> None:
    async def ask(client: httpx.AsyncClient) -> list[int]:
        asked = [await client.get("/"), await client.get("/traefik/"), await client.get(EDS)]
        return [response.status_code for response in asked]

    assert run(FixedFeed({PAY: ()}), ask) == [404, 404, 405]
