"""The reader calls by the table, fails over once, and says why a call failed."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from waypost.demo.caller import Caller, CallFailed, call
from waypost.model.names import ServiceKey
from waypost.wire.endpoint import Endpoint

ORDERS = ServiceKey("default", "orders")


def endpoints(**weights: int) -> dict[str, Endpoint]:
    return {name: Endpoint(address="127.0.0.1", port=1, weight=weight) for name, weight in weights.items()}


class Told(list[dict[str, Any]]):
    def __call__(self, what: str, **fields: Any) -> None:
        self.append({"what": what, **fields})


def test_a_failed_call_is_tried_once_more_at_another_endpoint() -> None:
    told, called = Told(), []

    def a_is_dead(service: ServiceKey, instance: str, endpoint: Endpoint) -> None:
        called.append(instance)
        if instance == "a":
            raise CallFailed("connection refused")

    caller = Caller(lambda _: endpoints(a=1, b=1), told, a_is_dead)
    for _ in range(40):
        caller.once(ORDERS, random.Random(len(called)))

    assert caller.calls() == 40
    assert told
    assert {(t["instance"], t["attempt"], t["reason"]) for t in told} == {("a", 1, "connection refused")}
    assert len(called) == 40 + len(told)


def test_an_empty_table_fails_both_tries() -> None:
    told = Told()

    Caller(lambda _: {}, told, call).once(ORDERS, random.Random(0))

    assert [(t["attempt"], t["reason"]) for t in told] == [
        (1, "no endpoint in the table"),
        (2, "no endpoint in the table"),
    ]


@contextmanager
def serving(status: int, body: bytes) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Endpoint(address="127.0.0.1", port=server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_the_right_answer_is_no_failure() -> None:
    with serving(200, b'{"service":"orders","instance":"a"}') as endpoint:
        call(ORDERS, "a", endpoint)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b'{"service":"orders","instance":"b"}', "answered by somebody else"),
        (503, b"", "status 503"),
        (200, b"hello", "JSONDecodeError"),
        (200, b"[]", "answered by somebody else"),
    ],
)
def test_a_wrong_answer_is_a_failure(status: int, body: bytes, reason: str) -> None:
    with serving(status, body) as endpoint, pytest.raises(CallFailed, match=reason):
        call(ORDERS, "a", endpoint)


def test_a_closed_port_is_refused() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    with pytest.raises(CallFailed, match="connection refused"):
        call(ORDERS, "a", Endpoint(address="127.0.0.1", port=port))
