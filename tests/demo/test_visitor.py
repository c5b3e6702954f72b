"""The visitor: what it counts, and whom the show blames."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from waypost.demo.gateway import Visits
from waypost.demo.observed import Observed
from waypost.demo.visitor import Settings, Visitor


@contextmanager
def a_gateway() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """A server that answers each path with what the dictionary says."""
    says: dict[str, tuple[int, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = says.get(self.path, (404, b""))
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", says
        finally:
            server.shutdown()
            thread.join()


def answer(service: str, instance: str) -> tuple[int, bytes]:
    return 200, json.dumps({"service": service, "instance": instance}).encode()


def test_a_service_counts_from_its_first_answer_on() -> None:
    told: list[dict[str, Any]] = []
    with a_gateway() as (url, says):
        settings = Settings(gateway=url, services=["orders"], per_second=1.0, seed=1)
        visitor = Visitor(settings, lambda what, **fields: told.append({"what": what, **fields}))

        visitor.once("orders")
        assert told == []
        says["/default/orders/"] = answer("orders", "a")
        visitor.once("orders")
        visitor.once("orders")
        assert told == [{"what": "met", "instance": "a"}]

        for failing in ((503, b""), answer("users", "a"), (200, b"{"), (0, b"")):
            says["/default/orders/"] = failing
            visitor.once("orders")
        says["/default/orders/"] = answer("orders", "b")
        visitor.once("orders")
        visitor._connection().close()

    reasons = [line["reason"] for line in told if line["what"] == "visit-failed"]
    assert reasons == ["status 503", "answered by somebody else", "JSONDecodeError", "RemoteDisconnected"]
    assert told[-1] == {"what": "met", "instance": "b"}


@pytest.mark.parametrize(
    ("began", "at", "service", "failed"),
    [
        (1.0, 3.0, "orders", 0),
        (2.1, 3.0, "orders", 0),
        (1.0, 1.9, "orders", 1),
        (2.6, 3.0, "orders", 1),
        (1.0, 3.0, "users", 1),
    ],
)
def test_only_a_request_under_way_at_a_kill_is_excused(began: float, at: float, service: str, failed: int) -> None:
    observed = Observed()
    observed.take({"what": "started", "instance": "a", "service": "orders", "pid": 7, "at": 0.0})
    observed.take({"what": "signalled", "instance": "a", "signal": 9, "at": 2.0})
    observed.take({"what": "visited", "requests": 100, "at": 5.0})
    observed.take({"what": "visit-failed", "began": began, "service": service, "reason": "status 502", "at": at})
    visits = Visits(kind="traefik", per_second=10.0, worker=None, observed=observed)  # type: ignore[arg-type]

    figures, expectations = visits.sum_up(seconds=10.0)

    assert (figures["failed"], figures["cut_by_a_kill"]) == (failed, 1 - failed)
    assert [e.held for e in expectations] == [True, not failed]
