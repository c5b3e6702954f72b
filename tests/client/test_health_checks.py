"""Health checks: probes against real sockets and servers, and what it takes to change a verdict."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.health_checks import GrpcProbe, HealthChecker, HttpProbe, Probe, TcpProbe, Verdicts
from waypost.client.registry.instance import Instance
from waypost.errors import SettingsError

SHORT = timedelta(milliseconds=300)


def at(port: int, id: str = "i0") -> Instance:
    return Instance(id=id, name="svc", address="127.0.0.1", port=port)


@pytest.fixture
def deaf() -> Iterator[int]:
    """A server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def web() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/healthz": 204, "/moved": 302, "/sick": 503}.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rpc() -> Iterator[int]:
    """A real gRPC server that serves `good`, does not serve `bad`, and knows no other."""

    def check(request: bytes, context: grpc.ServicerContext) -> bytes:
        name = request[2:].decode()
        if name not in ("", "good", "bad"):
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08\x02" if name == "bad" else b"\x08\x01"

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_tcp(deaf: int, closed: int) -> None:
    assert TcpProbe()(at(deaf))
    assert not TcpProbe()(at(closed))


def test_http(web: int, deaf: int, closed: int) -> None:
    assert HttpProbe()(at(web))
    for path in ("/moved", "/sick", "/nowhere", "/a b\n"):
        assert not HttpProbe(path=path)(at(web))
    assert not HttpProbe(timeout=SHORT)(at(deaf))
    assert not HttpProbe()(at(closed))


def test_grpc(rpc: int, deaf: int, closed: int) -> None:
    assert GrpcProbe()(at(rpc))
    assert GrpcProbe(service="good")(at(rpc))
    for sick in (GrpcProbe(service="bad"), GrpcProbe(service="unknown")):
        assert not sick(at(rpc))
    for nobody in (deaf, closed):
        assert not GrpcProbe(timeout=SHORT)(at(nobody))
    with pytest.raises(SettingsError):
        GrpcProbe(service="x" * 128)


def test_three_failures_and_two_passes_change_a_verdict() -> None:
    verdicts = Verdicts()
    for passed, is_healthy in [
        (False, True), (False, True), (True, True), (False, True), (False, True), (False, False),
        (True, False), (False, False), (True, False), (True, True),
    ]:  # fmt: skip
        verdicts.note("i0", passed)
        assert ("i0" not in verdicts.unhealthy) is is_healthy


@given(looks=st.lists(st.booleans(), max_size=60))
def test_a_verdict_is_that_of_the_last_run_that_was_long_enough(looks: list[bool]) -> None:
    verdicts = Verdicts()
    for passed in looks:
        verdicts.note("i0", passed)

    wanted = True
    for n in range(len(looks)):
        if looks[: n + 1][-3:] == [False] * 3:
            wanted = False
        if looks[: n + 1][-2:] == [True] * 2:
            wanted = True
    assert ("i0" not in verdicts.unhealthy) is wanted


def test_who_is_gone_is_forgotten(closed: int) -> None:
    there = [at(closed)]
    probe: Probe = TcpProbe()
    checker = HealthChecker(lambda: there, probe)
    for _ in range(3):
        checker.look()
    assert checker.verdicts.unhealthy == {"i0"}

    there.clear()
    checker.look()
    assert checker.verdicts.unhealthy == frozenset()
    checker.close()
