"""The agent's API: what it does, what it refuses, and that all of it is as its own document says."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from tests.agent.agents import Agent, an_agent, valid
from tests.contracts.conftest import eventually
from tests.gateway.backends import Backend
from waypost.agent.lookups import MAX_SERVICES
from waypost.agent.openapi import DOCUMENT
from waypost.agent.routing import routes
from waypost.agent.serve import leave
from waypost.client.draining import Drained
from waypost.client.registry.instance import Instance
from waypost.errors import RegistryUnavailable
from waypost.model.lifecycle import Declared, Health, Lease, Status
from waypost.wire.endpoint import KnownInstance

ONE = "/v1/instances/payments/p-1"
TEMPLATE = "/v1/instances/{service}/{instance}"
BODY = {"address": "10.1.2.3", "port": 8080, "check": {"none": {}}}
AWAY = RegistryUnavailable("no broker")


def ops(agent: Agent) -> list[str]:
    said = [orjson.loads(record.value) for record in agent.sink.records if record.topic == "service-registry"]
    return [f"{doc['op']} {doc.get('status', '')}".strip() for doc in said]


def test_an_instance_lives_its_life() -> None:
    with an_agent() as agent:
        registered = agent.call("PUT", ONE, json={**BODY, "metadata": {"version": "2"}})
        assert registered.status_code == 200
        assert valid(registered, TEMPLATE) == {
            "service": "payments", "instance": "p-1", "stage": "UP", "health": "unknown", "told": True,
            "address": "10.1.2.3", "port": 8080, "weight": 100, "zone": "a", "node": "n1",
            "metadata": {"version": "2"}, "lease_seconds": 90, "check": {"none": {}},
        }  # fmt: skip
        assert valid(agent.call("GET", "/v1/instances"), "/v1/instances")["instances"][0]["instance"] == "p-1"

        drained = agent.call("POST", f"{ONE}/drain")
        assert valid(drained, f"{TEMPLATE}/drain")["stage"] == "DRAINING"
        gone = agent.call("DELETE", ONE)
        assert valid(gone, TEMPLATE) == {"service": "payments", "instance": "p-1", "stage": None, "told": True}

        assert ops(agent) == ["register UP", "drain", "deregister"]
        assert agent.call("GET", ONE).status_code == 404
        assert agent.call("POST", f"{ONE}/drain").status_code == 404
        assert agent.call("DELETE", ONE).status_code == 200


def test_a_check_decides_when_it_is_called() -> None:
    backend = Backend("a")
    body = {"address": "127.0.0.1", "port": backend.port, "check": {"http": {"path": "/x", "interval": 0.1}}}
    try:
        with an_agent() as agent:
            agent.call("PUT", ONE, json=body)
            eventually(lambda: agent.call("GET", ONE).json()["stage"] == "UP")
            backend.stop()
            eventually(lambda: agent.call("GET", ONE).json()["health"] == "fail")
            eventually(lambda: ops(agent)[-1] == "status fail")
    finally:
        backend.stop()


def test_while_kafka_is_away_it_is_noted_and_told_later() -> None:
    with an_agent() as agent:
        agent.sink.failure = AWAY
        noted = agent.call("PUT", f"{ONE}?wait=0.2", json=BODY)
        assert noted.status_code == 202
        assert valid(noted, TEMPLATE)["told"] is False
        assert valid(agent.call("GET", "/readyz"), "/readyz") == {
            "status": "Kafka does not take records", "untold": 1,
        }  # fmt: skip

        agent.sink.failure = None
        eventually(lambda: agent.call("GET", ONE).json()["told"])
        assert agent.call("GET", "/readyz").status_code == 200
        assert agent.call("GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        (ONE, b"{", 400, "not JSON"),
        (ONE, b"[]", 400, "not a JSON object"),
        (ONE, b"{}", 400, "address-missing"),
        (ONE, b'{"address":"10.1.2.3","port":0}', 400, "port-out-of-range"),
        (ONE, b'{"address":"10.1.2.3","port":80,"colour":"red"}', 400, "unknown-field"),
        (ONE, b'{"address":"10.1.2.3","port":80,"check":{"ping":{}}}', 400, "unknown-check"),
        (ONE, b'{"address":"10.1.2.3","port":80,"check":{"exec":{"command":["/bin/true"]}}}', 403, "--allow-exec"),
        (ONE, orjson.dumps({**BODY, "metadata": {str(n): "x" * 1_000 for n in range(9)}}), 400, "metadata"),
        (ONE, b" " * 70_000, 413, "more than"),
        ("/v1/instances/Payments/p-1", orjson.dumps(BODY), 400, "bad-service"),
        ("/v1/instances/payments/p%201", orjson.dumps(BODY), 400, "bad-instance"),
        (f"{ONE}?wait=x", orjson.dumps(BODY), 400, "wait is in seconds"),
        (f"{ONE}?wait=nan", orjson.dumps(BODY), 400, "wait is in seconds"),
    ],
)
def test_what_is_refused_is_refused_whole(path: str, body: bytes, status: int, reason: str) -> None:
    with an_agent() as agent:
        answer = agent.call("PUT", path, content=body)

        assert answer.status_code == status
        assert reason in valid(answer, TEMPLATE)["reason"]
        assert agent.call("GET", "/v1/instances").json() == {"instances": []}
        assert agent.sink.records == []


def test_who_asks_whether_he_is_registered_is_told_what_the_tables_say() -> None:
    known = KnownInstance(
        address="10.1.2.3", port=8080, source="agent", declared=Declared.UP, health=Health.FAIL, lease=Lease.LIVE,
        status=Status.DOWN, routable=False, reason="health-failed", since=1, generation=1,
    )  # fmt: skip
    with an_agent() as agent:
        nobody = agent.call("GET", f"{ONE}/registered")
        assert nobody.status_code == 404
        assert valid(nobody, f"{TEMPLATE}/registered")["registered"] is False
        agent.tables.instances["payments", "p-1"] = known
        assert valid(agent.call("GET", f"{ONE}/registered"), f"{TEMPLATE}/registered") == {
            "registered": True, "routable": False, "status": "DOWN", "reason": "health-failed",
        }  # fmt: skip


def test_a_drain_can_wait_for_those_who_read_the_table() -> None:
    with an_agent() as agent:
        agent.call("PUT", ONE, json=BODY)
        still_in = agent.call("POST", f"{ONE}/drain?readers=1")
        assert still_in.status_code == 503
        agent.tables.left["payments", "p-1"] = Drained(revision=7, waiting={"gateway-2": 6})
        drained = agent.call("POST", f"{ONE}/drain?readers=1")
        assert valid(drained, f"{TEMPLATE}/drain")["waiting"] == ["gateway-2"]
        assert agent.call("POST", f"{ONE}/drain?readers=61").status_code == 400
        assert ops(agent) == ["register UP", "drain"]
    with an_agent(has_tables=False) as agent:
        agent.call("PUT", ONE, json=BODY)
        assert agent.call("POST", f"{ONE}/drain?readers=1").status_code == 501
        assert agent.call("GET", ONE).json()["stage"] == "UP"


def test_services_are_looked_up_here_also_when_the_registry_is_away() -> None:
    path = "/v1/services/{service}"
    with an_agent() as agent:
        agent.registry.register(Instance(id="c-1", name="cart", address="10.1.2.4", port=80))
        assert valid(agent.call("GET", "/v1/services"), "/v1/services") == {"services": ["cart"]}
        fresh = agent.call("GET", "/v1/services/cart")
        assert (fresh.headers["X-Waypost-Stale"], len(valid(fresh, path)["instances"])) == ("false", 1)
        assert valid(agent.call("GET", "/v1/services/cart/pick"), f"{path}/pick")["instance"] == "c-1"

        agent.registry.failure = RegistryUnavailable("no Redis")
        eventually(lambda: agent.call("GET", "/v1/services/cart").json()["stale"])
        assert len(agent.call("GET", "/v1/services/cart").json()["instances"]) == 1
        assert agent.call("GET", "/v1/services/cart/pick").status_code == 200
        assert agent.call("GET", "/v1/services").status_code == 503


def test_nobody_can_make_the_agent_follow_without_end() -> None:
    with an_agent() as agent:
        assert agent.lookups is not None
        agent.lookups._followed.update(f"s-{n}" for n in range(MAX_SERVICES))
        answer = agent.call("GET", "/v1/services/one-more")
        assert answer.status_code == 503
        assert agent.call("GET", "/v1/services/Not_A_Name").status_code == 400


def test_an_agent_without_redis_registers_and_says_what_it_cannot_do() -> None:
    with an_agent(has_tables=False) as agent:
        assert agent.call("PUT", ONE, json=BODY).status_code == 200
        for path in ("/v1/services", "/v1/services/cart", "/v1/services/cart/watch", f"{ONE}/registered"):
            assert agent.call("GET", path).status_code == 501
        assert agent.call("GET", "/x", headers={"Host": "cart.waypost"}).status_code == 501


def test_a_watch_tells_what_is_there_and_what_happens() -> None:
    async def follow(agent: Agent) -> list[tuple[str, Any]]:
        # ASGITransport waits for the end of an answer, so the application is asked itself.
        told: asyncio.Queue[bytes] = asyncio.Queue()
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 200
            else:
                await told.put(message.get("body", b""))

        async def next_event() -> tuple[str, Any]:
            while True:
                for part in (await asyncio.wait_for(told.get(), 60)).split(b"\n\n"):
                    if part.startswith(b"event: "):
                        name, data = part.removeprefix(b"event: ").split(b"\ndata: ")
                        return name.decode(), orjson.loads(data)

        path = "/v1/services/cart/watch"
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"host", b"agent")], "root_path": "", "scheme": "http", "http_version": "1.1",
        }  # fmt: skip
        async with agent.application() as app:
            asking = asyncio.create_task(app(scope, receive, send))
            seen = [await next_event()]
            agent.registry.register(Instance(id="c-2", name="cart", address="10.1.2.5", port=80))
            seen.append(await next_event())
            agent.registry.update("cart", "c-2", weight=7)
            seen.append(await next_event())
            agent.registry.deregister("cart", "c-1")
            seen.append(await next_event())
            agent.registry.failure = RegistryUnavailable("no Redis")
            seen.append(await next_event())
            gone.set()
            await asyncio.wait_for(asking, 60)
        return seen

    with an_agent() as agent:
        agent.registry.register(Instance(id="c-1", name="cart", address="10.1.2.4", port=80))
        seen = asyncio.run(follow(agent))
        assert agent.api._watches == 0

    assert [name for name, _ in seen] == ["snapshot", "add", "update", "delete", "stale"]
    assert [each["instance"] for each in seen[0][1]["instances"]] == ["c-1"]
    assert (seen[1][1]["instance"], seen[2][1]["weight"], seen[3][1]["instance"]) == ("c-2", 7, "c-1")
    assert seen[4][1]["since"] > 0


def test_leaving_is_a_drain_and_then_a_deregistration_of_everybody() -> None:
    with an_agent() as agent:
        agent.call("PUT", ONE, json=BODY)
        agent.call("PUT", "/v1/instances/cart/c-1", json=BODY)

        assert leave(agent.teller, timedelta(0))

        assert ops(agent) == ["register UP", "register UP", "drain", "drain", "deregister", "deregister"]
        assert agent.teller.read(len) == 0


def test_one_that_ends_takes_nobody_in() -> None:
    with an_agent() as agent:
        agent.api.is_ending = True
        assert agent.call("PUT", ONE, json=BODY).status_code == 503
        assert agent.call("DELETE", ONE).status_code == 200
        assert valid(agent.call("GET", "/readyz"), "/readyz")["status"] == "ending"


def test_its_numbers_are_there() -> None:
    with an_agent() as agent:
        agent.call("PUT", ONE, json=BODY)
        text = agent.call("GET", "/metrics").text

    assert 'waypost_agent_instances{stage="UP"} 1.0' in text
    assert "waypost_agent_words_total 1.0" in text
    assert "waypost_agent_untold_instances 0.0" in text
    assert 'waypost_agent_proxied_total{outcome="failed"} 0.0' in text


def test_the_document_has_every_route_and_no_other() -> None:
    found: dict[str, set[str]] = {}
    with an_agent() as agent:
        assert agent.call("GET", "/openapi.json").json() == orjson.loads(orjson.dumps(DOCUMENT))
        for route in routes(agent.api):
            found.setdefault(route.path, set()).update(method.lower() for method in route.methods or ())

    described = {path: set(item) - {"parameters"} for path, item in DOCUMENT["paths"].items()}
    assert {path: methods - {"head"} for path, methods in found.items()} == described
