"""The local proxy: calls reach an instance, and another one when that is allowed and helps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.agent.agents import Agent, an_agent
from tests.gateway.backends import Backend
from waypost.agent.proxy import MAX_KEPT, proxied
from waypost.client.registry.instance import Instance

HOST = {"Host": "pay.waypost"}


@contextlib.contextmanager
def a_backend(agent: Agent, name: str, weight: int = 100) -> Iterator[Backend]:
    """One of weight 0 is only called where nobody else is left."""
    backend = Backend(name)
    register(agent, name, backend.port, weight)
    try:
        yield backend
    finally:
        backend.stop()


def register(agent: Agent, name: str, port: int, weight: int = 100) -> None:
    agent.registry.register(Instance(id=name, name="pay", address="127.0.0.1", port=port, weight=weight))


class Raw:
    """A server made of one function per connection: (what was read) -> what to answer; then it closes."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.seen: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(30)
                head = b""
                while b"\r\n\r\n" not in head and (part := connection.recv(65_536)):
                    head += part
                self.seen.append(head)
                connection.sendall(self._answer(head))

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def a_raw(answer: Callable[[bytes], bytes]) -> Iterator[Raw]:
    server = Raw(answer)
    try:
        yield server
    finally:
        server.close()


def outcomes(agent: Agent) -> dict[str, int]:
    lines = agent.meters.text().decode().splitlines()
    begin = 'waypost_agent_proxied_total{outcome="'
    return {
        line.removeprefix(begin).partition('"')[0]: int(float(line.rpartition(" ")[2]))
        for line in lines
        if line.startswith(begin) and not line.endswith(" 0.0")
    }


def test_a_call_reaches_an_instance_with_its_path_query_and_body() -> None:
    with an_agent() as agent, a_backend(agent, "a"):
        got = agent.call("GET", "/orders/7%2F8?x=1&y=%20", headers=HOST)
        assert (got.status_code, got.text) == (200, "a GET /orders/7%2F8?x=1&y=%20 0")
        posted = agent.call("POST", "/orders", headers=HOST, content=b"x" * 10)
        assert posted.text == "a POST /orders 10"
        assert outcomes(agent) == {"answered": 2}


def test_a_whole_url_in_the_request_line_counts_more_than_the_host() -> None:
    with an_agent() as agent, a_backend(agent, "a"):
        seen: list[Any] = []

        async def send(message: Any) -> None:
            seen.append(message)

        to_come = [{"type": "http.request", "body": b""}]

        async def receive() -> Any:
            if not to_come:
                await asyncio.Event().wait()  # it neither says more nor goes away
            return to_come.pop()

        async def ask() -> None:
            scope = {
                "type": "http", "method": "GET", "path": "http://pay.waypost/x", "raw_path": b"http://pay.waypost/x",
                "query_string": b"y=1", "headers": [(b"host", b"agent")], "root_path": "", "scheme": "http",
                "http_version": "1.1",
            }  # fmt: skip
            async with agent.application() as app:
                await app(scope, receive, send)

        asyncio.run(ask())
    assert b"".join(part.get("body", b"") for part in seen) == b"a GET /x?y=1 0"


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("pay.waypost", "pay"), ("PAY.Waypost:80", "pay"), ("a.b.waypost.", "a.b"), ("waypost", None), ("agent", None),
        (".waypost", ""), ("pay.waypost.example.com", None), ("[::1]:80", None), ("", None),
    ],
)  # fmt: skip
def test_who_is_meant_is_told_by_the_host(host: str, service: str | None) -> None:
    scope = {"type": "http", "raw_path": b"/", "headers": [(b"host", host.encode())]}
    assert proxied(scope) == service


def test_headers_between_neighbours_are_not_passed_on_and_others_are() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok"
    )
    with an_agent() as agent, a_raw(lambda _: answer) as server:
        register(agent, "raw", server.port)
        got = agent.call(
            "GET", "/", headers={**HOST, "Connection": "x-mine", "X-Mine": "1", "X-Kept": "2", "Te": "trailers"}
        )
        head = server.seen[0].lower()

    assert got.text == "ok"
    assert got.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert not {"x-hop", "keep-alive", "connection"} & set(got.headers)
    assert b"x-kept: 2" in head
    assert b"host: pay.waypost" in head
    assert b"via: 1.1 waypost-agent" in head
    for mine in (b"x-mine", b"te:", b"x-hop"):
        assert mine not in head


def test_the_agent_asks_for_nothing_the_caller_did_not_ask_for() -> None:
    with an_agent() as agent, a_raw(lambda _: b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        register(agent, "raw", server.port)

        async def bare(client: httpx.AsyncClient) -> httpx.Response:
            request = httpx.Request("GET", "http://agent/", headers=HOST)
            return await client.send(request)

        assert agent.ask(bare).status_code == 204
        names = {line.partition(b":")[0].lower() for line in server.seen[0].split(b"\r\n")[1:] if line}
    assert names == {b"host", b"via"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dead_instance_costs_nobody_a_call(method: str) -> None:
    with an_agent() as agent, a_backend(agent, "alive", weight=0):
        register(agent, "dead", 1)
        answer = agent.call(method, "/", headers=HOST)
    assert (answer.status_code, answer.text) == (200, f"alive {method} / 0")


def test_a_large_body_goes_to_the_next_when_nobody_has_seen_it() -> None:
    size = MAX_KEPT * 4
    with an_agent() as agent, a_backend(agent, "alive", weight=0):
        register(agent, "dead", 1)
        answer = agent.call("POST", "/", headers=HOST, content=b"x" * size)
    assert answer.text == f"alive POST / {size}"


# The backend knows no PUT and answers 501, which is an answer.
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 501), ("POST", 502)])
def test_an_answer_that_did_not_come_is_asked_for_again_where_that_is_allowed(method: str, status: int) -> None:
    with an_agent() as agent, a_raw(lambda _: b"") as silent, a_backend(agent, "alive", weight=0):
        register(agent, "silent", silent.port)
        answer = agent.call(method, "/", headers=HOST, content=b"x")
        assert (answer.status_code, len(silent.seen)) == (status, 1)


def test_when_all_fail_every_try_is_named() -> None:
    with an_agent() as agent:
        for n in range(5):
            register(agent, f"dead-{n}", n + 1)
        answer = agent.call("GET", "/", headers=HOST)
        assert outcomes(agent) == {"failed": 1}

    assert answer.status_code == 502
    assert answer.headers["X-Waypost-Agent"] == "failed"
    assert answer.json()["reason"].count("Unanswered") == 3


def test_nobody_there_is_503_and_what_cannot_be_is_refused() -> None:
    with an_agent() as agent:
        agent.registry.register(Instance(id="x", name="pay", address="127.0.0.1", port=1))
        agent.registry.deregister("pay", "x")
        assert agent.call("GET", "/", headers=HOST).status_code == 503
        assert agent.call("GET", "/", headers={"Host": "no_name.waypost"}).status_code == 400
        assert agent.call("GET", "/", headers={**HOST, "Upgrade": "websocket"}).status_code == 501
        assert outcomes(agent) == {"failed": 1, "refused": 2}


def test_an_error_of_the_instance_is_its_answer() -> None:
    with an_agent() as agent, a_raw(lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy") as server:
        register(agent, "busy", server.port)
        answer = agent.call("GET", "/", headers=HOST)
        assert (answer.status_code, answer.text, len(server.seen)) == (503, "busy", 1)
        assert "X-Waypost-Agent" not in answer.headers
