"""Small HTTP servers to call through a gateway, with an orderly end, and somebody who calls them at a steady rate."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TIMEOUT_S = 20.0


class Backend:
    """A server that answers every request with its name and the path it saw, and keeps connections alive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.served = 0
        self._connections: set[socket.socket] = set()
        self._stopped = False
        self._lock = lock = threading.Lock()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with lock:
                    backend._connections.add(self.connection)
                    if backend._stopped:  # accepted at the last moment
                        self.connection.shutdown(socket.SHUT_RD)

            def finish(self) -> None:
                with lock:
                    backend._connections.discard(self.connection)
                super().finish()

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                body = f"{name} {self.command} {self.path} {length}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                with lock:
                    backend.served += 1

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End as a good server does: no new connections, answers under way are finished, idle ones are closed."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            self._stopped = True
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                pass


def get(url: str, path: str, *, host: str | None = None, method: str = "GET", body: bytes = b"") -> tuple[int, str]:
    """Make one request on a connection of its own."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body=body or None, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


@dataclass
class Load:
    """Requests at a steady rate, from so many connections that are kept alive. A late one is made, not left out."""

    url: str
    path: str
    per_second: float = 200.0
    callers: int = 12
    made: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _local: threading.local = field(default_factory=threading.local)
    _connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run)
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._began
        for connection in self._connections:
            connection.close()

    def _run(self) -> None:
        due = time.monotonic()
        with ThreadPoolExecutor(self.callers) as pool:
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due += 1 / self.per_second
                pool.submit(self._once)

    def _once(self) -> None:
        connection = self._connection()
        failure, name = "", ""
        try:
            connection.request("GET", self.path)
            response = connection.getresponse()
            body = response.read().decode()
            name = body.split(" ")[0]
            if response.status != 200:
                failure = f"status {response.status}: {body[:80]}"
        except (OSError, http.client.HTTPException) as error:
            failure = f"{type(error).__name__}: {error}"
            connection.close()  # and opened again by the next request
        with self._lock:
            self.made += 1
            if failure:
                self.failures.append((time.monotonic() - self._began, failure))
            else:
                self.by[name] += 1

    def _connection(self) -> http.client.HTTPConnection:
        """Return the connection of this thread."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=TIMEOUT_S)
            self._connections.append(self._local.connection)
        return self._local.connection  # type: ignore[no-any-return]
