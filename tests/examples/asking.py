"""Asking an application in this process, and small providers that really listen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from starlette.applications import Starlette

from waypost.wire.endpoint import Endpoint

CEILING_S = 30.0


def ask(app: Starlette, *paths: str, method: str = "GET") -> list[httpx.Response]:
    """Start the application, ask it for each path, and end it."""

    async def asked() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            return [await client.request(method, path, timeout=CEILING_S) for path in paths]

    return asyncio.run(asked())


@contextmanager
def serving(body: bytes, status: int = 200, held_by: threading.Event | None = None) -> Iterator[Endpoint]:
    """A server that gives everybody who asks for /data the same answer, once `held_by` is set."""

    class Handler(BaseHTTPRequestHandler):
        timeout = CEILING_S

        def do_GET(self) -> None:
            if held_by is not None:
                held_by.wait(CEILING_S)
            try:
                self.send_response(status if self.path == "/data" else 404)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # who asked has gone

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Endpoint(address="127.0.0.1", port=server.server_address[1])
        finally:
            if held_by is not None:
                held_by.set()
            server.shutdown()
            thread.join()
